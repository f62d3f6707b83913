from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.makers import INFO
from tests.tiny import tiny_config
from tests.training.recorded import recorded_store
from worldmodel.data import EpisodeStorage
from worldmodel.data.clips import pixel_statistics, sample_frames
from worldmodel.data.regroup import regroup
from worldmodel.tokenizer import CodebookConfig, FrameVQVAEConfig, HierarchicalVQVAEConfig, build, preset
from worldmodel.tokenizer.files import load_tokenizer
from worldmodel.training.fit import LoopConfig
from worldmodel.training.train_tokenizer import TokenizerTraining, check_matches, dead_codes, train_tokenizer

CONFIG = TokenizerTraining(
    model=tiny_config().tokenizer,
    loop=LoopConfig(steps=30, batch_size=16, learning_rate=3e-3, warmup=5, evaluate_every=15, save_every=15),
    validation_steps=32,
)

FRAMES = replace(
    CONFIG,
    model=FrameVQVAEConfig(
        height=16,
        width=16,
        frames_per_step=2,
        stage_widths=(8, 8),
        residual_units=8,
        codebook=CodebookConfig(num_codes=16, num_slices=2, code_dim=4),
    ),
)
LEVELS = replace(
    CONFIG,
    model=HierarchicalVQVAEConfig(
        height=16,
        width=16,
        clip_steps=2,
        stage_widths=(8, 12),
        residual_blocks=1,
        codebook=CodebookConfig(num_codes=16, num_slices=1, code_dim=4),
    ),
    loop=replace(CONFIG.loop, batch_size=4),
)


@pytest.fixture
def store(tmp_path):
    return recorded_store(tmp_path / "data", lengths=(40,) * 30)


@pytest.mark.parametrize("muon", [False, True])
def test_the_trained_tokenizer_loads_and_knows_its_data(tmp_path, store, muon):
    scores = train_tokenizer(tmp_path / "data", tmp_path / "run", replace(CONFIG, muon=muon))
    tokenizer = load_tokenizer(tmp_path / "run" / "best")
    mean, variance = pixel_statistics(store)
    assert tokenizer.config.data_mean == mean and tokenizer.config.data_variance == variance
    assert scores["nmse"] < 0.85 and scores["psnr"] > 0 and 1 <= scores["perplexity"] <= 16
    assert (tmp_path / "run" / "last" / "model.safetensors").exists()


@pytest.mark.parametrize(("config", "slices"), [(FRAMES, 4), (LEVELS, 9)], ids=["frame-vqvae", "hierarchical-vqvae"])
def test_tokenizers_of_the_other_papers_are_trained_and_loaded(tmp_path, config, slices):
    recorded_store(tmp_path / "recorded", lengths=(40,) * 30)
    store = EpisodeStorage(
        regroup(EpisodeStorage(tmp_path / "recorded"), tmp_path / "data", config.model.frames_per_step)
    )
    scores = train_tokenizer(store, tmp_path / "run", config)
    tokenizer = load_tokenizer(tmp_path / "run" / "best")
    assert tokenizer.config.net == config.model.net and tokenizer.config.data_mean == pixel_statistics(store)[0]
    frames = sample_frames(store, 2, np.random.default_rng(0), "train", 3)
    assert tokenizer.encode(frames).shape == (2, 3, *tokenizer.grid, slices)
    assert scores["nmse"] < 0.9 and 1 <= scores["perplexity"] <= 16
    assert type(tokenizer).__name__ in (tmp_path / "run" / "best" / "README.md").read_text()


def test_a_gray_scale_store_trains(tmp_path):
    store = recorded_store(tmp_path / "gray", lengths=(40,) * 30, channels=1)
    config = replace(CONFIG, model=replace(CONFIG.model, channels=1))
    assert train_tokenizer(tmp_path / "gray", tmp_path / "run", config)["nmse"] < 0.9
    tokenizer = load_tokenizer(tmp_path / "run" / "best")
    assert tokenizer.config.data_mean == pixel_statistics(store)[0] and len(tokenizer.config.data_mean) == 1
    frames = sample_frames(store, 2, np.random.default_rng(0), "train")
    assert tokenizer.decode(tokenizer.encode(frames)).shape == frames.shape == (2, 1, 2, 16, 16, 1)


@pytest.mark.parametrize("temporal", ["causal", "clip"])
def test_modes_that_look_at_other_steps_are_trained_on_clips(tmp_path, store, temporal):
    model = replace(CONFIG.model, temporal=temporal, clip_steps=5, stage_widths=(8, 8, 12))
    config = replace(CONFIG, model=model, loop=replace(CONFIG.loop, batch_size=4))
    scores = train_tokenizer(tmp_path / "data", tmp_path / "run", config)
    tokenizer = load_tokenizer(tmp_path / "run" / "best")
    assert tokenizer.encode(sample_frames(store, 2, np.random.default_rng(0), "train", 5)).shape == (2, 5, 2, 2, 2)
    assert scores["nmse"] < 1.0 and 1 <= scores["perplexity"] <= 16
    card = (tmp_path / "run" / "best" / "README.md").read_text()
    learned = sum(store.lengths[episode] for episode in store.split("train").tolist())
    assert f"Trained on {learned} steps" in card and "clips of 5 steps" in card


@pytest.mark.parametrize("config", [CONFIG, FRAMES], ids=["vqvae", "frame-vqvae"])
def test_resumed_training_equals_unbroken_training(tmp_path, store, monkeypatch, config):
    config = replace(config, loop=replace(config.loop, steps=8, evaluate_every=4, save_every=4))
    train_tokenizer(tmp_path / "data", tmp_path / "unbroken", config)
    from worldmodel.training import train_tokenizer as module

    whole, calls = module.sample_frames, []

    def dying(*args):
        calls.append(args)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(module, "sample_frames", dying)
    with pytest.raises(KeyboardInterrupt):
        train_tokenizer(tmp_path / "data", tmp_path / "killed", config)
    monkeypatch.setattr(module, "sample_frames", whole)
    train_tokenizer(tmp_path / "data", tmp_path / "killed", config)
    ends = [load_tokenizer(tmp_path / name / "last").state_dict() for name in ("unbroken", "killed")]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


def test_frames_of_another_size_are_refused_before_training(tmp_path, store):
    wrong = replace(CONFIG, model=replace(CONFIG.model, height=32))
    with pytest.raises(ValueError, match=r"\(2, 16, 16, 3\).*\(2, 32, 16, 3\)"):
        train_tokenizer(tmp_path / "data", tmp_path / "run", wrong)
    assert not (tmp_path / "run").exists()


def test_training_continues_from_an_earlier_tokenizer_and_its_pixel_scale(tmp_path, store):
    train_tokenizer(tmp_path / "data", tmp_path / "first", replace(CONFIG, loop=replace(CONFIG.loop, steps=4)))
    other = recorded_store(tmp_path / "other", lengths=(40,) * 30, pace=5)
    still = replace(CONFIG, loop=replace(CONFIG.loop, steps=2, learning_rate=1e-9))
    start = tmp_path / "first"  # is resolved to its best checkpoint
    train_tokenizer(tmp_path / "other", tmp_path / "second", still, start_from=start)
    first, second = load_tokenizer(start), load_tokenizer(tmp_path / "second" / "last")
    assert second.config == first.config and first.config.data_mean != pixel_statistics(other)[0]
    weights = dict(second.named_parameters())
    assert all(torch.allclose(weight, weights[name], atol=1e-6) for name, weight in first.named_parameters())
    assert second.codebook.started


def test_a_tokenizer_is_trained_further_with_another_rate_weight(tmp_path, store):
    short = replace(CONFIG, loop=replace(CONFIG.loop, steps=2))
    train_tokenizer(tmp_path / "data", tmp_path / "first", short)
    weighted = replace(short.model, codebook=replace(short.model.codebook, rate_weight=0.2))
    still = replace(CONFIG, model=weighted, loop=replace(CONFIG.loop, steps=2, learning_rate=1e-9))
    train_tokenizer(tmp_path / "data", tmp_path / "second", still, start_from=tmp_path / "first")
    first, second = (load_tokenizer(tmp_path / name / "last") for name in ("first", "second"))
    assert second.config.codebook.rate_weight == second.codebook.config.rate_weight == 0.2
    weights = dict(second.named_parameters())
    assert all(torch.allclose(weight, weights[name], atol=1e-6) for name, weight in first.named_parameters())


def test_a_run_with_another_start_is_not_resumed_and_another_model_is_refused_as_a_start(tmp_path, store):
    short = replace(CONFIG, loop=replace(CONFIG.loop, steps=2))
    train_tokenizer(tmp_path / "data", tmp_path / "first", short)
    start = tmp_path / "first" / "best"
    train_tokenizer(tmp_path / "data", tmp_path / "second", short, start_from=start)
    train_tokenizer(tmp_path / "data", tmp_path / "second", short, start_from=start)
    with pytest.raises(ValueError, match="other settings"):
        train_tokenizer(tmp_path / "data", tmp_path / "second", short, start_from=tmp_path / "second" / "best")
    smaller = replace(short, model=replace(short.model, residual_units=4))
    with pytest.raises(ValueError, match=r"residual_units=8.*wanted .*residual_units=4"):
        train_tokenizer(tmp_path / "data", tmp_path / "third", smaller, start_from=start)
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    ("model", "changes", "advice"),
    [
        ("doom-tiny", {"height": 24}, "heights that are multiples of 16 and widths of 16"),
        ("doom-tiny", {"height": 32}, "--model.height 32"),
        ("doom-small", {"height": 24}, "heights that are multiples of 16"),
        ("lvt-small", {"frames_per_step": 4}, r"are \(4, 64, 64, 3\).* model's \(2, .*: --model.frames-per-step 4$"),
        ("lvt-paper", {"height": 62}, "heights that are multiples of 4 and widths of 4"),
        ("lvt-small", {"height": 60}, "heights that are multiples of 8 and widths of 8"),
        ("pixelcnn-small", {}, r"are \(2, .* model's \(4, .* collect with --env-kwargs frames_per_step=4, .*regroup"),
        ("pixelcnn-small", {"frames_per_step": 4, "height": 60}, "heights that are multiples of 8 and widths of 8"),
        ("pixelcnn-paper", {"frames_per_step": 4}, ": --model.height 64 --model.width 64$"),
    ],
)
def test_episodes_of_another_size_lead_to_a_helpful_hint(tmp_path, model, changes, advice):
    store = EpisodeStorage.create(tmp_path, replace(INFO, **{"height": 64, "width": 64} | changes))
    with pytest.raises(ValueError, match=advice):
        check_matches(store, preset(model))


def test_a_start_from_a_tokenizer_of_another_kind_is_refused(tmp_path, store):
    train_tokenizer(tmp_path / "data", tmp_path / "first", replace(CONFIG, loop=replace(CONFIG.loop, steps=1)))
    with pytest.raises(ValueError, match="is a vqvae, wanted a frame-vqvae"):
        train_tokenizer(tmp_path / "data", tmp_path / "second", FRAMES, start_from=tmp_path / "first")
    assert not (tmp_path / "second").exists()


def test_presets_of_the_papers_bring_their_training():
    for name, steps, batch in (("lvt-paper", 500_000, 32), ("pixelcnn-paper", 1_000_000, 16)):
        training = TokenizerTraining.of_preset(name)
        assert (training.loop.steps, training.loop.batch_size, training.muon) == (steps, batch, False)
        assert training.loop.learning_rate == 3e-4 and training.model == preset(name)


@pytest.mark.parametrize("name", ["clip-small", "causal-small"])
def test_a_batch_of_clips_has_as_many_steps_as_one_of_single_steps(name):
    clips, usual = TokenizerTraining.of_preset(name), TokenizerTraining()
    assert clips.loop.batch_size * clips.model.piece_steps == usual.loop.batch_size * usual.model.piece_steps


PATCHED = replace(
    CONFIG.model, patch=2, stage_widths=(8, 8), codebook=CodebookConfig(num_codes=16, num_slices=1, code_dim=4)
)


@pytest.mark.parametrize(
    ("config", "books"),
    [(CONFIG.model, (0, 1)), (PATCHED, (0,) * 4), (FRAMES.model, (0, 1, 0, 1)), (LEVELS.model, (0, *[1] * 8))],
    ids=["slices", "patches", "frames", "levels"],
)
def test_a_code_is_dead_if_no_slice_of_its_codebook_uses_it(config, books):
    model = build(config)
    assert model.books == books
    every = torch.arange(16)[:, None].expand(-1, model.num_slices)
    parts = model.lookup(every).unflatten(-1, (model.num_slices, -1)).unbind(1)  # the vectors of each slice
    for book, part in zip(books, parts, strict=True):
        assert [torch.equal(part, other) for other in parts] == [book == other for other in books]
    codes = torch.arange(model.num_slices).expand(2, 3, *model.grid, -1)  # slice m has code m in all places
    assert dead_codes(model, codes) == 16 - len(books) / len(set(books))

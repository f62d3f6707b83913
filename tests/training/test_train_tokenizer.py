from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.makers import INFO
from tests.tiny import tiny_config
from tests.training.recorded import recorded_store
from worldmodel.data import EpisodeStorage
from worldmodel.data.clips import pixel_statistics, sample_frames
from worldmodel.tokenizer import VQVAEConfig
from worldmodel.tokenizer.files import load_tokenizer
from worldmodel.training.fit import LoopConfig
from worldmodel.training.train_tokenizer import TokenizerTraining, check_matches, train_tokenizer

CONFIG = TokenizerTraining(
    model=tiny_config().tokenizer,
    loop=LoopConfig(steps=30, batch_size=16, learning_rate=3e-3, warmup=5, evaluate_every=10, save_every=10),
    validation_steps=32,
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
    assert "clips of 5 steps" in (tmp_path / "run" / "best" / "README.md").read_text()


def test_resumed_training_equals_unbroken_training(tmp_path, store, monkeypatch):
    train_tokenizer(tmp_path / "data", tmp_path / "unbroken", CONFIG)
    from worldmodel.training import train_tokenizer as module

    whole, calls = module.sample_frames, []

    def dying(*args):
        calls.append(args)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(module, "sample_frames", dying)
    with pytest.raises(KeyboardInterrupt):
        train_tokenizer(tmp_path / "data", tmp_path / "killed", CONFIG)
    monkeypatch.setattr(module, "sample_frames", whole)
    train_tokenizer(tmp_path / "data", tmp_path / "killed", CONFIG)
    ends = [load_tokenizer(tmp_path / name / "last").state_dict() for name in ("unbroken", "killed")]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


def test_frames_of_another_size_are_refused_before_training(tmp_path, store):
    wrong = replace(CONFIG, model=replace(CONFIG.model, height=32))
    with pytest.raises(ValueError, match=r"\(2, 16, 16, 3\).*\(2, 32, 16, 3\)"):
        train_tokenizer(tmp_path / "data", tmp_path / "run", wrong)
    assert not (tmp_path / "run").exists()


def test_training_goes_on_from_an_earlier_tokenizer_and_its_scale_of_pixels(tmp_path, store):
    train_tokenizer(tmp_path / "data", tmp_path / "first", replace(CONFIG, loop=replace(CONFIG.loop, steps=4)))
    other = recorded_store(tmp_path / "other", lengths=(40,) * 30, pace=5)
    still = replace(CONFIG, loop=replace(CONFIG.loop, steps=2, learning_rate=1e-9))
    start = tmp_path / "first"  # stands for the best in it
    train_tokenizer(tmp_path / "other", tmp_path / "second", still, start_from=start)
    first, second = load_tokenizer(start), load_tokenizer(tmp_path / "second" / "last")
    assert second.config == first.config and first.config.data_mean != pixel_statistics(other)[0]
    weights = dict(second.named_parameters())
    assert all(torch.allclose(weight, weights[name], atol=1e-6) for name, weight in first.named_parameters())
    assert second.codebook.started


def test_a_tokenizer_of_another_start_is_not_continued_and_another_model_is_no_start(tmp_path, store):
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
    ("changes", "advice"),
    [({"height": 24}, "heights that are multiples of 16 and widths of 16"), ({"height": 32}, "--model.height 32")],
)
def test_play_of_another_size_is_met_with_what_helps(tmp_path, changes, advice):
    store = EpisodeStorage.create(tmp_path, replace(INFO, width=64, **changes))
    with pytest.raises(ValueError, match=advice):
        check_matches(store, VQVAEConfig())


@pytest.mark.parametrize("name", ["videogen-2x4x4", "videogen-2x2x2", "bair-paper", "public-4x4x4"])
def test_the_papers_tokenizers_are_trained_as_in_the_paper(name):
    training = TokenizerTraining.of_preset(name)
    loop = training.loop
    assert (loop.steps, loop.batch_size, loop.learning_rate, loop.final_share) == (100_000, 32, 7e-4, 1.0)
    assert loop.weight_decay == 0.0 and not training.muon
    assert TokenizerTraining.of_preset("doom-small").loop == TokenizerTraining().loop

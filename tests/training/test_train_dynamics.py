import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.clips import CLIP, clip_config, clip_tokenizer
from tests.tiny import tiny_config, tiny_world
from tests.training.recorded import recorded_store
from worldmodel.data import EpisodeStorage
from worldmodel.data.user_video.importer import import_video
from worldmodel.dynamics import FrameEncoderConfig, GPTConfig, HeadsConfig
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.evaluation.metrics import best_f1_threshold
from worldmodel.evaluation.scores import predictions
from worldmodel.layers.precision import autocast
from worldmodel.model import WorldModel
from worldmodel.tokenizer import VQVAE
from worldmodel.tokenizer.build import build
from worldmodel.tokenizer.files import save_tokenizer
from worldmodel.training import fit as loop
from worldmodel.training.code_segments import split_codes
from worldmodel.training.data_checks import check_limit
from worldmodel.training.encode_store import encode_store
from worldmodel.training.fit import LoopConfig
from worldmodel.training.train_dynamics import DynamicsTraining, score_dynamics, train_dynamics

CONFIG = DynamicsTraining(
    model=tiny_config().dynamics,
    heads=tiny_config({"read_signals": True}).heads,
    loop=LoopConfig(steps=12, batch_size=8, learning_rate=3e-3, warmup=2, evaluate_every=6, save_every=6),
    segment=6,
    num_starts=7,
    start_steps=3,
    validation_segments=16,
)


@pytest.fixture
def store(tmp_path):
    save_tokenizer(tmp_path / "tokenizer", tiny_world().tokenizer)
    return recorded_store(tmp_path / "data", lengths=(40, 9, 3, 17) * 8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data, tokenizer and a finished run of CONFIG, the store, and its scores, to be read only."""
    folder = tmp_path_factory.mktemp("trained")
    save_tokenizer(folder / "tokenizer", tiny_world().tokenizer)
    store = recorded_store(folder / "data", lengths=(40, 9, 3, 17) * 8)
    return folder, store, train_dynamics(folder / "data", folder / "tokenizer", folder / "run", CONFIG)


def test_segments_longer_than_the_context_are_refused():
    with pytest.raises(ValueError, match="segment must be at most 7"):
        DynamicsTraining(model=replace(CONFIG.model, order="raster", position="learned", window=8), segment=16)


@pytest.mark.parametrize("name", ["num_starts", "start_steps", "validation_segments"])
def test_sizes_that_would_fail_at_the_end_are_refused_at_the_start(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        replace(CONFIG, **{name: 0})


def test_a_frame_conditioned_model_trains_and_makes_video_without_frames(tmp_path, store):
    encoder = FrameEncoderConfig(width=4, depths=(1, 1))
    model = replace(CONFIG.model, frame_condition=1, frame_encoder=encoder, drop_frames=0.5, learn_start=True)
    train_dynamics(tmp_path / "data", tmp_path / "tokenizer", tmp_path / "run", replace(CONFIG, model=model))
    world = WorldModel.from_pretrained(tmp_path / "run" / "best")
    actions = torch.zeros(2, 3, dtype=torch.int64)
    assert world.sample(2, 4, actions=actions).frames.shape == (2, 4, 2, 16, 16, 3)
    envs = DreamVectorEnv(6, world)
    envs.reset(seed=0)
    envs.step(np.zeros(6, np.int64))


def test_the_trained_world_loads_dreams_and_knows_its_game(trained):
    folder, store, scores = trained
    world = WorldModel.from_pretrained(folder / "run" / "best")
    assert world.config.env_id == store.info.env_id and world.config.reward == "health"
    assert world.config.action == store.info.action and world.config.signal_names == ("HEALTH",)
    assert len(world.starts.codes) == 4 and len(world.starts.first.codes) == 3
    assert 0 < scores["bits_per_code"] < 4.5 and scores["shuffled_action_ratio"] > 0
    assert 0 < world.heads.threshold < 1
    lengths = [store.lengths[episode] for episode in store.split("train").tolist()]  # what is held out is not learned
    learned = f"Learned from {sum(lengths)} recorded steps in {len(lengths)} episodes;"
    assert learned in (folder / "run" / "best" / "README.md").read_text()
    state = world.start_codes(world.starts.codes, world.starts.actions, world.starts.signals[:, -1])
    world.step(state, torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize(
    "changes", [{}, {"subscale": (2, 2, 2), "clip_frames": 8, "kernel": (3, 3, 3)}], ids=["frame", "clip"]
)
def test_a_latent_video_transformer_trains_and_makes_video(tmp_path, store, changes):
    model = tiny_config(net="subscale", training_slices=2, drop_actions=0.5, **changes).dynamics
    config = replace(CONFIG, model=model, segment=None)
    scores = train_dynamics(tmp_path / "data", tmp_path / "tokenizer", tmp_path / "run", config)
    assert scores["codes"] < math.log(16)
    world = WorldModel.from_pretrained(tmp_path / "run" / "best", dtype=torch.float32)
    frames, actions = np.zeros((2, 1, 2, 16, 16, 3), np.uint8), torch.zeros(2, 3, dtype=torch.int64)
    assert world.sample(2, 4, frames, actions).frames.shape == (2, 4, 2, 16, 16, 3)
    assert (world.starts is None) == bool(changes)  # models of clips cannot dream
    if not changes:
        envs = DreamVectorEnv(6, world)
        envs.reset(seed=0)
        envs.step(np.zeros(6, np.int64))


def test_adaptive_output_takes_the_frequencies_of_the_codes_it_trains_on(tmp_path, store):
    model = tiny_config(net="subscale", code_input="adaptive", code_output="adaptive-tied").dynamics
    train_dynamics(tmp_path / "data", tmp_path / "tokenizer", tmp_path / "run", replace(CONFIG, model=model))
    world = WorldModel.from_pretrained(tmp_path / "run" / "best", dtype=torch.float32)
    codes = encode_store(store, world.tokenizer, tmp_path / "run" / "codes.safetensors")
    train = torch.cat([codes[episode].flatten() for episode in store.split("train").tolist()])
    counts = train.long().bincount(minlength=16)
    assert (counts[world.dynamics.order.code].diff() <= 0).all()
    assert counts.max() > counts.min()
    few, more = world.config.dynamics.cutoffs
    assert counts.sort(descending=True).values[:few].sum() >= 0.8 * counts.sum() or (few, more) == (14, 15)


def test_a_segment_of_another_length_than_the_clips_is_refused_before_coding(tmp_path, store):
    model = tiny_config(net="subscale", subscale=(2, 2, 2), clip_frames=8).dynamics
    with pytest.raises(ValueError, match="a segment is one clip of 8 latent frames, 3 steps after the first, got"):
        train_dynamics(tmp_path / "data", tmp_path / "tokenizer", tmp_path / "run", replace(CONFIG, model=model))
    assert not (tmp_path / "run").exists()


def test_dynamics_of_another_class_are_refused_as_a_start(tmp_path, store):
    world = tiny_world().save_pretrained(tmp_path / "world")
    config = replace(CONFIG, model=tiny_config(net="subscale").dynamics)
    with pytest.raises(ValueError, match="the world model to start from"):
        train_dynamics(tmp_path / "data", tmp_path / "tokenizer", tmp_path / "run", config, start_from=world)


def test_validation_scores_are_those_of_the_saved_weights(tmp_path, store):
    """Also those large enough to be multiplied in an order of the processor's own, and changed since the last time."""
    model = replace(CONFIG.model, width=128, code_head_width=128)
    training = replace(CONFIG.loop, learning_rate=1e-2, evaluate_every=4)
    config = replace(CONFIG, model=model, loop=training)
    scores = train_dynamics(tmp_path / "data", tmp_path / "tokenizer", tmp_path / "run", config)
    world = WorldModel.from_pretrained(tmp_path / "run" / "last", dtype=torch.float32).requires_grad_(True)
    codes = encode_store(store, world.tokenizer, tmp_path / "again.safetensors")
    held_out = split_codes(store, codes, "validation", world.config.tokenizer).batch(16, 6, np.random.default_rng(1))
    with torch.inference_mode(), autocast("cpu"):
        again = score_dynamics(world, held_out)
    assert again["codes"] == pytest.approx(scores["codes"], rel=0.02)  # the codes themselves are of another dtype


def test_an_ends_probability_and_the_signals_range_are_those_of_the_recorded_play(trained):
    folder, store, _ = trained
    world = WorldModel.from_pretrained(folder / "run" / "last", dtype=torch.float32)
    codes = encode_store(store, world.tokenizer, folder / "run" / "codes.safetensors")
    train, validation = (split_codes(store, codes, split, world.config.tokenizer) for split in ("train", "validation"))
    with autocast(world.device):
        _, _, probability, ended = predictions(world, validation.every_step(6))
    assert world.heads.end_shift != 0 and ended.any()
    assert probability.sum().item() == pytest.approx(int(ended.sum()), rel=0.01)
    assert world.heads.threshold.item() == pytest.approx(best_f1_threshold(probability, ended), rel=1e-5)
    assert world.heads.signal_low.tolist() == train.signals.amin(0).tolist() == [0.0]
    assert world.heads.signal_high.tolist() == train.signals.amax(0).tolist() == [100.0]


def test_without_an_end_in_validation_its_probability_stays_as_it_is(tmp_path):
    save_tokenizer(tmp_path / "tokenizer", tiny_world().tokenizer)
    recorded_store(tmp_path / "data", lengths=(9,) * 20, terminated=False)
    train_dynamics(tmp_path / "data", tmp_path / "tokenizer", tmp_path / "run", CONFIG)
    heads = WorldModel.from_pretrained(tmp_path / "run" / "best").heads
    assert (heads.end_scale, heads.end_shift, heads.threshold) == (1.0, 0.0, 0.5)


def test_a_finished_training_called_again_calibrates_to_the_same(trained):
    folder = trained[0]
    weights = folder / "run" / "best" / "model.safetensors"  # which the second call does not rewrite
    once = weights.read_bytes()
    train_dynamics(folder / "data", folder / "tokenizer", folder / "run", CONFIG)
    assert weights.read_bytes() == once


def test_the_tokenizer_is_kept_bit_for_bit(trained):
    kept = WorldModel.from_pretrained(trained[0] / "run" / "last", dtype=torch.float32).tokenizer.state_dict()
    given = tiny_world().tokenizer.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in given.items())


def test_a_run_of_another_tokenizer_is_not_continued(tmp_path, trained):
    folder = trained[0]
    save_tokenizer(tmp_path / "other", tiny_world(seed=1).tokenizer)
    with pytest.raises(ValueError, match=r"other settings \(codes is"):
        train_dynamics(folder / "data", tmp_path / "other", folder / "run", CONFIG)


def test_a_tokenizer_for_other_frames_is_refused_before_training(tmp_path, store):
    save_tokenizer(tmp_path / "big", VQVAE(replace(tiny_config().tokenizer, width=32)))
    with pytest.raises(ValueError, match=r"\(2, 16, 16, 3\).*\(2, 16, 32, 3\)"):
        train_dynamics(tmp_path / "data", tmp_path / "big", tmp_path / "run", CONFIG)


# --- clip and causal tokenizers


def clip_training(temporal: str = "clip", **dynamics) -> DynamicsTraining:
    loop_config = replace(CONFIG.loop, steps=4, evaluate_every=2, save_every=2)
    model = clip_config(temporal, **dynamics).dynamics
    if not model.frame_condition:
        model = replace(model, drop_frames=0.0)
    return replace(CONFIG, model=model, loop=loop_config, segment=None, clip_stride=4)


@pytest.fixture
def clip_data(tmp_path):
    """A function that writes a store and a tokenizer of this kind, and returns both paths."""

    def make(temporal):
        torch.manual_seed(0)
        save_tokenizer(tmp_path / "tokenizer", VQVAE(clip_tokenizer(temporal)).eval())
        recorded_store(tmp_path / "data", lengths=(20, 9, 2, 17) * 6)
        return tmp_path / "data", tmp_path / "tokenizer"

    return make


@pytest.mark.parametrize("temporal", ["clip", "causal"])
def test_a_prior_of_clips_trains_and_makes_video(tmp_path, clip_data, capsys, temporal):
    config = clip_training(temporal, frame_condition=1)
    scores = train_dynamics(*clip_data(temporal), tmp_path / "run", config)
    assert 0 < scores["bits_per_code"] < 4.5 and scores["shuffled_action_ratio"] > 0
    assert "training episodes are shorter than a clip and are left out" in capsys.readouterr().out
    world = WorldModel.from_pretrained(tmp_path / "run" / "best")
    assert world.starts is None and 0 < world.heads.threshold < 1
    assert world.sample(2, 6, actions=torch.zeros(2, 5, dtype=torch.int64)).frames.shape == (2, 6, 2, 16, 16, 3)


@pytest.mark.parametrize("changes", [{}, {"own_draws": 0.5, "own_draws_passes": 2, "token_noise": 0.1}])
def test_an_interrupted_prior_of_clips_ends_with_the_weights_of_an_unbroken_one(tmp_path, clip_data, changes):
    paths, config = clip_data("clip"), clip_training(order="raster", **changes)
    train_dynamics(*paths, tmp_path / "whole", config)
    save = loop.save_state

    def save_and_die(*state):
        save(*state)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "save_state", save_and_die)  # at step 2 of 4
        train_dynamics(*paths, tmp_path / "broken", config)
    train_dynamics(*paths, tmp_path / "broken", config)
    whole, broken = (WorldModel.from_pretrained(tmp_path / name / "last").state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], tensor) for name, tensor in broken.items())


def test_the_default_segment_fits_the_tokenizer_and_the_context():
    single, default = tiny_config().tokenizer, DynamicsTraining()
    assert default.segment_steps(single) == 16
    short = replace(clip_config(max_steps=6, window=8).dynamics, drop_frames=0.0)
    assert replace(default, model=short).segment_steps(single) == 5
    assert clip_training().segment_steps(clip_tokenizer()) == CLIP - 1
    assert replace(clip_training(), segment=CLIP - 1).segment_steps(clip_tokenizer("causal")) == CLIP - 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segment": 2}, "one clip of this tokenizer, 3 steps after the first, got segment 2"),
        ({"max_steps": 3}, "4 inputs, which must fit into window 4 and max_steps 3"),
        ({"position": "rotary-time", "window": 3}, "window 3 and max_steps 4; set both to at least 4"),
        ({"learn_start": False}, "learns how a clip begins"),
        ({"position": "rotary-time", "frame_condition": 4}, "longer than the frame_condition of 4"),
    ],
)
def test_training_that_does_not_suit_the_clips_is_refused(changes, message):
    config = replace(clip_training(), segment=changes.pop("segment", None))
    with pytest.raises(ValueError, match=message):
        replace(config, model=replace(config.model, **changes)).segment_steps(clip_tokenizer())


def test_dynamics_and_heads_are_trained_further_on_the_codes_of_a_new_tokenizer(tmp_path, store):
    where = (tmp_path / "data", tmp_path / "tokenizer")
    train_dynamics(*where, tmp_path / "first", replace(CONFIG, loop=replace(CONFIG.loop, steps=4)))
    config = tiny_world().tokenizer.config
    other = build(replace(config, codebook=replace(config.codebook, rate_weight=0.2)))
    save_tokenizer(tmp_path / "other", other)
    still = replace(CONFIG, loop=replace(CONFIG.loop, steps=2, learning_rate=1e-9))
    start = tmp_path / "first"  # is resolved to its best checkpoint
    train_dynamics(where[0], tmp_path / "other", tmp_path / "second", still, start_from=start)
    folders = (start / "best", tmp_path / "second" / "last")
    first, second = (WorldModel.from_pretrained(folder, dtype=torch.float32) for folder in folders)
    for part in ("dynamics", "heads"):
        weights = dict(getattr(second, part).named_parameters())
        assert weights
        for name, weight in getattr(first, part).named_parameters():
            assert torch.allclose(weight, weights[name], atol=1e-6), name
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in second.tokenizer.state_dict().items())
    with pytest.raises(ValueError, match="other settings"):
        train_dynamics(where[0], tmp_path / "other", tmp_path / "second", still)


@pytest.mark.parametrize("field", ["segment", "start_steps"])
def test_segments_longer_than_any_episode_are_refused_before_coding(tmp_path, store, field):
    with pytest.raises(ValueError, match=f"{field} must be at most the 40 steps of the longest .*episode, got 41"):
        train_dynamics(tmp_path / "data", tmp_path / "tokenizer", tmp_path / "run", replace(CONFIG, **{field: 41}))
    assert not (tmp_path / "run").exists()


def test_starts_shorter_than_the_first_frames_that_a_dream_needs_are_refused_before_coding(tmp_path, store):
    encoder = FrameEncoderConfig(width=4, depths=(1, 1))
    model = replace(CONFIG.model, frame_condition=2, frame_encoder=encoder)
    config = replace(CONFIG, model=model, start_steps=1)
    with pytest.raises(ValueError, match=r"start_steps must be at least the frame_condition of 2 steps .* got 1"):
        train_dynamics(tmp_path / "data", tmp_path / "tokenizer", tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_episodes_without_actions_lead_to_a_hint_about_suitable_options(tmp_path, capsys):
    world = tiny_world()
    save_tokenizer(tmp_path / "tokenizer", world.tokenizer)
    frames = np.zeros((13, 16, 16, 3), np.uint8)
    np.save(tmp_path / "v.npy", frames)
    import_video([tmp_path / "v.npy"] * 20, tmp_path / "data", fps=6)
    short = replace(CONFIG, loop=replace(CONFIG.loop, steps=1))
    for condition in ("step", "none"):
        model = replace(CONFIG.model, action_condition=condition, learn_start=True)
        train_dynamics(tmp_path / "data", tmp_path / "tokenizer", tmp_path / condition, replace(short, model=model))
        assert WorldModel.from_pretrained(tmp_path / condition).config.steps_per_second == 3.0
        assert ("--model.action-condition none" in capsys.readouterr().out) == (condition == "step")


def test_a_store_without_episodes_is_refused(tmp_path, store):
    EpisodeStorage.create(tmp_path / "none", store.info)
    with pytest.raises(ValueError, match="the train split of 0 episodes is empty"):
        train_dynamics(tmp_path / "none", tmp_path / "tokenizer", tmp_path / "run", CONFIG)


def test_rewards_beyond_the_heads_limit_are_reported(store, capsys):
    episodes = [int(e) for e in store.split("train")]
    largest = max(np.abs(store.rewards(e)).max() for e in episodes)
    jump = max(np.abs(np.diff(store.signals(e), axis=0)).max() for e in episodes)
    check_limit(store, max(largest, jump))
    assert not capsys.readouterr().out
    check_limit(store, 0.01)
    rewards, changes = capsys.readouterr().out.splitlines()
    assert f"rewards reach {largest:g} in this play; beyond heads.limit = 0.01" in rewards
    assert f"changes of HEALTH in a step reach {jump:g}" in changes and f"heads.limit = {math.ceil(jump)}" in changes


def test_a_world_with_another_config_is_refused_as_a_start(tmp_path, store):
    start = tiny_world(layers=3).save_pretrained(tmp_path / "start")
    with pytest.raises(ValueError, match=r"the world model to start from.*layers=3.*wanted .*layers=2"):
        train_dynamics(tmp_path / "data", tmp_path / "tokenizer", tmp_path / "run", CONFIG, start_from=start)


def test_a_world_is_trained_further_on_its_own_draws_and_with_a_longer_window(tmp_path, store):
    paths = tmp_path / "data", tmp_path / "tokenizer"
    train_dynamics(*paths, tmp_path / "first", replace(CONFIG, loop=replace(CONFIG.loop, steps=2)))
    changes = {"own_draws": 0.5, "own_draws_passes": 2, "token_noise": 0.1, "window": 6, "max_steps": 6}
    config = replace(CONFIG, model=replace(CONFIG.model, **changes), loop=replace(CONFIG.loop, steps=2))
    train_dynamics(*paths, tmp_path / "second", config, start_from=tmp_path / "first")
    assert WorldModel.from_pretrained(tmp_path / "second").config.dynamics == config.model


def test_a_checkerboard_is_added_to_a_world_and_changes_nothing_at_first(tmp_path, store):
    paths = tmp_path / "data", tmp_path / "tokenizer"
    train_dynamics(*paths, tmp_path / "first", replace(CONFIG, loop=replace(CONFIG.loop, steps=2)))
    still = replace(CONFIG.loop, steps=1, learning_rate=1e-12)
    config = replace(CONFIG, model=replace(CONFIG.model, checkerboard=True), loop=still)
    train_dynamics(*paths, tmp_path / "second", config, start_from=tmp_path / "first")
    first, second = (WorldModel.from_pretrained(tmp_path / name, dtype=torch.float32) for name in ("first", "second"))
    assert second.config.dynamics.checkerboard and not first.config.dynamics.checkerboard
    weights = second.dynamics.state_dict()
    for name, weight in first.dynamics.state_dict().items():
        assert torch.allclose(weights.pop(name), weight, atol=1e-6), name
    assert weights and all(weight.abs().max() < 1e-6 for weight in weights.values())
    with pytest.raises(ValueError, match=r"the world model to start from.*checkerboard=True.*wanted"):
        train_dynamics(*paths, tmp_path / "third", CONFIG, start_from=tmp_path / "second")


def test_layers_are_added_to_a_world_and_change_nothing_at_first_but_learn(tmp_path, store):
    paths = tmp_path / "data", tmp_path / "tokenizer"
    train_dynamics(*paths, tmp_path / "first", replace(CONFIG, loop=replace(CONFIG.loop, steps=2)))
    first = WorldModel.from_pretrained(tmp_path / "first", dtype=torch.float32)
    deeper = replace(CONFIG, model=replace(CONFIG.model, layers=CONFIG.model.layers + 1))
    still = replace(deeper, loop=replace(CONFIG.loop, steps=1, learning_rate=1e-12))
    train_dynamics(*paths, tmp_path / "still", still, start_from=tmp_path / "first")
    second = WorldModel.from_pretrained(tmp_path / "still", dtype=torch.float32)
    assert len(second.dynamics.blocks) == len(first.dynamics.blocks) + 1
    dreams = [DreamVectorEnv(3, world, "features", horizon=5) for world in (first, second)]
    np.testing.assert_allclose(*(envs.reset(seed=0)[0] for envs in dreams), atol=1e-5)
    np.testing.assert_allclose(*(envs.step(np.zeros(3, int))[0] for envs in dreams), atol=1e-5)
    moving = replace(deeper, loop=replace(CONFIG.loop, steps=3))
    train_dynamics(*paths, tmp_path / "moving", moving, start_from=tmp_path / "first")
    third = WorldModel.from_pretrained(tmp_path / "moving" / "last", dtype=torch.float32)
    assert all(weight.abs().max() > 1e-4 for weight in third.dynamics.blocks[-1].parameters() if weight.ndim == 2)


def test_a_world_learns_to_draw_its_ends_and_can_go_back_to_reading_them(tmp_path, store):
    paths = tmp_path / "data", tmp_path / "tokenizer"
    few = replace(CONFIG, loop=replace(CONFIG.loop, steps=3))
    train_dynamics(*paths, tmp_path / "read", few, start_from=None)
    drawn = replace(few, heads=HeadsConfig(ends="drawn"))  # the rest as the earlier world has it
    train_dynamics(*paths, tmp_path / "drawn", drawn, start_from=tmp_path / "read")
    heads = WorldModel.from_pretrained(tmp_path / "drawn" / "last").heads
    assert heads.config == replace(few.heads, ends="drawn") and few.heads != HeadsConfig()
    assert all(weight.any() for weight in heads.ahead.parameters())
    train_dynamics(*paths, tmp_path / "again", few, start_from=tmp_path / "drawn")
    assert WorldModel.from_pretrained(tmp_path / "again" / "last").heads.ahead is None


def test_drawn_ends_are_refused_at_once_where_a_step_is_predicted_in_parts():
    with pytest.raises(ValueError, match="needs dynamics that predict a whole step before they draw any of it"):
        DynamicsTraining(model=GPTConfig(order="raster"), heads=HeadsConfig(ends="drawn"))


@pytest.mark.parametrize("name", ["videogen-paper", "videogen-2x2x2", "bair-paper"])
def test_the_papers_priors_are_trained_as_in_the_paper(name):
    training = DynamicsTraining.of_preset(name)
    loop = training.loop
    assert (loop.steps, loop.batch_size, loop.learning_rate, loop.final_share) == (150_000, 32, 3e-4, 0.0)
    assert loop.weight_decay == 0.0 and not training.muon
    assert DynamicsTraining.of_preset("doom-small").loop == DynamicsTraining().loop

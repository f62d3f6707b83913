from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_config, tiny_world
from tests.training.recorded import recorded_store
from worldmodel.checkpoint import save_tokenizer
from worldmodel.dynamics import FrameEncoderConfig
from worldmodel.model import WorldModel
from worldmodel.training.codes import CodeStore
from worldmodel.training.loop import LoopConfig
from worldmodel.training.train_dynamics import DynamicsTraining, pick_starts, train_dynamics

CONFIG = DynamicsTraining(
    model=tiny_config().dynamics,
    heads=tiny_config().heads,
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


@pytest.fixture
def codes(store):
    """Codes that tell where they come from: all of step t of episode e are 100 e + t, as a (1, 1, 1) grid."""
    marks = [torch.arange(n + 1).view(-1, 1, 1, 1) + 100 * e for e, n in enumerate(store.lengths)]
    return CodeStore(store, [m.to(torch.int16) for m in marks], "train")


def test_segments_longer_than_the_context_are_refused():
    with pytest.raises(ValueError, match="segment must be at most 7"):
        DynamicsTraining(model=replace(CONFIG.model, order="raster", position="learned", window=8))


def test_a_frame_conditioned_model_trains_and_makes_video_without_frames(tmp_path, store):
    encoder = FrameEncoderConfig(width=4, depths=(1, 1))
    model = replace(CONFIG.model, frame_condition=1, frame_encoder=encoder, drop_frames=0.5, learn_start=True)
    train_dynamics(tmp_path / "data", tmp_path / "tokenizer", tmp_path / "run", replace(CONFIG, model=model))
    world = WorldModel.from_pretrained(tmp_path / "run" / "best")
    actions = torch.zeros(2, 3, dtype=torch.int64)
    assert world.sample(2, 4, actions=actions).frames.shape == (2, 4, 2, 16, 16, 3)
    state = world.start_codes(world.starts.codes, world.starts.actions)
    world.step(state, torch.zeros(7, dtype=torch.int64))


def test_start_segments_are_real_play(codes):
    starts = pick_starts(codes, count=50, steps=3)
    marks = starts.codes[:, :, 0, 0, 0]
    assert starts.actions.shape == (50, 2) and starts.signals.shape == (50, 3, 1)
    assert (marks.diff(dim=1) == 1).all() and (marks[:, 0] // 100 == marks[:, -1] // 100).all()


def test_the_trained_world_loads_dreams_and_knows_its_game(tmp_path, store):
    scores = train_dynamics(tmp_path / "data", tmp_path / "tokenizer", tmp_path / "run", CONFIG)
    world = WorldModel.from_pretrained(tmp_path / "run" / "best")
    assert world.config.env_id == store.info.env_id and world.config.reward == "health"
    assert world.config.action == store.info.action and world.config.signal_names == ("HEALTH",)
    assert len(world.starts.codes) == 7
    assert 0 < scores["bits_per_code"] < 4.5 and scores["shuffled_action_ratio"] > 0
    assert 0 < world.heads.threshold < 1
    state = world.start_codes(world.starts.codes, world.starts.actions, world.starts.signals[:, -1])
    world.step(state, torch.zeros(7, dtype=torch.int64))


def test_the_tokenizer_is_kept_bit_for_bit(tmp_path, store):
    train_dynamics(tmp_path / "data", tmp_path / "tokenizer", tmp_path / "run", CONFIG)
    trained = WorldModel.from_pretrained(tmp_path / "run" / "last", dtype=torch.float32).tokenizer.state_dict()
    given = tiny_world().tokenizer.state_dict()
    assert all(torch.equal(trained[name], tensor) for name, tensor in given.items())


def test_a_run_of_another_tokenizer_is_not_continued(tmp_path, store):
    train_dynamics(tmp_path / "data", tmp_path / "tokenizer", tmp_path / "run", CONFIG)
    save_tokenizer(tmp_path / "other", tiny_world(seed=1).tokenizer)
    with pytest.raises(ValueError, match=r"other settings \(codes is"):
        train_dynamics(tmp_path / "data", tmp_path / "other", tmp_path / "run", CONFIG)


def test_a_tokenizer_for_other_frames_is_refused_before_training(tmp_path, store):
    from worldmodel.tokenizer import VQVAE

    save_tokenizer(tmp_path / "big", VQVAE(replace(tiny_config().tokenizer, width=32)))
    with pytest.raises(ValueError, match=r"\(2, 16, 16, 3\).*\(2, 16, 32, 3\)"):
        train_dynamics(tmp_path / "data", tmp_path / "big", tmp_path / "run", CONFIG)

"""Training of PixelCNN priors on a store, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.pixelcnn_world import CLIP, pixelcnn_config, pixelcnn_world, two_levels
from tests.tiny import tiny_world
from tests.training.recorded import recorded_store
from worldmodel.data.regroup import regroup
from worldmodel.dynamics import PixelCNNConfig
from worldmodel.model import WorldModel
from worldmodel.tokenizer.files import load_tokenizer, save_tokenizer
from worldmodel.training import fit
from worldmodel.training.fit import LoopConfig
from worldmodel.training.train_dynamics import DynamicsTraining, train_dynamics
from worldmodel.training.train_tokenizer import TokenizerTraining, train_tokenizer

LOOP = LoopConfig(steps=4, batch_size=4, learning_rate=3e-3, warmup=1, evaluate_every=2, save_every=2)


def training(**dynamics) -> DynamicsTraining:
    config = pixelcnn_config(**dynamics)
    return DynamicsTraining(model=config.dynamics, heads=config.heads, loop=LOOP, validation_segments=8)


@pytest.fixture
def data(tmp_path):
    """Steps of four frames, and a tokenizer of two levels."""
    store = recorded_store(tmp_path / "pairs", lengths=(24,) * 10)
    regroup(store, tmp_path / "data", 4)
    save_tokenizer(tmp_path / "tokenizer", pixelcnn_world().tokenizer)
    return str(tmp_path / "data"), str(tmp_path / "tokenizer")


def test_priors_train_on_a_store_and_the_trained_world_continues_its_frames(tmp_path, data):
    scores = train_dynamics(*data, tmp_path / "run", training())
    assert np.isfinite(scores["bits_per_code"])
    world = WorldModel.from_pretrained(tmp_path / "run" / "best")
    assert isinstance(world.config.dynamics, PixelCNNConfig) and world.starts is None
    frames = np.zeros((1, 1, 4, 16, 16, 3), np.uint8)
    action = world.config.action
    actions = np.zeros((1, 3, *action.shape), np.int64 if action.kind == "discrete" else np.float32)
    assert world.sample(1, 4, frames, actions).frames.shape == (1, 4, 4, 16, 16, 3)


def interrupted(train, *args) -> None:
    """Run a training to its first saved state, then the same call to its end."""
    save = fit.save_state

    def save_and_die(*state):
        save(*state)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit, "save_state", save_and_die)
        train(*args)
    train(*args)


def test_interrupted_priors_end_with_the_weights_of_unbroken_ones(tmp_path, data):
    config = training(dropout=0.2, bottom_slices=1)
    train_dynamics(*data, tmp_path / "whole", config)
    interrupted(train_dynamics, *data, tmp_path / "broken", config)
    whole, broken = (WorldModel.from_pretrained(tmp_path / name / "last").state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], tensor) for name, tensor in broken.items())


def test_an_interrupted_hierarchy_ends_with_the_weights_of_an_unbroken_one(tmp_path, data):
    config = TokenizerTraining(model=two_levels(), loop=LOOP, validation_steps=8)
    train_tokenizer(data[0], tmp_path / "whole", config)
    interrupted(train_tokenizer, data[0], tmp_path / "broken", config)
    whole, broken = (load_tokenizer(tmp_path / name / "last").state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], tensor) for name, tensor in broken.items())


def test_the_small_preset_has_the_default_sizes_and_that_of_the_paper_its_loop():
    assert DynamicsTraining.of_preset("pixelcnn-small").model == PixelCNNConfig()
    paper = DynamicsTraining.of_preset("pixelcnn-paper")
    assert (paper.loop.steps, paper.loop.batch_size, paper.muon) == (1_000_000, 32, False)
    assert paper.model.action_condition == "none"


def test_settings_that_do_not_suit_the_clips_are_refused(tmp_path, data):
    with pytest.raises(ValueError, match="max_steps 2; set it to 3"):
        training(max_steps=CLIP - 1).segment_steps(two_levels())
    with pytest.raises(ValueError, match="one clip of this tokenizer, 2 steps after the first, got segment 5"):
        replace(training(), segment=5).segment_steps(two_levels())
    assert training().segment_steps(two_levels()) == CLIP - 1
    folder = tiny_world().save_pretrained(tmp_path / "gpt")
    with pytest.raises(ValueError, match="net 'gpt', wanted 'pixelcnn'"):
        train_dynamics(*data, tmp_path / "run", training(), start_from=folder)
    with pytest.raises(ValueError, match="frames"):
        train_dynamics(str(tmp_path / "pairs"), data[1], tmp_path / "run", training())

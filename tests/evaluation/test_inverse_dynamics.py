"""Inverse dynamics on toy episodes whose frames show the action, and on frames that show nothing."""

import numpy as np
import pytest
import torch

from tests.training.recorded import ACTIONS
from tests.training.telling_store import PUSHES, telling_store
from worldmodel.evaluation.inverse_dynamics import (
    InverseDynamicsConfig,
    action_score,
    blind_score,
    read,
    train_inverse_dynamics,
    transitions,
)

SMALL = InverseDynamicsConfig(steps=100, batch_size=64, channels=8, features=16, learning_rate=5e-3)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return telling_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def model(store):
    return train_inverse_dynamics(store, SMALL)


@pytest.fixture(scope="module")
def held_out(store):
    """Test episodes: frames (64, 6, 2, 16, 16, 3), actions (64, 5)."""
    return store.batch(store.sample_ids(64, 5, np.random.default_rng(0), "test"))


def test_visible_actions_are_predicted_on_held_out_episodes(model, held_out):
    predictions, features = read(model, held_out.frames)
    assert predictions.shape == (64 * 5, 3) and features.shape == (64 * 5, 16)
    assert action_score(ACTIONS, predictions, held_out.actions.flatten()) > 0.97
    assert blind_score(ACTIONS, held_out.actions.flatten()) < 0.5


def test_frozen_and_reversed_frames_show_other_actions(model, held_out):
    actions = held_out.actions.flatten()
    frozen = held_out.frames[:, :1].expand_as(held_out.frames)
    assert (read(model, frozen)[0].argmax(-1) == 0).float().mean() > 0.9  # standing still is noop
    backwards = read(model, held_out.frames.flip(1))[0].argmax(-1).view(64, 5).flip(1).flatten()
    mirrored = torch.tensor([0, 2, 1])[actions]
    assert (backwards == mirrored).float().mean() > 0.95


def test_box_actions_are_scored_by_explained_variance(tmp_path):
    store = telling_store(tmp_path, PUSHES, episodes=40)
    model = train_inverse_dynamics(store, InverseDynamicsConfig(steps=150, channels=8, features=32, learning_rate=1e-2))
    batch = store.batch(store.sample_ids(64, 5, np.random.default_rng(0), "test"))
    predictions, _ = read(model, batch.frames)
    assert predictions.shape == (64 * 5, 2)
    assert action_score(PUSHES, predictions, batch.actions.flatten(0, 1)) > 0.5
    assert blind_score(PUSHES, batch.actions.flatten(0, 1)) == 0.0


def test_transitions_are_steps_and_their_successors_in_order():
    frames = torch.arange(2 * 3 * 2).view(2, 3, 2, 1, 1, 1)
    assert transitions(frames).flatten(1).tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [6, 7, 8, 9], [8, 9, 10, 11]]


def test_the_same_seed_gives_the_same_network_and_does_not_use_the_global_generator(store):
    before = torch.get_rng_state()
    short = InverseDynamicsConfig(steps=3, batch_size=4, channels=4, features=8)
    one, two = train_inverse_dynamics(store, short), train_inverse_dynamics(store, short)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert torch.equal(before, torch.get_rng_state())


def test_scores_equal_hand_results():
    actions = torch.tensor([0, 1, 1, 2])
    predictions = torch.eye(3)[torch.tensor([0, 1, 2, 2])]
    assert action_score(ACTIONS, predictions, actions) == 0.75
    assert blind_score(ACTIONS, actions) == 0.5


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        InverseDynamicsConfig(steps=0)

import numpy as np
import pytest
import torch

from tests.tiny import tiny_world
from worldmodel.agents.episodes import play_episodes
from worldmodel.agents.scripted import RandomPolicy
from worldmodel.envs.vectors import key_of
from worldmodel.training.dream_vs_real.paired_play import Trace
from worldmodel.training.dream_vs_real.rows import DreamRows

LIMITS = [3, 9, 5, 7, 4]
SOME_END = 0.058  # the threshold of random weights


@pytest.fixture(scope="module")
def world():
    """A world in which some dreams end by themselves and others are cut."""
    world = tiny_world()
    world.heads.threshold.fill_(SOME_END)
    return world


def play(world, rows, numbers, limits=LIMITS, seed=10):
    trace = Trace(len(numbers))
    dreams = DreamRows(rows, world, world.starts, limits, seed)
    policy = RandomPolicy(world.config.action)
    play_episodes(dreams, policy, numbers, policy_seeds=range(len(numbers)), watch=trace)
    return trace, dreams


def alone(world, number, episode, limit, seed=10):
    """The rewards of one dream, by the model itself, and whether it ended."""
    starts = world.starts
    rows = slice(number, number + 1)
    state = world.start_codes(
        starts.codes[rows], starts.actions[rows], starts.signals[rows, -1], [key_of(seed + number)]
    )
    policy, rewards = RandomPolicy(world.config.action, seed=episode), []
    for _ in range(limit):
        state, out = world.step(state, policy.act(np.zeros(1)))
        rewards.append(float(out.reward))
        if out.terminated:
            return rewards, True
    return rewards, False


def test_dream_k_is_what_the_model_dreams_from_start_k_up_to_its_own_limit(world):
    numbers = [4, 0, 3, 1, 2, 0, 4]
    trace, _ = play(world, 3, numbers)
    wanted = [alone(world, number, episode, LIMITS[number]) for episode, number in enumerate(numbers)]
    assert trace.terminated.tolist() == [ended for _, ended in wanted]
    assert 0 < trace.terminated.sum() < len(numbers)  # both happen here
    for rewards, (expected, _) in zip(trace.rewards, wanted, strict=True):
        np.testing.assert_allclose(rewards, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_dream_does_not_depend_on_other_rows(world, rows):
    numbers = [0, 1, 2, 3, 4, 1, 3]
    (trace, _), (other, _) = play(world, rows, numbers), play(world, 4, numbers)
    assert trace.lengths.tolist() == other.lengths.tolist()
    for rewards, expected in zip(trace.rewards, other.rewards, strict=True):
        np.testing.assert_allclose(rewards, expected, rtol=1e-4, atol=1e-5)


def test_resting_rows_are_dropped_and_cannot_be_resumed(world, monkeypatch):
    batches = []
    step = type(world).step
    monkeypatch.setattr(
        type(world), "step", lambda wm, state, *rest: batches.append(len(state)) or step(wm, state, *rest)
    )
    world.heads.threshold.fill_(2.0)  # nothing ends by itself
    try:
        _, dreams = play(world, 5, [0, 1, 2, 3, 4])
    finally:
        world.heads.threshold.fill_(SOME_END)
    assert batches == [5, 5, 5, 5, 3, 2, 2, 1, 1]
    with pytest.raises(ValueError, match=r"rows \[0\] have rested for too long"):
        dreams.reset(seed=[0] * 5, options={"reset_mask": np.arange(5) == 0})
    assert dreams.reset(seed=[1] * 5)[0].shape == (5, 2, 2, 2)


def test_resting_rows_get_no_reward_and_no_further_end():
    world = tiny_world()
    world.heads.threshold.fill_(2.0)  # nothing ends by itself
    dreams = DreamRows(5, world, world.starts, [1, 3, 3, 3, 3], 10)
    dreams.reset(seed=range(5))
    actions = np.zeros(5, np.int64)
    _, rewards, terminations, truncations, _ = dreams.step(actions)
    assert rewards.all() and truncations.tolist() == [True, False, False, False, False]
    _, rewards, terminations, truncations, _ = dreams.step(actions)
    assert rewards[0] == 0 and rewards[1:].all() and not (terminations | truncations).any()


def test_nothing_is_decoded_for_blind_policies(world, monkeypatch):
    monkeypatch.setattr(type(world.tokenizer), "decode", lambda *_: pytest.fail("decoded"))
    play(world, 2, [0, 1])


def test_another_seed_draws_other_dreams(world):
    (trace, _), (other, _) = play(world, 2, [1, 3]), play(world, 2, [1, 3], seed=11)
    assert trace.rewards != other.rewards


def test_dreams_have_the_requested_observations(world):
    dreams = DreamRows(2, world, world.starts, LIMITS, 0, obs="latent")
    observations, _ = dreams.reset(seed=[3, 1])
    wanted = world.tokenizer.lookup(world.starts.codes[torch.tensor([3, 1]), -1])
    np.testing.assert_allclose(observations, wanted.numpy(), rtol=1e-6)
    assert dreams.single_observation_space.contains(observations[0])

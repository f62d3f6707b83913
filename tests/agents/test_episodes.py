"""The loop that plays episodes, on a toy game; what `evaluate` makes of it is tested there."""

import numpy as np
import pytest

from tests.toy_game import ToyGame
from worldmodel.agents.episodes import play_episodes
from worldmodel.agents.policy import Policy
from worldmodel.envs.wrappers import ThreadVectorEnv


class Counting(Policy):
    """Plays 0, 1, 2, 0, 1, 2, … in every episode; remembers its resets and seeds."""

    def __init__(self):
        self.steps, self.begun = np.zeros(9, np.int64), []

    def act(self, observations):
        actions = self.steps[: len(observations)] % 3
        self.steps += 1
        return actions

    def reset(self, rows=None):
        self.steps[... if rows is None else rows] = 0
        self.begun.append(None if rows is None else list(rows))

    def seed_rows(self, rows, seeds):
        self.begun[-1] = (self.begun[-1], list(seeds))


class Noting(ToyGame):
    """Episodes of 6 steps; reports the actions of every game in the episode with this seed."""

    played: dict = {}  # noqa: RUF012

    def reset(self, *, seed=None, options=None):
        found = super().reset(seed=seed)
        self.left, self.seed = 6, seed
        self.played[seed] = []
        return found

    def step(self, action):
        self.played[self.seed].append(int(action))
        return super().step(action)


def toys(rows, game=ToyGame):
    return ThreadVectorEnv(game, rows, autoreset_mode="disabled")


def test_an_episode_begins_with_its_lead_and_then_its_policy_is_reset():
    leads = [np.array([2, 2]), np.array([], np.int64), np.array([1])]
    envs = toys(2, Noting)
    played = play_episodes(envs, Counting(), [7, 8, 9], leads=leads)
    envs.close()
    assert Noting.played == {7: [2, 2, 0, 1, 2, 0], 8: [0, 1, 2, 0, 1, 2], 9: [1, 0, 1, 2, 0, 1]}
    assert played.lengths.tolist() == [4, 6, 5]  # what follows the lead counts alone


def test_watch_gets_only_the_steps_after_the_lead():
    seen = {0: [], 1: []}

    def watch(episodes, rewards, terminations):
        for episode, reward in zip(episodes, rewards, strict=True):
            seen[episode].append(float(reward))

    envs = toys(2, Noting)
    leads = [np.array([0, 1, 2]), np.array([], np.int64)]
    played = play_episodes(envs, Counting(), [7, 8], leads=leads, watch=watch)
    envs.close()
    assert [len(seen[i]) for i in (0, 1)] == played.lengths.tolist() == [3, 6]
    assert [sum(seen[i]) for i in (0, 1)] == played.env_returns.tolist()


def test_a_shared_policy_is_reset_when_a_lead_is_over():
    policy = Counting()
    envs = toys(1, Noting)
    play_episodes(envs, policy, [7], leads=[np.array([0, 0])])
    envs.close()
    assert policy.begun == [None, ([0], [7]), ([0], [7])]
    assert Noting.played[7] == [0, 0, 0, 1, 2, 0]


def test_episodes_are_abandoned_after_the_maximum_of_counted_steps():
    envs = toys(2, Noting)
    leads = [np.array([0, 1]), np.array([], np.int64), np.array([], np.int64)]
    played = play_episodes(envs, Counting(), [7, 8, 9], leads=leads, most_steps=3)
    envs.close()
    assert played.lengths.tolist() == [3, 3, 3]
    assert len(Noting.played[8]) == 3  # its row continued with episode 9


def test_more_rows_than_episodes_are_not_played():
    envs = toys(4, Noting)
    played = play_episodes(envs, Counting(), [7, 8])
    envs.close()
    assert played.lengths.tolist() == [6, 6]


def test_a_game_that_ends_within_a_lead_is_refused():
    envs = toys(1, Noting)
    with pytest.raises(ValueError, match=r"ended in step 6 of the 9 that lead .* is not reproducible"):
        play_episodes(envs, Counting(), [7], leads=[np.zeros(9, np.int64)])
    envs.close()


class Always(Policy):
    def __init__(self, action):
        self.action, self.seeds, self.informed = action, [], 0

    def act(self, observations):
        return np.full(len(observations), self.action)

    def seed_rows(self, rows, seeds):
        self.seeds += seeds

    def inform(self, infos):
        self.informed += 1


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_each_episode_is_played_by_its_own_policy_for_any_number_of_envs(rows):
    policies = [Always(action) for action in range(3)]
    envs = toys(rows, Noting)
    play_episodes(envs, [policies[i] for i in (0, 2, 1, 2)], [7, 8, 9, 10], policy_seeds=[70, 80, 90, 100])
    envs.close()
    assert {seed: set(Noting.played[seed]) for seed in (7, 8, 9, 10)} == {7: {0}, 8: {2}, 9: {1}, 10: {2}}
    assert [set(policy.seeds) for policy in policies] == [{70}, {90}, {80, 100}]
    assert all(policy.informed for policy in policies)

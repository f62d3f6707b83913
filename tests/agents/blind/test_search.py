"""The search finds the best blind policy of games where that is known, and only its seed decides what it does."""

from functools import partial
from itertools import pairwise
from math import log2, prod

import gymnasium as gym
import numpy as np
import pytest

from tests.tiny import tiny_world
from tests.toy_game import registered_game
from worldmodel.agents.blind.policies import scripted_policy
from worldmodel.agents.blind.search import LENGTHS, around, screened, search_blind
from worldmodel.agents.evaluate import evaluate
from worldmodel.data import ActionSpec

GAME = "StridesForBlindSearch-v0"
NAMES = ("noop", "turn", "forward", "shoot")
BUTTONS = ActionSpec(kind="discrete", n=4, names=NAMES)
BEST = {"forward": 24, "turn": 4}  # steps


class Strides(gym.Env):
    """Pays for every stride forward with a turn after it: their steps, times how near their lengths are to the best."""

    observation_space = gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = gym.spaces.Discrete(4)
    action_spec = BUTTONS
    metadata = {"render_modes": []}  # noqa: RUF012
    seeds: list[int] = []  # noqa: RUF012

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.left, self.strides = 61, [("", 0), ("", 0)]
        return np.zeros((8, 8, 3), np.uint8), {}

    def step(self, action):
        reward = 0.1 * self.np_random.standard_normal()
        if NAMES[action] == self.strides[1][0]:
            self.strides[1] = NAMES[action], self.strides[1][1] + 1
        else:
            if tuple(name for name, _ in self.strides) == tuple(BEST):
                reward += sum(steps for _, steps in self.strides) * prod(map(nearness, self.strides))
            self.strides = [self.strides[1], (NAMES[action], 1)]
        self.left -= 1
        return np.zeros((8, 8, 3), np.uint8), reward, self.left == 0, False, {}


def nearness(stride) -> float:
    return max(0.0, 1.0 - abs(log2(stride[1] / BEST[stride[0]])) / 3)


registered = registered_game(GAME, Strides, scope="module")


@pytest.fixture(scope="module")
def found(registered):
    Strides.seeds.clear()
    return search_blind(GAME, episodes=8, seed=700, num_envs=1), list(Strides.seeds)


def test_the_search_refines_the_lengths_of_the_best_cycle(found):
    search, _ = found
    assert search.best not in screened(BUTTONS)
    means = {tried.policy: tried.mean for tried in search.tried}
    assert search.best == "cycle:turn*4,forward*24"
    assert means[search.best] > 1.15 * max(means[name] for name in screened(BUTTONS))


def test_the_result_does_not_depend_on_how_many_envs_play(found):
    assert search_blind(GAME, episodes=8, seed=700, num_envs=7) == found[0]


def test_every_policy_plays_the_same_episodes(found):
    search, seeds = found
    assert len(seeds) == search.episodes and search.steps == 61 * search.episodes
    assert {seed: seeds.count(seed) for seed in set(seeds)} == {
        700 + k: sum(len(tried.returns) > k for tried in search.tried) for k in range(8)
    }


@pytest.mark.parametrize("policy", ["hold:0.5", "hold:0.9", "cycle:turn*8,forward*32"])
def test_a_policys_returns_are_those_that_evaluate_finds_on_the_same_seeds(found, policy):
    returns = next(tried.returns for tried in found[0].tried if tried.policy == policy)
    again = evaluate(partial(scripted_policy, policy), GAME, len(returns), 700)
    assert again.returns == returns


def test_few_policies_are_tried_and_only_the_last_ones_for_long(found):
    search, _ = found
    assert 45 < len(search.tried) <= 60
    played = [len(tried.returns) for tried in search.tried]
    assert played.count(8) in range(4, 9) and played.count(2) > 30
    assert len(search.tried[[tried.policy for tried in search.tried].index(search.best)].returns) == 8
    assert all(first.mean >= second.mean for first, second in pairwise(search.tried))


def test_a_search_without_enough_episodes_is_refused():
    with pytest.raises(ValueError, match="at least 8 episodes, got 7"):
        search_blind(GAME, episodes=7)


def test_the_best_constant_is_found_if_one_action_is_enough(monkeypatch):
    def step(self, action):
        self.left -= 19
        return np.zeros((8, 8, 3), np.uint8), float(action == 3), self.left <= 0, False, {}

    monkeypatch.setattr(Strides, "step", step)
    assert search_blind(GAME, episodes=8).best == "constant:shoot"


def test_a_dream_is_searched_by_the_names_of_its_actions():
    search = search_blind("VideoGenDream-Doom", episodes=8, num_envs=16, model=tiny_world(), obs="codes", horizon=4)
    tried = {tried.policy for tried in search.tried}
    assert {"constant:left", "cycle:left*8,right*8"} <= tried


# Which policies


@pytest.mark.parametrize("n", [1, 2, 3, 4, 8, 12, 18, 64, 2**20])
def test_a_screening_of_any_number_of_actions_is_bounded_and_can_be_played(n):
    spec = ActionSpec(kind="discrete", n=n)
    names = screened(spec)
    assert names == screened(spec) and len(names) == len(set(names)) <= 30
    assert min(n, 12) == sum(name.startswith("constant:") for name in names)
    assert n == 1 or sum(name.startswith("cycle:") for name in names) >= 9  # of two actions one of each shape
    for name in names:
        scripted_policy(name, spec)


@pytest.mark.parametrize("numbers", [1, 2, 4, 7])
def test_constants_and_held_actions_are_screened_for_a_box(numbers):
    spec = ActionSpec(kind="box", n=numbers, low=(-1.0, 0.5, *[-0.1] * 5)[:numbers], high=(1.0,) * numbers)
    names = screened(spec)
    assert len(names) == len(set(names)) <= 30 and not any(name.startswith("cycle:") for name in names)
    still = np.zeros(numbers, np.float32)
    still[1:2] = 0.5  # as near to nothing as the bounds allow
    observations = np.zeros((1, 8, 8, 3), np.uint8)
    actions = [scripted_policy(name, spec).act(observations)[0].tolist() for name in names]
    assert actions[0] == still.tolist() and [1.0] * numbers in actions
    assert all(list(around(name, [], 1)) == [] for name in names if name.startswith("constant:"))


def test_names_that_would_be_misread_are_replaced_by_numbers():
    spec = ActionSpec(kind="discrete", n=3, names=("jump*2", "left,right", "fire"))
    assert {"constant:0", "constant:1", "constant:fire", "cycle:0*8,1*8"} <= set(screened(spec))


def test_neighbours_of_a_cycle_have_other_lengths_or_an_additional_action():
    actions = ["shoot", "noop", "turn"]
    near = list(around("cycle:turn*8,forward*32", actions, 1))
    assert near[:3] == ["cycle:turn*12,forward*48", "cycle:turn*4,forward*24", "cycle:turn*8,forward*32,shoot*8"]
    assert {"cycle:turn*12,forward*32", "cycle:turn*8,forward*24", "cycle:turn*8,forward*32,noop*8"} <= set(near)
    three = list(around("cycle:turn*8,forward*32,noop*1", actions, 2))
    assert all(name.count("*") == 3 for name in three)
    assert all(int(part.split("*")[1]) in LENGTHS for name in three for part in name.split(","))


def test_neighbours_of_a_constant_add_an_action_and_those_of_held_actions_hold_more_or_less():
    assert list(around("constant:turn", ["turn", "noop"], 2)) == ["cycle:turn*8,noop*8"]
    assert list(around("hold:0.9", [], 2)) == ["hold:0.95", "hold:0.8"]
    assert list(around("hold:0.3", [], 2)) == ["hold:0.65"]
    assert list(around("random", ["turn"], 1)) == []

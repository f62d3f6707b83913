"""The base class of policies, other classes' objects in its place, and the generators of env rows."""

import numpy as np
import pytest

from worldmodel.agents.policy import Policy, RowGenerators, as_policy
from worldmodel.data import ActionSpec

BUTTONS = ActionSpec(kind="discrete", n=4)


class Still(Policy):
    def act(self, observations):
        return np.zeros(len(observations), np.int64)


def test_a_policy_needs_only_act():
    policy = Still()
    policy.reset()
    policy.seed_rows([0], [1])
    policy.inform({"HEALTH": np.ones(1)})
    policy.acted(np.zeros(1))
    assert as_policy(policy) is policy
    with pytest.raises(TypeError, match="act"):
        type("Idle", (Policy,), {})()


class Foreign:
    """Not a `Policy`, with `act` and `reset`."""

    def __init__(self):
        self.calls = []

    def act(self, observations, deterministic=False):
        return np.full(len(observations), int(deterministic))

    def reset(self, rows=None):
        self.calls.append(("reset", rows))


class Seeded(Foreign):
    action_spec = BUTTONS

    def seed_rows(self, rows, seeds):
        self.calls.append(("seed", rows, seeds))

    def acted(self, actions):
        self.calls.append(("acted", actions))


def test_an_object_of_another_class_may_lack_the_optional_methods():
    player = Foreign()
    policy = as_policy(player)
    policy.reset([1])
    policy.seed_rows([0], [1])
    policy.inform({})
    policy.acted(np.zeros(2))
    assert policy.act(np.zeros(2)).tolist() == [0, 0] and policy.action_spec is None
    assert player.calls == [("reset", [1])]


def test_the_optional_methods_and_the_action_spec_of_such_an_object_are_used():
    player = Seeded()
    policy = as_policy(player)
    policy.seed_rows([0], [5])
    policy.inform({})
    policy.acted("actions")
    assert player.calls == [("seed", [0], [5]), ("acted", "actions")] and policy.action_spec == BUTTONS


def test_deterministic_is_passed_to_act_if_it_has_that_argument():
    assert as_policy(Foreign(), deterministic=True).act(np.zeros(2)).tolist() == [1, 1]
    with pytest.raises(ValueError, match=r"deterministic=True is for agents: Still\.act has no"):
        as_policy(Still(), deterministic=True)


def test_row_i_draws_from_the_seed_and_its_index_until_it_is_seeded():
    rows = RowGenerators(7)
    assert rows[2].random() == np.random.default_rng((7, 2)).random()
    assert rows[2].random() != rows[1].random()
    rows.reseed([2], [30])
    assert rows[2].random() == np.random.default_rng(30).random()


def test_a_rows_choices_follow_its_odds_and_no_other_rows():
    odds = np.tile([0.6, 0.0, 0.1, 0.3], (2, 1))
    rows, alone = RowGenerators(0), RowGenerators(0)
    rows.reseed([1], [9])
    alone.reseed([0], [9])
    drawn = np.array([rows.choose(odds) for _ in range(4000)])
    assert np.bincount(drawn.ravel(), minlength=4) / 8000 == pytest.approx([0.6, 0.0, 0.1, 0.3], abs=0.03)
    assert [int(alone.choose(odds[:1])[0]) for _ in range(50)] == drawn[:50, 1].tolist()


def test_normal_draws_have_their_mean_and_deviation():
    mean, deviation = np.array([[1.0, -2.0]]), np.array([[0.5, 3.0]])
    rows = RowGenerators(0)
    drawn = np.concatenate([rows.normal(mean, deviation) for _ in range(3000)])
    assert drawn.mean(0) == pytest.approx([1.0, -2.0], abs=0.2)
    assert drawn.std(0) == pytest.approx([0.5, 3.0], rel=0.05)

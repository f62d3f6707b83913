"""Actions of all kinds of spaces as one choice or as continuous values, and back."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import InvalidAction

from worldmodel.envs.game_actions import GameActions


def assert_in(space, given, wanted):
    assert space.contains(given), f"{given!r} is not of {space}"
    np.testing.assert_array_equal(given, wanted)


def test_choices_with_another_start_are_counted_from_zero():
    space = spaces.Discrete(3, start=-1)
    actions = GameActions(space, ("left", "stay", "right"))
    assert (actions.spec.n, actions.space) == (3, spaces.Discrete(3))
    for choice, wanted in enumerate((-1, 0, 1)):
        assert_in(space, actions.of(choice), wanted)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64])
def test_a_choice_reaches_the_game_in_its_own_dtype(dtype):
    space = spaces.Discrete(3, dtype=dtype)
    given = GameActions(space).of(np.int64(2))
    assert given.dtype == dtype
    assert_in(space, given, 2)


def test_buttons_become_a_choice_among_their_combinations_with_names():
    space = spaces.MultiBinary(3)
    actions = GameActions(space, ("left", "right", "attack"))
    assert actions.spec.names == (
        *("noop", "attack", "right", "right+attack"),
        *("left", "left+attack", "left+right", "left+right+attack"),
    )
    assert_in(space, actions.of(5), [1, 0, 1])


def test_switches_become_a_choice_among_their_combinations():
    space = spaces.MultiDiscrete([2, 3], start=[0, 1])
    actions = GameActions(space)
    assert actions.spec.n == 6
    combinations = [actions.of(choice).tolist() for choice in range(6)]
    assert combinations == [[0, 1], [0, 2], [0, 3], [1, 1], [1, 2], [1, 3]]
    assert all(space.contains(actions.of(choice)) for choice in range(6))


def test_changing_a_returned_action_does_not_change_later_ones():
    actions = GameActions(spaces.MultiBinary(2))
    actions.of(3)[:] = 0
    assert actions.of(3).tolist() == [1, 1]


def test_values_for_an_integer_box_are_rounded_to_the_nearest():
    space = spaces.Box(-2, 5, (3,), np.int32)
    actions = GameActions(space)
    assert (actions.spec.low, actions.spec.high) == ((-2.0,) * 3, (5.0,) * 3)
    given = actions.of(np.float32([-1.6, 0.4, 5.0]))
    assert given.dtype == np.int32
    assert_in(space, given, [-2, 0, 5])


def test_actions_of_several_axes_are_reshaped():
    space = spaces.Box(-1, 1, (2, 2), np.float64)
    actions = GameActions(space, ("a", "b", "c", "d"))
    assert actions.spec.n == 4
    assert_in(space, actions.of(np.float32([0.5, -0.5, 1, 0])), [[0.5, -0.5], [1, 0]])


def test_a_bound_that_float32_rounds_outwards_stays_within_the_games_bounds():
    space = spaces.Box(-0.1, 0.1, (1,), np.float64)
    actions = GameActions(space)
    assert float(np.float32(0.1)) > 0.1
    assert_in(space, actions.of(actions.space.high), [0.1])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(-np.inf, np.inf, (2,)), "needs bounds.*TransformAction"),
        (spaces.Box(-3.4e38, 3.4e38, (1,)), "needs bounds"),
        (spaces.Box(1, 1, (1,)), "low below high"),
        (spaces.Box(0, 1, ()), None),
        (spaces.Box(0, 1, (0,)), "must be Discrete"),
        (spaces.MultiBinary(7), "128 combinations, but a choice can have at most 64.*TransformAction"),
        (spaces.MultiDiscrete([10**9] * 20), "combinations"),
        (spaces.Dict({"binary": spaces.Discrete(2)}), "must be Discrete.*got Dict.*TransformAction"),
        (spaces.Tuple([spaces.Discrete(2)]), "got Tuple.*TransformAction"),
        (spaces.Text(3), "got Text"),
    ],
)
def test_other_spaces_are_refused_with_a_remedy(space, message):
    if message is None:
        assert GameActions(space).of([0.5]).shape == ()
        return
    with pytest.raises(ValueError, match=message):
        GameActions(space)


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (spaces.Discrete(3, start=-1), -1),
        (spaces.Discrete(3), 3),
        (spaces.Discrete(3), 1.0),
        (spaces.Discrete(3), None),
        (spaces.MultiBinary(2), [1, 0]),
        (spaces.Box(0, 5, (2,), np.int32), [0, 6]),
        (spaces.Box(-1, 1, (2,)), [np.nan, 0]),
        (spaces.Box(-1, 1, (2,)), [0.0]),
    ],
)
def test_invalid_actions_never_reach_the_game(space, action):
    with pytest.raises(InvalidAction):
        GameActions(space).of(action)


def test_the_suggested_remedy_works():
    class Buttons(gym.Env):
        observation_space, action_space = spaces.Discrete(1), spaces.MultiBinary(9)

        def step(self, action):
            return 0, float(action.sum()), False, False, {}

    choices = np.eye(9, dtype=np.int8)
    env = gym.wrappers.TransformAction(Buttons(), lambda choice: choices[choice], spaces.Discrete(len(choices)))
    assert GameActions(env.action_space).spec.n == 9 and env.step(np.int64(3))[1] == 1

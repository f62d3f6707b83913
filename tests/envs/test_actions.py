import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import InvalidAction

from worldmodel.envs.actions import valid_actions

BOUNDS = gym.spaces.Box(np.float32([-0.14, 1000.0]), np.float32([0.03, 1000.5]))


def test_values_that_exceed_a_bound_by_rounding_are_clipped():
    """Where Stable-Baselines3's scaling of a saturated actor ends: 0.03 is a little more as float32 arithmetic."""
    high = BOUNDS.low + (0.5 * (np.float32(1) + np.float32(1)) * (BOUNDS.high - BOUNDS.low))
    beyond = np.nextafter(np.nextafter(BOUNDS.high, np.float32(np.inf)), np.float32(np.inf))
    below = np.nextafter(BOUNDS.low, np.float32(-np.inf))
    for given, meant in ((high, BOUNDS.high), (beyond, BOUNDS.high), (below, BOUNDS.low)):
        np.testing.assert_array_equal(valid_actions(BOUNDS, given, ()), meant)
    inside = np.float32([[0.0, 1000.25], [-0.1, 1000.0]])
    np.testing.assert_array_equal(valid_actions(BOUNDS, inside, (2,)), inside)


@pytest.mark.parametrize("given", [[0.0301, 1000.1], [-0.1401, 1000.1], [0.0, 1000.6], [np.nan, 1000.1]])
def test_values_clearly_out_of_bounds_are_refused(given):
    with pytest.raises(InvalidAction, match="2 dimensions in"):
        valid_actions(BOUNDS, given, ())

"""Survival of a few episodes, counted by hand."""

import numpy as np
import pytest

from worldmodel.evaluation.survival import survival_curve, survival_gap


def test_without_cuts_survival_is_the_share_that_has_not_ended():
    curve = survival_curve([1, 3, 3, 4], [True] * 4, steps=5)
    assert curve.tolist() == [1.0, 0.75, 0.75, 0.25, 0.0, 0.0]


def test_episodes_cut_at_the_last_step_count_as_alive():
    assert survival_curve([2, 4, 4, 4], [True, False, False, False], steps=4).tolist() == [1.0, 1.0, 0.75, 0.75, 0.75]


def test_an_episode_that_was_cut_off_counts_up_to_there():
    # After step 1 a quarter is dead; of the remaining three one was cut after step 2, and one of two dies at step 3.
    curve = survival_curve([1, 2, 3, 4], [True, False, True, False], steps=4)
    np.testing.assert_allclose(curve, [1.0, 0.75, 0.75, 0.375, 0.375])


def test_survival_is_unknown_after_the_last_cut():
    curve = survival_curve([2, 2], [False, True], steps=4)
    np.testing.assert_array_equal(curve, [1.0, 1.0, 0.5, np.nan, np.nan])


def test_the_gap_is_the_largest_distance_where_both_are_known():
    first, second = np.array([1.0, 0.9, 0.2, np.nan]), np.array([1.0, 0.6, 0.4, 0.0])
    assert survival_gap(first, second) == pytest.approx(0.3)
    assert survival_gap(first, first) == 0.0


@pytest.mark.parametrize(("lengths", "terminated"), [([], []), ([2, 0], [True, True]), ([2, 3], [True])])
def test_episodes_without_steps_or_ends_are_refused(lengths, terminated):
    with pytest.raises(ValueError, match="the end of each episode"):
        survival_curve(lengths, terminated, 3)

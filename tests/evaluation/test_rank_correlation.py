"""Correlations of literal numbers."""

import math

import numpy as np
import pytest

from worldmodel.evaluation.rank_correlation import (
    correlation,
    fisher_interval,
    pearson,
    rank_violation,
    spearman,
)


def test_pearson_is_the_covariance_over_both_deviations():
    assert pearson([1, 2, 3], [2, 4, 6]) == 1.0
    assert pearson([1, 2, 3], [3, 2, 1]) == -1.0
    # Deviations (-1, 0, 1) and (0, -1, 1): 1 / sqrt(2 * 2).
    assert pearson([1, 2, 3], [2, 1, 3]) == pytest.approx(0.5)
    assert pearson([1, -1, 0, 0], [0, 0, 1, -1]) == 0.0


def test_spearman_depends_only_on_the_order():
    assert spearman([1, 2, 3, 4], [1, 10, 100, 1000]) == 1.0 > pearson([1, 2, 3, 4], [1, 10, 100, 1000])
    # Without ties 1 - 6 sum(d^2) / (n (n^2 - 1)): d = (1, -1, 0, 0, 0), n = 5.
    assert spearman([1, 2, 3, 4, 5], [20, 10, 30, 40, 50]) == pytest.approx(1 - 6 * 2 / (5 * 24))
    # With ties: ranks (1.5, 1.5, 3) against (1, 2, 3), deviations (-.5, -.5, 1) and (-1, 0, 1).
    assert spearman([5, 5, 9], [1, 2, 3]) == pytest.approx(1.5 / (1.5 * 2) ** 0.5)


@pytest.mark.parametrize("measure", [pearson, spearman])
def test_constant_values_have_no_correlation(measure):
    assert measure([0.1, 0.1, 0.1], [1, 2, 3]) is None
    assert "all policies have the same value" in correlation(measure.__name__, [1, 2, 3], [4, 4, 4])["absent"]


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_policies_have_no_correlation(count):
    assert correlation("pearson", range(count), range(count)) == {
        "absent": f"a correlation needs at least 3 policies, and there are {count}"
    }


def test_chance_counts_all_orders_of_a_few_policies():
    # Of the 24 orders of 4 values one is the right one, and 3 more swap a neighbouring pair.
    assert correlation("spearman", [1, 2, 3, 4], [1, 2, 3, 4])["chance"] == pytest.approx(1 / 24)
    assert correlation("spearman", [1, 2, 3, 4], [2, 1, 3, 4])["chance"] == pytest.approx(4 / 24)
    assert correlation("spearman", [1, 2, 3, 4], [4, 3, 2, 1])["chance"] == 1.0


def test_many_policies_are_compared_with_sampled_orders():
    x = np.arange(12)
    found = correlation("pearson", x, x)
    assert found["value"] == pytest.approx(1.0)
    assert found["chance"] == 1 / 5040  # only its own order
    assert found["policies"] == 12
    y = np.random.default_rng(0).normal(size=12)
    assert correlation("pearson", x, y) == correlation("pearson", x, y) != correlation("pearson", x, y, seed=1)


def test_intervals_equal_fishers_z():
    # 1 - 6 * 4 / (6 * 35) with d = (1, -1, 1, -1, 0, 0); arctanh = 1.4017, +- 1.96 * sqrt(1.3922 / 3) = 1.3352
    found = correlation("spearman", range(6), [1, 0, 3, 2, 4, 5])
    assert found["value"] == pytest.approx(0.885714)
    assert found["interval"] == pytest.approx([0.0665, 0.9915], abs=2e-4)
    # For values the error is 1 / sqrt(3): 1.4017 +- 1.1316.
    assert fisher_interval("pearson", 0.885714, 6) == pytest.approx((0.2637, 0.9875), abs=2e-4)
    low, high = fisher_interval("spearman", -0.885714, 6)
    assert [-high, -low] == pytest.approx(found["interval"], abs=1e-4)


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_a_perfect_order_of_few_policies_is_uncertain(kind):
    lows = []
    for count in (5, 7, 10, 20):
        low, high = correlation(kind, range(count), range(count))["interval"]
        mirrored = correlation(kind, range(count), range(0, -count, -1))["interval"]
        assert high == pytest.approx(1.0) and mirrored == pytest.approx([-high, -low])
        lows.append(low)
    assert lows == sorted(lows) and lows[0] < 0.1 and 0.9 < lows[-1] < 1.0


def test_the_interval_of_a_perfect_order_includes_two_swapped_neighbours():
    swapped = correlation("spearman", range(8), [1, 0, 2, 3, 4, 5, 6, 7])
    assert correlation("spearman", range(8), range(8))["interval"] == [pytest.approx(swapped["interval"][0]), 1.0]


def test_fewer_than_five_policies_have_no_interval():
    assert correlation("spearman", [1, 2, 3, 4], [1, 2, 4, 3])["interval"] is None
    assert correlation("spearman", [1, 2, 3, 4, 5], [1, 2, 4, 3, 5])["interval"] is not None


def test_the_interval_covers_the_truth_about_95_times_in_a_hundred():
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, 400, 12))
    found = [correlate_rows(a, a + b) for a, b in zip(x, noise, strict=True)]
    covered = np.mean([low <= math.sqrt(0.5) <= high for low, high in found])
    assert 0.92 < covered < 0.98


def correlate_rows(x, y):
    return fisher_interval("pearson", pearson(x, y), len(x))


@pytest.mark.parametrize("y", [[1, 2, math.nan], [1, 2, math.inf], [1, 2], [[1, 2, 3]]])
def test_what_is_not_a_list_of_finite_numbers_has_no_correlation(y):
    with pytest.raises(ValueError, match=r"between two lists \(n,\) of finite numbers"):
        correlation("pearson", [1, 2, 3], y)


def test_a_rank_violation_costs_the_difference_of_the_true_values():
    assert rank_violation([1, 2, 3], [10, 20, 30]) == 0.0
    # The first two are in the wrong order, which costs each of them 10; the third is right.
    assert rank_violation([2, 1, 3], [10, 20, 30]) == pytest.approx(20 / 3)
    # All wrong: the ends lose 20, the middle 10.
    assert rank_violation([3, 2, 1], [10, 20, 30]) == pytest.approx(50 / 3)

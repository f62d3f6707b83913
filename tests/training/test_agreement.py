"""Correlations of written-out numbers."""

import numpy as np
import pytest

from worldmodel.training.agreement import correlation, pearson, rank_violation, ranks, spearman


def test_equal_values_share_their_mean_rank():
    assert ranks([30, 10, 20, 20]).tolist() == [4.0, 1.0, 2.5, 2.5]
    assert ranks([7, 7, 7]).tolist() == [2.0, 2.0, 2.0]


def test_pearson_is_the_covariance_over_both_deviations():
    assert pearson([1, 2, 3], [2, 4, 6]) == 1.0
    assert pearson([1, 2, 3], [3, 2, 1]) == -1.0
    # Deviations (-1, 0, 1) and (0, -1, 1): 1 / sqrt(2 * 2).
    assert pearson([1, 2, 3], [2, 1, 3]) == pytest.approx(0.5)
    assert pearson([1, -1, 0, 0], [0, 0, 1, -1]) == 0.0


def test_spearman_hears_the_order_alone():
    assert spearman([1, 2, 3, 4], [1, 10, 100, 1000]) == 1.0 > pearson([1, 2, 3, 4], [1, 10, 100, 1000])
    # Without ties 1 - 6 sum(d^2) / (n (n^2 - 1)): d = (1, -1, 0, 0, 0), n = 5.
    assert spearman([1, 2, 3, 4, 5], [20, 10, 30, 40, 50]) == pytest.approx(1 - 6 * 2 / (5 * 24))
    # With ties: ranks (1.5, 1.5, 3) against (1, 2, 3), deviations (-.5, -.5, 1) and (-1, 0, 1).
    assert spearman([5, 5, 9], [1, 2, 3]) == pytest.approx(1.5 / (1.5 * 2) ** 0.5)


@pytest.mark.parametrize("measure", [pearson, spearman])
def test_what_does_not_vary_correlates_with_nothing(measure):
    assert measure([0.1, 0.1, 0.1], [1, 2, 3]) is None
    assert "same for all policies" in correlation(measure.__name__, [1, 2, 3], [4, 4, 4])["absent"]


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


def test_many_policies_are_weighed_against_drawn_orders():
    x = np.arange(12)
    found = correlation("pearson", x, x)
    assert found["value"] == pytest.approx(1.0) and found["interval"] == pytest.approx([1.0, 1.0])
    assert found["chance"] == 1 / 5040  # its own order alone
    assert found["policies"] == 12


def test_the_interval_holds_the_value_and_narrows_with_more_policies():
    rng = np.random.default_rng(0)
    x = rng.normal(size=8)
    y = x + rng.normal(size=8)
    few, many = correlation("pearson", x, y), correlation("pearson", np.tile(x, 16), np.tile(y, 16))
    assert few["value"] == pytest.approx(many["value"])
    for found in (few, many):
        assert found["interval"][0] < found["value"] < found["interval"][1]
    widths = [found["interval"][1] - found["interval"][0] for found in (few, many)]
    assert widths[1] < widths[0] / 2  # about a quarter for 16 times as many
    assert few == correlation("pearson", x, y) != correlation("pearson", x, y, seed=1)


def test_a_rank_violation_costs_the_difference_of_the_true_values():
    assert rank_violation([1, 2, 3], [10, 20, 30]) == 0.0
    # The first two are in the wrong order, which costs each of them 10; the third is right.
    assert rank_violation([2, 1, 3], [10, 20, 30]) == pytest.approx(20 / 3)
    # All wrong: the ends lose 20, the middle 10.
    assert rank_violation([3, 2, 1], [10, 20, 30]) == pytest.approx(50 / 3)

"""Intervals: printed tables and hand-made numbers."""

import math

import numpy as np
import pytest

from worldmodel.statistics import (
    difference_with_interval,
    grouped_mean_with_interval,
    grouped_share_interval,
    mean_with_interval,
    ratio_with_interval,
    share_interval,
    t_quantile,
)

# Two-sided Student-t quantiles as printed in statistics tables.
TABLE = [
    (0.95, 1, 12.706),
    (0.95, 2, 4.303),
    (0.95, 3, 3.182),
    (0.95, 4, 2.776),
    (0.95, 5, 2.571),
    (0.95, 10, 2.228),
    (0.95, 29, 2.045),
    (0.95, 30, 2.042),
    (0.95, 100, 1.984),
    (0.95, 500, 1.965),
    (0.95, 1_000_000, 1.960),
    (0.99, 1, 63.657),
    (0.99, 9, 3.250),
    (0.99, 1000, 2.581),
    (0.90, 2, 2.920),
    (0.90, 3, 2.353),
]


@pytest.mark.parametrize(("confidence", "degrees_of_freedom", "expected"), TABLE)
def test_t_quantile_equals_the_printed_table(confidence, degrees_of_freedom, expected):
    assert t_quantile(confidence, degrees_of_freedom) == pytest.approx(expected, abs=5.1e-4)


def test_t_quantile_of_two_degrees_of_freedom_equals_its_closed_form():
    p = 0.37
    assert t_quantile(p, 2) == pytest.approx(p * math.sqrt(2 / (1 - p**2)), abs=1e-12)


def test_mean_with_interval_equals_a_sum_by_hand():
    mean, half_width = mean_with_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    # Standard deviation sqrt(2.5), five values, t(4) = 2.7764.
    assert mean == 3.0
    assert half_width == pytest.approx(2.7764 * math.sqrt(2.5 / 5), abs=1e-4)


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for sample in rng.normal(7.0, 3.0, size=(2000, 4)):
        mean, half_width = mean_with_interval(sample)
        hits += abs(mean - 7.0) <= half_width
    assert 0.935 < hits / 2000 < 0.965  # a normal quantile (1.96) would cover 0.85


def test_equal_values_have_no_width_and_one_value_has_no_bound():
    assert mean_with_interval([2.0, 2.0]) == (2.0, 0.0)
    assert mean_with_interval([2.0]) == (2.0, math.inf)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [[1.0, 2.0]]])
def test_values_without_a_mean_are_refused(values):
    with pytest.raises(ValueError, match="finite numbers"):
        mean_with_interval(values)


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="confidence"):
        t_quantile(1.0, 3)
    with pytest.raises(ValueError, match="degrees_of_freedom"):
        t_quantile(0.95, 0)


def test_groups_of_equal_size_count_by_their_means():
    values, groups = [1.0, 3.0, 5.0, 5.0, 8.0, 8.0], [4, 4, 7, 7, 9, 9]
    assert grouped_mean_with_interval(values, groups) == pytest.approx(mean_with_interval([2.0, 5.0, 8.0]))
    assert grouped_mean_with_interval(values, range(6)) == pytest.approx(mean_with_interval(values))
    assert grouped_mean_with_interval(values, [1] * 6) == (5.0, math.inf)


def test_the_interval_over_groups_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(15), np.arange(15) % 3 + 1)
    hits = alone = 0
    for _ in range(1000):
        values = 7.0 + rng.normal(size=15)[groups] + 0.3 * rng.normal(size=len(groups))
        mean, half_width = grouped_mean_with_interval(values, groups)
        hits += abs(mean - 7.0) <= half_width
        alone += abs(mean - 7.0) <= mean_with_interval(values)[1]
    assert 0.92 < hits / 1000 < 0.97 and alone / 1000 < 0.87


def test_groups_that_are_not_one_for_each_value_are_refused():
    with pytest.raises(ValueError, match="an entry for each of 3 values"):
        grouped_mean_with_interval([1.0, 2.0, 3.0], [1, 2])


@pytest.mark.parametrize("confidence", [0.0, 1.0, 1.5, 95, -0.5])
def test_a_confidence_that_is_no_probability_is_refused_whatever_the_values(confidence):
    for interval in (
        lambda: mean_with_interval([1.0], confidence),
        lambda: difference_with_interval([1.0, 1.0], [2.0, 2.0], confidence),
        lambda: difference_with_interval([1.0], [2.0, 2.0], confidence),
        lambda: share_interval(1, 2, confidence),
    ):
        with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\)"):
            interval()


def test_the_difference_of_two_means_follows_welch():
    # Means 3 and 1, variances 1 and 4 of 3 and 5 values: squared errors 1/3 and 4/5.
    first, second = [2.0, 3.0, 4.0], [-1.0, -1.0, 1.0, 3.0, 3.0]
    difference, half_width = difference_with_interval(first, second)
    errors = 1 / 3, 4 / 5
    degrees = sum(errors) ** 2 / (errors[0] ** 2 / 2 + errors[1] ** 2 / 4)  # 5.96, rounded down
    assert difference == pytest.approx(2.0) and 5 < degrees < 6
    assert half_width == pytest.approx(2.571 * sum(errors) ** 0.5, rel=1e-3)
    assert difference_with_interval(second, first) == (-difference, half_width)


def test_nothing_is_known_of_the_difference_to_a_single_value():
    assert difference_with_interval([1.0, 2.0], [5.0]) == (-3.5, math.inf)
    assert difference_with_interval([1.0, 1.0], [5.0, 5.0]) == (-4.0, 0.0)


@pytest.mark.parametrize(
    # Printed by Newcombe 1998, table I.
    ("hits", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_shares_have_wilsons_interval(hits, trials, low, high):
    assert share_interval(hits, trials) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("hits", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_shares_are_refused(hits, trials):
    with pytest.raises(ValueError, match="at least one trial"):
        share_interval(hits, trials)


# --- ratios


def test_a_share_over_groups_of_one_is_wilsons_but_for_students_t():
    hits = np.arange(2000) < 300
    low, high = share_interval(300, 2000)
    assert grouped_share_interval(hits, np.arange(2000)) == pytest.approx((low, high), abs=1e-4)
    assert grouped_share_interval(np.zeros(2000, bool), np.arange(2000)) == pytest.approx(
        share_interval(0, 2000), abs=1e-5
    )


def test_the_interval_of_a_share_over_groups_covers_the_true_one_as_often_as_it_says():
    rng, covered, alone = np.random.default_rng(0), 0, 0
    groups = np.repeat(np.arange(20), 40)
    for _ in range(400):
        hits = rng.random(800) < rng.beta(2, 8, 20)[groups]  # 0.2 on average
        low, high = grouped_share_interval(hits, groups)
        assert 0 <= low < hits.mean() < high <= 1
        covered += low < 0.2 < high
        low, high = share_interval(int(hits.sum()), 800)
        alone += low < 0.2 < high
    assert 0.92 < covered / 400 < 0.98 and alone / 400 < 0.7


def test_a_single_group_says_nothing_of_a_share():
    assert grouped_share_interval([True, False, False], [4, 4, 4]) == (0.0, 1.0)


def test_a_ratio_of_means_has_fiellers_interval():
    """Means 6 and 3 of three pairs, variances 1 and 1, covariance -0.5."""
    ratio, low, high = ratio_with_interval([6, 7, 5], [2, 3, 4], confidence=0.5)
    t = t_quantile(0.5, 2)
    variance, covariance = 1 / 3, -0.5 / 3
    a = 9 - t * t * variance
    b = 18 - t * t * covariance
    c = 36 - t * t * variance
    assert ratio == pytest.approx(2.0)
    assert [low, high] == pytest.approx([(b - s * math.sqrt(b * b - a * c)) / a for s in (1, -1)])


def test_a_ratio_of_rates_is_of_all_over_all():
    ratio, low, high = ratio_with_interval([1, 1, 1, 1], [1, 1, 1, 1], [10, 20, 10, 20], [5, 5, 6, 5])
    assert ratio == pytest.approx((4 / 60) / (4 / 21)) and low < ratio < high


@pytest.mark.parametrize("count", [10, 30])
def test_the_interval_of_a_ratio_covers_the_true_one_as_often_as_it_says(count):
    rng = np.random.default_rng(0)
    means, rates = 0, 0
    for _ in range(800):
        shared = rng.gamma(4, 10, count)  # what a pair has in common
        dream, real = shared + rng.gamma(2, 20, count), shared + rng.gamma(2, 10, count)
        _, low, high = ratio_with_interval(dream, real)
        means += low <= 80 / 60 <= high
        _, low, high = ratio_with_interval(np.ones(count), np.ones(count), dream, real)
        rates += low <= 60 / 80 <= high
    assert 0.92 < means / 800 < 0.975 and 0.92 < rates / 800 < 0.975


def test_what_a_pair_has_in_common_makes_the_interval_narrower():
    first, second = [10.0, 21.0, 30.0, 41.0], [5.0, 10.0, 15.0, 20.0]
    _, low, high = ratio_with_interval(first, second)
    _, wide_low, wide_high = ratio_with_interval(first, second[::-1])
    assert high - low < (wide_high - wide_low) / 5


def test_a_ratio_to_a_value_not_distinct_from_0_is_absent():
    assert ratio_with_interval([1.0, 2.0, 3.0], [-1.0, 0.0, 1.5]) is None
    assert ratio_with_interval([1.0, 2.0], [0.0, 0.0]) is None
    assert ratio_with_interval([1.0], [1.0]) is None
    assert ratio_with_interval([0.0, 0.0], [1.0, 1.0]) == (0.0, 0.0, 0.0)
    assert ratio_with_interval([-2.0, -2.0], [-1.0, -1.0]) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], [1.0]), "two lists, and their steps, of equal length"),
        (([], []), "two lists, and their steps, of equal length"),
        (([1.0, math.nan], [1.0, 1.0]), "finite numbers"),
        (([1.0, 1.0], [1.0, 1.0], [0, 0], [1, 1]), "and steps above 0"),
    ],
)
def test_values_without_a_ratio_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ratio_with_interval(*arguments)

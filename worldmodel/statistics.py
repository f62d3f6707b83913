"""Means, differences, ratios and shares with confidence intervals; every "±" in the project is computed here."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def mean_with_interval(values: Sequence[float] | NDArray[np.number], confidence: float = 0.95) -> tuple[float, float]:
    """Mean of independent measurements and the half width of its Student-t confidence interval.

    Args:
        values: K measurements (returns of episodes, results of seeds), 1-D, finite.
        confidence: probability that the interval covers the true mean, in (0, 1).

    Returns:
        (mean, half_width) in the unit of `values`; the half width is infinite for a single value.

    Raises:
        ValueError: if `values` is empty, not 1-D or not finite, or `confidence` not in (0, 1).

    Example:
        >>> from worldmodel.statistics import mean_with_interval
        >>> mean, half_width = mean_with_interval([4.0, 5.0, 6.0])
        >>> f"{mean:.1f} ± {half_width:.1f}"
        '5.0 ± 2.5'
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"values must be a non-empty 1-D list of finite numbers, got {values!r}")
    _check_confidence(confidence)
    if array.size == 1:
        return float(array[0]), math.inf
    standard_error = array.std(ddof=1) / math.sqrt(array.size)
    return float(array.mean()), float(t_quantile(confidence, array.size - 1) * standard_error)


def grouped_mean_with_interval(
    values: Sequence[float] | NDArray[np.number], groups: Sequence[int] | NDArray[np.integer], confidence: float = 0.95
) -> tuple[float, float]:
    """`mean_with_interval` of measurements that are independent only between groups, such as clips of the same episode.

    `groups` (K,) names the group of each measurement. For groups of equal size this is `mean_with_interval` of the
    groups' means; otherwise they are weighted by size (the ratio estimator of cluster sampling: Cochran, Sampling
    Techniques, 3rd edition, section 9A.1).

    Returns: (mean, half_width); the half width is infinite for a single group.
    """
    mean, _ = mean_with_interval(values, confidence)
    if np.shape(groups) != np.shape(values):
        raise ValueError(f"groups must have an entry for each of {len(values)} values, got shape {np.shape(groups)}")
    indices = np.unique(np.asarray(groups), return_inverse=True)[1]
    off = np.bincount(indices, np.asarray(values, np.float64) - mean)  # (groups,) sums of the deviations
    if len(off) == 1:
        return mean, math.inf
    error = math.sqrt(float((off * off).sum()) * len(off) / (len(off) - 1)) / len(values)
    return mean, t_quantile(confidence, len(off) - 1) * error


def difference_with_interval(
    first: Sequence[float] | NDArray[np.number], second: Sequence[float] | NDArray[np.number], confidence: float = 0.95
) -> tuple[float, float]:
    """Mean of `first` minus mean of `second`, independent samples, and the half width of Welch's t-interval.

    Args:
        first, second: as `values` of `mean_with_interval`; sizes and variances may differ.

    Returns:
        (difference, half_width); the half width is infinite if either has a single value.
    """
    difference = mean_with_interval(first, confidence)[0] - mean_with_interval(second, confidence)[0]
    if min(len(first), len(second)) < 2:
        return difference, math.inf
    errors = [float(np.var(values, ddof=1)) / len(values) for values in (first, second)]  # squared standard errors
    if not any(errors):
        return difference, 0.0
    parts = [error**2 / (len(values) - 1) for error, values in zip(errors, (first, second), strict=True)]
    degrees = int(sum(errors) ** 2 / sum(parts))  # rounded down: too wide rather than too narrow
    return difference, t_quantile(confidence, max(degrees, 1)) * math.sqrt(sum(errors))


def ratio_with_interval(
    first: Sequence[float] | NDArray[np.number],
    second: Sequence[float] | NDArray[np.number],
    first_steps: Sequence[float] | NDArray[np.number] | None = None,
    second_steps: Sequence[float] | NDArray[np.number] | None = None,
    confidence: float = 0.95,
) -> tuple[float, float, float] | None:
    """Ratio of two means, or of two rates, over K pairs of episodes, and its interval (ratio, low, high).

    Fieller's interval (J. R. Stat. Soc. B 16, 1954) with Student's t of K - 1 degrees of freedom. A rate is the sum of
    `first` over the sum of `first_steps`, with its linearised error. Entries of the same index form a pair, whose
    correlation makes the interval narrower.

    Returns: None if the second mean or rate is not significantly different from 0, so that the ratio is unbounded.
    """
    sides = []
    for amounts, steps in ((first, first_steps), (second, second_steps)):
        amount = np.asarray(amounts, np.float64)
        step = np.ones_like(amount) if steps is None else np.asarray(steps, np.float64)
        if amount.ndim != 1 or not amount.size or step.shape != amount.shape or len(amount) != len(first):
            raise ValueError(f"a ratio needs two lists, and their steps, of equal length, got {first!r}, {second!r}")
        if not (np.isfinite(amount).all() and np.isfinite(step).all() and step.sum() > 0):
            raise ValueError(f"a ratio needs finite numbers and steps above 0, got {amounts!r} over {steps!r}")
        rate = amount.sum() / step.sum()
        sides.append((rate, (amount - rate * step) / step.mean()))
    (a, off_a), (b, off_b) = sides
    count = len(off_a)
    if count < 2:
        return None
    t2 = t_quantile(confidence, count - 1) ** 2 / (count * (count - 1))
    square, product, rest = b * b - t2 * (off_b @ off_b), a * b - t2 * (off_a @ off_b), a * a - t2 * (off_a @ off_a)
    if square <= 0.0:
        return None
    reach = math.sqrt(max(product * product - square * rest, 0.0))
    return float(a / b), float((product - reach) / square), float((product + reach) / square)


def share_interval(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval (low, high) of a share; it stays in [0, 1] and has a width even without any hits."""
    from scipy.stats import binomtest  # takes most of a second to import

    if not 0 <= hits <= trials or not trials:
        raise ValueError(f"a share needs at least one trial and hits in [0, trials], got {hits} of {trials}")
    _check_confidence(confidence)
    low, high = binomtest(hits, trials).proportion_ci(confidence, method="wilson")
    return float(low), float(high)


def grouped_share_interval(
    hits: Sequence[bool] | NDArray[np.bool_], groups: Sequence[int] | NDArray[np.integer], confidence: float = 0.95
) -> tuple[float, float]:
    """`share_interval` of trials that are independent only between groups, such as steps of the same episode.

    Wilson's interval for as many independent trials as would make the share as uncertain as it is over the groups (at
    most as many as there are), with Student's t in place of the normal quantile (Korn and Graubard, Survey Methodology
    24, 1998, with Wilson's interval in place of Clopper and Pearson's). Without hits, or with nothing else, all trials
    count as independent.

    Args:
        hits: (K,) whether each trial was one.
        groups: (K,) group of each trial.

    Returns: (low, high); (0, 1) for a single group.
    """
    trials = np.asarray(hits, np.float64)
    share, half_width = grouped_mean_with_interval(trials, groups, confidence)
    if math.isinf(half_width):
        return 0.0, 1.0
    t, count = t_quantile(confidence, len(np.unique(np.asarray(groups))) - 1), float(len(trials))
    if half_width > 0.0 and 0.0 < share < 1.0:
        count = min(count, share * (1 - share) * (t / half_width) ** 2)
    middle, spread = share + t * t / (2 * count), t * math.sqrt(share * (1 - share) / count + (t / (2 * count)) ** 2)
    scale = 1 + t * t / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def t_quantile(confidence: float, degrees_of_freedom: int) -> float:
    """The t for which P(|T| <= t) = `confidence` under Student's t with this number of degrees of freedom."""
    from scipy.special import stdtrit

    _check_confidence(confidence)
    if degrees_of_freedom < 1:
        raise ValueError(f"degrees_of_freedom must be at least 1, got {degrees_of_freedom}")
    return float(stdtrit(degrees_of_freedom, (1.0 + confidence) / 2.0))


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")

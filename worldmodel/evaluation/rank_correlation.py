"""Agreement of two measurements of the same policies: correlations, their uncertainty, and the cost of relying on one.

Letters: n policies.
"""

import math
from collections.abc import Sequence
from itertools import permutations
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Values = Sequence[float] | NDArray[np.number]  # (n,)
Floats = NDArray[np.float64]

_LEAST = 3  # policies; two always lie on a line
_LEAST_FOR_INTERVAL = 5  # with fewer, the interval is nearly [-1, 1]
_Z = NormalDist().inv_cdf(0.975)
_ORDERS = 5040  # maximum number of permutations: all of them for up to 7 policies


def pearson(x: Values, y: Values) -> float | None:
    """Correlation of the values, in [-1, 1]; None if one of them does not vary."""
    value = float(_correlate(np.asarray(x, np.float64), np.asarray(y, np.float64)))
    return None if math.isnan(value) else value


def spearman(x: Values, y: Values) -> float | None:
    """Correlation of the ranks, in [-1, 1]: 1 if both order the policies equally."""
    return pearson(rankdata(x), rankdata(y))


def rank_violation(guess: Values, truth: Values) -> float:
    """Worst-case loss in truth from believing the guess which of two policies is better, averaged over policies.

    Source: the mean maximum rank violation of arXiv:2405.05941.
    """
    guess, truth = np.asarray(guess, np.float64), np.asarray(truth, np.float64)
    wrong = (guess[:, None] < guess) != (truth[:, None] < truth)
    return float((np.abs(truth[:, None] - truth) * wrong).max(1).mean())


def correlation(kind: Literal["pearson", "spearman"], x: Values, y: Values, seed: int = 0) -> dict[str, Any]:
    """A correlation over n policies and its uncertainty.

    Returns: "value"; "interval", [low, high], its 95 % interval (`fisher_interval`), None below 5 policies; "chance",
    the share of permutations of y that correlate with x at least as much; "policies", n. Or {"absent": reason}.
    Raises: ValueError unless x and y are equally many finite values.
    """
    first, second = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if first.ndim != 1 or first.shape != second.shape or not np.isfinite([first, second]).all():
        raise ValueError(f"a correlation is between two lists (n,) of finite numbers, got {x!r} and {y!r}")
    count = len(first)
    if count < _LEAST:
        return {"absent": f"a correlation needs at least {_LEAST} policies, and there are {count}"}

    def transform(values: Floats) -> Floats:
        return rankdata(values) if kind == "spearman" else values

    value = float(_correlate(transform(first), transform(second)))
    if math.isnan(value):
        return {"absent": "all policies have the same value"}
    rng = np.random.default_rng(seed)
    orders = transform(second)[_orders(count, rng)]
    agreeing = _correlate(transform(first), orders) >= value - 1e-9  # minus the rounding of sums in another order
    interval = list(fisher_interval(kind, value, count)) if count >= _LEAST_FOR_INTERVAL else None
    return {"value": value, "interval": interval, "chance": float(agreeing.mean()), "policies": count}


def fisher_interval(kind: Literal["pearson", "spearman"], value: float, count: int) -> tuple[float, float]:
    """The 95 % interval (low, high) of a correlation over `count` > 3 policies, which contains the value.

    Fisher's z with the standard error 1 / sqrt(n - 3), for ranks Bonett and Wright's sqrt((1 + r^2 / 2) / (n - 3))
    (Psychometrika 65, 2000). A perfect correlation would have an interval of width 0 even with few policies; instead it
    gets the interval of the next lower value, with two neighbours swapped, extended to its own value.
    """
    lesser = 1 - 12 / (count**3 - count)  # Spearman's correlation with two neighbours swapped
    perfect = abs(value) > (lesser if kind == "spearman" else 1 - 1e-9)
    middle = math.copysign(lesser, value) if perfect else value
    error = math.sqrt((1 + middle**2 / 2 if kind == "spearman" else 1) / (count - 3))
    low, high = (math.tanh(math.atanh(middle) + sign * _Z * error) for sign in (-1, 1))
    return (low, max(high, value)) if value > 0 else (min(low, value), high)


def _correlate(x: Floats, y: Floats) -> Floats:
    """Pearson's correlation of (..., n) and (..., n); NaN where one does not vary."""
    a, b = (values - values.mean(-1, keepdims=True) for values in (x, y))
    size = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    # Equal values may differ from their mean by rounding.
    varies = (np.ptp(x, -1) > 0) & (np.ptp(y, -1) > 0) & (size > 0)
    return np.where(varies, np.clip((a * b).sum(-1) / np.where(size > 0, size, 1.0), -1.0, 1.0), np.nan)


def _orders(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Permutations of `count` items, including the identity: all of them, or a random sample."""
    if math.factorial(count) <= _ORDERS:
        return np.array(list(permutations(range(count))))
    return np.stack([np.arange(count), *(rng.permutation(count) for _ in range(_ORDERS - 1))])

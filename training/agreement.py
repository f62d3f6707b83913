"""Do two measurements of the same policies agree: correlations, how sure they are, and what trusting one of them costs.

Letters: n policies.
"""

import math
from collections.abc import Sequence
from itertools import permutations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Values = Sequence[float] | NDArray[np.number]  # (n,)
Floats = NDArray[np.float64]

_LEAST = 3  # policies; two always lie on a line
_DRAWS = 2000  # of the bootstrap
_ORDERS = 5040  # permutations that are tried: all of them for up to 7 policies


def pearson(x: Values, y: Values) -> float | None:
    """Correlation of the values, in [-1, 1]; None if one of them does not vary."""
    value = float(_correlate(np.asarray(x, np.float64), np.asarray(y, np.float64)))
    return None if math.isnan(value) else value


def spearman(x: Values, y: Values) -> float | None:
    """Correlation of the ranks, in [-1, 1]: 1 if both put the policies in the same order."""
    return pearson(ranks(x), ranks(y))


def ranks(values: Values) -> Floats:
    """(..., n) ranks from 1; equal values share their mean rank."""
    values = np.asarray(values, np.float64)
    ours, others = values[..., :, None], values[..., None, :]
    return (ours > others).sum(-1) + (ours == others).sum(-1) / 2 + 0.5


def rank_violation(guess: Values, truth: Values) -> float:
    """How much truth is lost, at worst, by believing the guess which of two policies is better; mean over policies.

    Source: the mean maximum rank violation of arXiv:2405.05941.
    """
    guess, truth = np.asarray(guess, np.float64), np.asarray(truth, np.float64)
    wrong = (guess[:, None] < guess) != (truth[:, None] < truth)
    return float((np.abs(truth[:, None] - truth) * wrong).max(1).mean())


def correlation(kind: Literal["pearson", "spearman"], x: Values, y: Values, seed: int = 0) -> dict[str, Any]:
    """A correlation over n policies and how sure it is.

    Returns: "value"; "interval", [low, high], which holds 95 % of the values if policies are drawn with replacement;
    "chance", the share of all orders of y that correlate with x at least as much; "policies", n. Or {"absent": why}.
    """
    first, second = np.asarray(x, np.float64), np.asarray(y, np.float64)
    count = len(first)
    if count < _LEAST:
        return {"absent": f"a correlation needs at least {_LEAST} policies, and there are {count}"}

    def look(values: Floats) -> Floats:
        return ranks(values) if kind == "spearman" else values

    value = float(_correlate(look(first), look(second)))
    if math.isnan(value):
        return {"absent": "it is the same for all policies"}
    rng = np.random.default_rng(seed)
    picks = rng.integers(count, size=(_DRAWS, count))
    low, high = np.nanquantile(_correlate(look(first[picks]), look(second[picks])), (0.025, 0.975)).tolist()
    orders = look(second)[_orders(count, rng)]
    agreeing = _correlate(look(first), orders) >= value - 1e-9  # less the rounding of sums in another order
    return {"value": value, "interval": [low, high], "chance": float(agreeing.mean()), "policies": count}


def _correlate(x: Floats, y: Floats) -> Floats:
    """Pearson's correlation of (..., n) and (..., n); NaN where one does not vary."""
    a, b = (values - values.mean(-1, keepdims=True) for values in (x, y))
    size = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    # Equal values may differ from their mean, by its rounding.
    varies = (np.ptp(x, -1) > 0) & (np.ptp(y, -1) > 0) & (size > 0)
    return np.where(varies, np.clip((a * b).sum(-1) / np.where(size > 0, size, 1.0), -1.0, 1.0), np.nan)


def _orders(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Orders of `count` things, the given one among them: all that there are, or a draw of them."""
    if math.factorial(count) <= _ORDERS:
        return np.array(list(permutations(range(count))))
    return np.stack([np.arange(count), *(rng.permutation(count) for _ in range(_ORDERS - 1))])

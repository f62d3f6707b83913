"""Survival curves of episodes, some of which were cut off before they ended."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def survival_curve(
    lengths: Sequence[int] | NDArray[np.integer], terminated: Sequence[bool] | NDArray[np.bool_], steps: int
) -> NDArray[np.float64]:
    """Share of episodes that are alive after 0, 1, … `steps` steps: (steps + 1,), starting at 1.

    An episode that was cut off counts as alive up to the cut and is then removed (Kaplan and Meier 1958). NaN after the
    step at which the last one was cut off, because what would have followed is unknown.

    Args:
        lengths: (K,) number of steps of each episode, at least 1.
        terminated: (K,) whether it ended there, rather than being cut off.
    """
    lengths, terminated = np.asarray(lengths, np.int64), np.asarray(terminated, bool)
    if lengths.ndim != 1 or lengths.shape != terminated.shape or not len(lengths) or lengths.min() < 1:
        raise ValueError(f"needs the steps, at least 1, and the end of each episode, got {lengths} and {terminated}")
    after = np.arange(1, steps + 1)[:, None]
    seen = (lengths >= after).sum(1)
    ended = ((lengths == after) & terminated).sum(1)
    curve = np.cumprod(np.where(seen, 1.0 - ended / np.maximum(seen, 1), np.nan))
    # If all episodes have ended, the curve stays at 0; only cut-off episodes leave it unknown.
    curve[np.isnan(curve) & bool(terminated[lengths == lengths.max()].all())] = 0.0
    return np.concatenate(([1.0], curve))


def survival_gap(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Largest distance of two curves of equal length, in [0, 1], over the steps at which both are known."""
    return float(np.nanmax(np.abs(first - second)))

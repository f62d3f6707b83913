"""Starts of dreams from recorded play: how its episodes begin, and segments from all times within them.

An agent begins its episodes where the game does, and reaches times that few recorded episodes reach. Dreams from
random positions alone show it neither.

Letters: K starts, P places.
"""

import numpy as np
from numpy.typing import NDArray

from worldmodel.model import Starts
from worldmodel.training.code_segments import CodeStore

_TIMES = 10  # parts of equal length of the time within episodes, from each of which equally many starts are drawn


def pick_starts(codes: CodeStore, count: int, steps: int, first_steps: int = 1, seed: int = 0) -> Starts:
    """Half of `count` starts from the middle of play, half (`Starts.first`) of episodes' first steps; at least one.

    No start twice: there are fewer if the split has fewer.

    Args:
        steps: of a start from the middle.
        first_steps: of one at an episode's beginning.
    """
    rng = np.random.default_rng(seed)
    beginnings = np.flatnonzero(codes.lengths >= first_steps)
    if not len(beginnings) or not (codes.lengths >= steps).any():
        raise ValueError(
            f"no episode has the {max(steps, first_steps)} steps of a start segment; lower start_steps or collect "
            "longer ones"
        )
    num_first = max(count // 2, 1)
    episode = rng.permutation(beginnings)[:num_first]
    first = _cut(codes, episode, np.zeros_like(episode), first_steps)
    middle = _spread_in_time(codes.lengths, max(count - num_first, 1), steps, rng)
    return _cut(codes, *middle, steps)._replace(first=first)


def _spread_in_time(
    lengths: NDArray[np.int64], count: int, steps: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Episodes and first steps of segments, (K,) each: equally many of each part of the time, as far as it has them."""
    places = np.maximum(lengths - steps + 1, 0)
    episode = np.repeat(np.arange(len(lengths)), places)
    start = np.arange(len(episode)) - np.repeat(np.cumsum(places) - places, places)
    shuffled = rng.permutation(len(episode))
    episode, start = episode[shuffled], start[shuffled]
    time = start * _TIMES // (start.max() + 1)
    by_time = np.argsort(time, kind="stable")
    turn = np.empty_like(time)  # (P,) of each place within its part of the time
    turn[by_time] = np.arange(len(time)) - np.searchsorted(time[by_time], time[by_time])
    chosen = np.argsort(turn, kind="stable")[:count]
    return episode[chosen], start[chosen]


def _cut(codes: CodeStore, episode: NDArray[np.int64], start: NDArray[np.int64], steps: int) -> Starts:
    batch = codes.cut(episode, start, steps)
    return Starts(batch.codes[:, :-1], batch.actions[:, :-1], batch.signals[:, :-1])

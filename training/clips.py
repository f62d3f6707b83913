"""Held-out clips to measure on: all different while there are any, from as many episodes as there are.

Letters: K starts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.data import EpisodeStorage, SegmentId


def draw_clips(store: EpisodeStorage, n: int, num_steps: int, rng: np.random.Generator, split: str) -> list[SegmentId]:
    """`n` segments of `num_steps` steps in random order: one of every play, then a second one of each, and so on.

    Several views of the same play count as one. None comes twice before all have come.

    Raises: ValueError if no episode of the split is long enough.
    """
    starts = store.starts(num_steps, split)
    if not len(starts):
        store.sample_ids(1, num_steps, rng, split)  # raises, and says what is missing
    return _spread(starts, n, num_steps, rng, store.plays)


class Floor(NamedTuple):
    """Real clips to hold against the real clips, and where they come from."""

    segments: list[SegmentId]  # empty if there are too few
    source: str  # "of 40 other episodes"; or why there are none


def other_clips(
    store: EpisodeStorage, real: Sequence[SegmentId], num_steps: int, rng: np.random.Generator, split: str
) -> Floor:
    """As many different clips as there are real ones, of other plays of the split.

    If these hold too few, clips of the same plays are taken that share no moment with a real one.
    """
    starts, plays = store.starts(num_steps, split), store.plays
    others = starts[~np.isin(plays[starts[:, 0]], plays[[segment.episode for segment in real]])]
    if len(others) >= len(real):
        segments = _spread(others, len(real), num_steps, rng, plays)
        return Floor(segments, f"of {_episodes(segments)} other episodes")
    apart = starts[_apart(starts, num_steps, real, plays)]
    if len(apart) >= len(real):
        segments = _spread(apart, len(real), num_steps, rng, plays)
        return Floor(segments, f"of {_episodes(segments)} episodes, most of them the same, so rather too near")
    return Floor([], f"split {split!r} holds only {len(apart)} other clips of {num_steps} steps; ask for fewer samples")


def _episodes(segments: Sequence[SegmentId]) -> int:
    return len({segment.episode for segment in segments})


def _apart(
    starts: NDArray[np.int64], num_steps: int, real: Sequence[SegmentId], plays: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(K,) whether the frames `start` to `start + num_steps` are in no real segment, nor any of its own in them."""
    free = np.ones(len(starts), bool)
    for episode, start, stop in set(real):
        free &= (plays[starts[:, 0]] != plays[episode]) | (starts[:, 1] > stop) | (starts[:, 1] + num_steps < start)
    return free


def _spread(
    starts: NDArray[np.int64], n: int, num_steps: int, rng: np.random.Generator, plays: NDArray[np.int64]
) -> list[SegmentId]:
    """`n` of the starts (K, 2), K above 0, from the beginning again once all are taken."""
    drawn = rng.permutation(starts)
    play_K = plays[drawn[:, 0]]
    by_play = np.argsort(play_K, kind="stable")
    sorted_K = play_K[by_play]
    turn_K = np.empty(len(drawn), np.int64)  # how many of the same play come before
    turn_K[by_play] = np.arange(len(drawn)) - np.searchsorted(sorted_K, sorted_K)
    order = np.argsort(turn_K, kind="stable")
    chosen = drawn[order[np.arange(n) % len(order)]]
    return [SegmentId(episode, start, start + num_steps) for episode, start in chosen.tolist()]

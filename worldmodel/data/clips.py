"""Draw clips from a store: frames to train on, and held-out clips that are all different while enough exist.

Letters: K starts, F frames of a step, H W C pixels.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.counted import counted
from worldmodel.data.episode import SegmentId
from worldmodel.data.storage import EpisodeStorage
from worldmodel.progress import stepwise

_AT_ONCE = 2**26  # numbers that the pixel statistics hold as float64


def sample_frames(store: EpisodeStorage, count: int, rng: np.random.Generator, split: str, length: int = 1) -> Tensor:
    """Draw `count` random clips of `length` consecutive steps: (count, length, F, H, W, C) uint8."""
    places = stepwise(_draw_places(store, count, rng, split, length), "clip", "read frames")
    return torch.from_numpy(np.stack([store.frames(episode)[t : t + length] for episode, t in places]))


def _draw_places(
    store: EpisodeStorage, count: int, rng: np.random.Generator, split: str, length: int
) -> list[tuple[int, int]]:
    """Episode and first step of random clips."""
    episodes = store.split(split)
    if not len(episodes):
        raise ValueError(f"the {split} split of {counted(len(store), 'episode')} is empty; collect more episodes")
    num_starts = [max(0, store.lengths[e] + 2 - length) for e in episodes]
    ends = np.cumsum(num_starts)
    if not ends[-1]:
        longest = max(store.lengths[e] + 1 for e in episodes)
        raise ValueError(
            f"no episode of the {split} split is as long as a clip of {length} steps; the longest has {longest}. "
            "Lower clip_steps or collect longer episodes"
        )
    drawn = rng.integers(ends[-1], size=count)
    which = np.searchsorted(ends, drawn, side="right")
    firsts = drawn - (ends - num_starts)[which]
    return list(zip(episodes[which].tolist(), firsts.tolist(), strict=True))


def pixel_statistics(store: EpisodeStorage, seed: int = 0) -> tuple[tuple[float, ...], float]:
    """Mean per channel and variance of the training pixels, on the [0, 1] scale; estimated from 2,000 random steps.

    Raises: ValueError if these are all of one brightness.
    """
    places = _draw_places(store, 2000, np.random.default_rng(seed), "train", 1)
    size = math.prod(store.info.frame_shape)
    rows, count = max(1, _AT_ONCE // size), len(places) * size

    def pieces() -> Iterator[NDArray[np.uint8]]:
        for first in stepwise(range(0, len(places), rows), "part", "read frames"):
            yield np.stack([store.frames(episode)[t] for episode, t in places[first : first + rows]])

    sums = sum(piece.sum((0, 1, 2, 3), dtype=np.float64) for piece in pieces())
    overall = sums.sum() / count
    deviations = (piece - overall for piece in pieces())
    squares = sum(float(np.square(part, out=part).sum()) for part in deviations)
    if not squares:
        raise ValueError(
            f"all pixels of {len(places):,} steps of {store.root} are {overall:g}, so there is nothing to learn: look "
            "at the recorded frames"
        )
    return tuple((sums / (count // store.info.channels) / 255.0).tolist()), squares / count / 255.0**2


def draw_clips(store: EpisodeStorage, n: int, num_steps: int, rng: np.random.Generator, split: str) -> list[SegmentId]:
    """Draw `n` segments of `num_steps` steps in random order: one from each episode, then a second one, and so on.

    Several views of the same episode count as one. No segment repeats before all have been drawn.

    Raises: ValueError if no episode of the split is long enough.
    """
    starts = store.starts(num_steps, split)
    if not len(starts):
        store.sample_ids(1, num_steps, rng, split)  # raises with the reason
    return _spread(starts, n, num_steps, rng, store.plays)


class Floor(NamedTuple):
    """Further real clips to compare the real clips with (the best score a model can reach), and their source."""

    segments: list[SegmentId]  # empty if there are too few
    source: str  # "of 40 other episodes"; or the reason why there are none


def other_clips(
    store: EpisodeStorage, real: Sequence[SegmentId], num_steps: int, rng: np.random.Generator, split: str
) -> Floor:
    """Draw as many different clips as there are real ones, from other episodes of the split.

    If those hold too few, take clips from the same episodes that share no frame with a real clip.
    """
    starts, plays = store.starts(num_steps, split), store.plays
    others = starts[~np.isin(plays[starts[:, 0]], plays[[segment.episode for segment in real]])]
    if len(others) >= len(real):
        segments = _spread(others, len(real), num_steps, rng, plays)
        return Floor(segments, f"of {_episodes(segments)} other episodes")
    apart = starts[_apart(starts, num_steps, real, plays)]
    if len(apart) >= len(real):
        segments = _spread(apart, len(real), num_steps, rng, plays)
        return Floor(
            segments, f"of {counted(_episodes(segments), 'episode')}, most of them the same, so the floor is too low"
        )
    return Floor([], f"split {split!r} holds only {len(apart)} other clips of {num_steps} steps; ask for fewer samples")


def _episodes(segments: Sequence[SegmentId]) -> int:
    return len({segment.episode for segment in segments})


def _apart(
    starts: NDArray[np.int64], num_steps: int, real: Sequence[SegmentId], plays: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(K,) whether the frames `start` to `start + num_steps` overlap no real segment."""
    free = np.ones(len(starts), bool)
    for episode, start, stop in set(real):
        free &= (plays[starts[:, 0]] != plays[episode]) | (starts[:, 1] > stop) | (starts[:, 1] + num_steps < start)
    return free


def _spread(
    starts: NDArray[np.int64], n: int, num_steps: int, rng: np.random.Generator, plays: NDArray[np.int64]
) -> list[SegmentId]:
    """Choose `n` of the starts (K, 2), K > 0, spread over the episodes; starts over when all are used."""
    drawn = rng.permutation(starts)
    play_K = plays[drawn[:, 0]]
    by_play = np.argsort(play_K, kind="stable")
    sorted_K = play_K[by_play]
    turn_K = np.empty(len(drawn), np.int64)  # how many starts of the same episode come before
    turn_K[by_play] = np.arange(len(drawn)) - np.searchsorted(sorted_K, sorted_K)
    order = np.argsort(turn_K, kind="stable")
    chosen = drawn[order[np.arange(n) % len(order)]]
    return [SegmentId(episode, start, start + num_steps) for episode, start in chosen.tolist()]

"""Split episodes into train, validation and test.

A hash of the episode's id decides, unless the data have a published test split.
"""

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")


def split_of(ids: NDArray[np.int64], test_episodes: int = 0, views: int = 1) -> NDArray[np.int64]:
    """(E,) indices into SPLITS: of ten consecutive ids the one with the largest hash is test, the next validation.

    Args:
        test_episodes: if above 0, the ids below it are the test split and one in ten of the others is for validation.
        views: number of consecutive ids that show the same recording and count as one.
    """
    plays = ids // views
    ten = plays[:, None] // 10 * 10 + np.arange(10)
    larger = (_hash(ten) > _hash(plays)[:, None]).sum(1)
    by_hash = np.where(larger == 0, 2, np.where(larger == 1, 1, 0))
    if not test_episodes:
        return by_hash
    return np.where(ids < test_episodes, 2, np.where(by_hash == 2, 0, by_hash))


def _hash(ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The splitmix64 mixing function (public domain, S. Vigna)."""
    # The salt is chosen so that the first three episodes already cover all three splits.
    mixed = ids.astype(np.uint64) + np.uint64((93 << 40) + 0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))

"""Which episodes are for training, for validation and for the test: decided by a hash of the episode's id."""

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")


def split_of(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """(E,) places in SPLITS: of ten ids in a row, the largest hash is for the test, the next for validation."""
    ten = ids[:, None] // 10 * 10 + np.arange(10)
    larger = (_hash(ten) > _hash(ids)[:, None]).sum(1)
    return np.where(larger == 0, 2, np.where(larger == 1, 1, 0))


def _hash(ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The splitmix64 mixing function (public domain, S. Vigna)."""
    # The salt is chosen so that already the first three episodes cover the three splits.
    mixed = ids.astype(np.uint64) + np.uint64((93 << 40) + 0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))

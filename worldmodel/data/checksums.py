"""Checksums (CRC-32C) of an episode's content.

Every episode has two: one of its steps (actions, rewards, ends, signals, id, length and seed), compared whenever a
store's steps are read, and one of its frames, which are read in place and compared by `check_content`, when a whole
episode is taken out, and when episodes are packed. An episode with labels has a third, of the labels, compared whenever
they are read. Stores of earlier versions have none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray


class Checksums(NamedTuple):
    """CRC-32C of an episode."""

    steps: int
    frames: int
    labels: int | None = None  # None: it has no labels


def checksums(
    columns: Sequence[NDArray], episode_id: int, seed: int | None, labels: NDArray[np.uint8] | None = None
) -> Checksums:
    """Of an episode's columns in the order of `layout`, but for the labels; each contiguous."""
    return Checksums(
        steps_checksum(columns[1:], episode_id, seed),
        google_crc32c.value(columns[0]),
        None if labels is None else google_crc32c.value(labels),
    )


def steps_checksum(columns: Iterable[NDArray], episode_id: int, seed: int | None) -> int:
    """Of all columns but the frames and the labels."""
    columns = list(columns)
    crc = google_crc32c.value(f"episode {episode_id} of {len(columns[0])} steps, seed {seed}".encode())
    for column in columns:
        crc = google_crc32c.extend(crc, np.ascontiguousarray(column))
    return crc


def info_checksum(info: Any) -> int:
    """Of the entry of metadata.json that says what all episodes share."""
    return google_crc32c.value(json.dumps(info, sort_keys=True, separators=(",", ":")).encode())

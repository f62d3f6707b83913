"""Checksums (CRC-32C) of an episode's content.

Every episode has two. The first covers its steps (actions, rewards, ends, signals, id, length and seed) and is verified
whenever a store's steps are read. The second covers its frames, which are memory-mapped; it is verified by
`damage`, when a whole episode is read, and when episodes are packed. An episode with labels has a third one,
verified whenever the labels are read. Stores written by earlier versions have none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray


class Checksums(NamedTuple):
    """CRC-32C checksums of one episode."""

    steps: int
    frames: int
    labels: int | None = None  # None: the episode has no labels


def checksums(
    columns: Sequence[NDArray], episode_id: int, seed: int | None, labels: NDArray[np.uint8] | None = None
) -> Checksums:
    """Checksums of an episode's columns, in the order of `layout` without the labels; each contiguous."""
    return Checksums(
        steps_checksum(columns[1:], episode_id, seed),
        google_crc32c.value(columns[0]),
        None if labels is None else google_crc32c.value(labels),
    )


def steps_checksum(columns: Iterable[NDArray], episode_id: int, seed: int | None) -> int:
    """Checksum of all columns except the frames and the labels."""
    columns = list(columns)
    crc = google_crc32c.value(f"episode {episode_id} of {len(columns[0])} steps, seed {seed}".encode())
    for column in columns:
        crc = google_crc32c.extend(crc, np.ascontiguousarray(column))
    return crc


def info_checksum(info: Any) -> int:
    """Checksum of the entry in metadata.json that holds the StoreInfo."""
    return google_crc32c.value(json.dumps(info, sort_keys=True, separators=(",", ":")).encode())

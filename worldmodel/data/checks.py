"""Checks of an episode's content: its checksums, and the values of its actions, rewards, signals and flags."""

from __future__ import annotations

from collections.abc import Sequence

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from worldmodel.data.checksums import steps_checksum
from worldmodel.data.episode import ActionSpec
from worldmodel.data.layout import Entry


def wrong_steps(entry: Entry, columns: Sequence[NDArray]) -> str:
    """Describe what is wrong with an episode's steps (checksum, end flags); "" if nothing is."""
    if entry.checksums and steps_checksum(columns, entry.id, entry.seed) != entry.checksums.steps:
        return f"holds steps of episode_{entry.id} that do not match their checksum: it was damaged or changed"
    ends = [column.view(np.uint8) for column in columns[2:4]]
    if any(end[:-1].any() or end[-1] > 1 for end in ends):
        return f"holds an end within episode_{entry.id}: terminations and truncations can be true at its last step only"
    if ends[0][-1] and ends[1][-1]:
        return f"marks episode_{entry.id} as both terminated and truncated"
    return ""


def wrong_frames(entry: Entry, frames: NDArray[np.uint8]) -> str:
    """Describe what is wrong with an episode's frames (checksum); "" if nothing is or it has no checksum."""
    if entry.checksums and google_crc32c.value(frames) != entry.checksums.frames:
        return f"holds frames of episode_{entry.id} that do not match their checksum: it was damaged or changed"
    return ""


def wrong_labels(entry: Entry, labels: NDArray[np.uint8], num_classes: int) -> str:
    """Describe what is wrong with an episode's labels (N+1, F, H, W, 2) (checksum, values); "" if nothing is."""
    if entry.checksums and google_crc32c.value(labels) != entry.checksums.labels:
        return f"holds labels of episode_{entry.id} that do not match their checksum: it was damaged or changed"
    classes, objects = labels[..., 0], labels[..., 1]
    if classes.max() > num_classes:
        return f"holds labels of class {classes.max()} in episode_{entry.id}, but metadata.json names {num_classes}"
    if ((classes == 0) != (objects == 0)).any():
        return f"holds labels in episode_{entry.id} with a class and no object, or an object without a class"
    return ""


def wrong_numbers(action: ActionSpec, actions: NDArray, rewards: NDArray, signals: NDArray) -> str:
    """Describe what is wrong with the values of some steps (not finite, outside the action space); "" if nothing is."""
    for name, numbers in (("rewards", rewards), ("signals", signals)):
        if not np.isfinite(numbers).all():
            position = np.argwhere(~np.isfinite(numbers))[0].tolist()
            return f"{name} that are not finite, the first at {position}"
    try:
        action.check(actions)
    except ValueError as error:
        return f"actions that do not fit metadata.json: {error}"
    return ""

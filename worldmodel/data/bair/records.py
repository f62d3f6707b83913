"""BAIR robot pushing: read trajectories from TFRecord files and convert them to episodes.

The archive `bair_robot_pushing_dataset_v0.tar` holds softmotion30_44k/{train,test}/traj_A_to_B.tfrecords with 256
trajectories per file: 30 frames from two cameras, 64 x 64 RGB, with an action (4) and the gripper's position (3) each.

Letters: F frames per step, H W C pixels, N steps, A dimensions of a frame's action.
Source: Ebert et al., Self-Supervised Visual Planning with Temporal Skip Connections (arXiv:1710.05268) for the data;
keys and layout follow public readers (TensorFlow Datasets, bair_robot_pushing_small).
tfds.py reads the records that TFDS writes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.data.bair.files import num_named
from worldmodel.data.bair.shapes import (
    ACTION_SIZE,
    CHANNELS,
    FRAMES,
    FRAMES_PER_SECOND,
    GAME,
    POSITION_SIZE,
    SIZE,
    Camera,
)
from worldmodel.data.bair.tfds import is_tfds, read_tfds
from worldmodel.data.bair.tfrecord import (
    BYTES,
    FLOATS,
    FRAMING,
    KINDS,
    BrokenRecordError,
    Feature,
    Span,
    find_lists,
    read_feature,
    read_records,
)
from worldmodel.data.episode import ActionSpec, Episode, StoreInfo
from worldmodel.data.steps import frames_to_steps, numbers_to_steps, state_frames

POSITION_NAMES = ("GRIPPER_X", "GRIPPER_Y", "GRIPPER_Z")
_ACTION_NAMES = ("dx", "dy", "lift", "grip")
# Bounds of a frame's action, below and above 0. A wide guess: one real clip has ±.07, ±.07, 0 to 3, 0 or 1.
ACTION_LIMIT = (0.5, 0.5, 4.0, 4.0)
_IMAGE_BYTES = SIZE * SIZE * CHANNELS


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trajectory:
    """One recorded trajectory."""

    frames: NDArray[np.uint8]  # (30, 64, 64, 3)
    actions: NDArray[np.float32]  # (30, 4); frame t + 1 follows actions[t]
    positions: NDArray[np.float32]  # (30, 3) of the gripper


def check_numbers(trajectory: Trajectory, action_limit: tuple[float, ...] = ACTION_LIMIT) -> None:
    """Refuse values that are not finite, and actions outside the limit.

    Raises:
        ValueError: a value is not finite; names its key.
        ActionLimitError: an action lies outside the limit; names its key.
    """
    for name, numbers in (("action", trajectory.actions), ("endeffector_pos", trajectory.positions)):
        wrong = np.flatnonzero(~np.isfinite(numbers).all(1))
        if len(wrong):
            raise ValueError(f"'{wrong[0]}/{name}' must be finite numbers, got {numbers[wrong[0]].tolist()}")
    largest = np.abs(trajectory.actions[:-1]).max(0)
    if (largest > np.array(action_limit, np.float32)).any():
        t = int(np.argmax((np.abs(trajectory.actions) > np.array(action_limit, np.float32)).any(1)))
        raise ActionLimitError(
            f"'{t}/action' is {trajectory.actions[t]}, outside the bounds ±{list(action_limit)} that the store would "
            f"state. This trajectory's actions reach ±{largest}: use wider bounds (--action-limit, four numbers) and "
            "another --out"
        )


class ActionLimitError(ValueError):
    """An action lies outside the bounds, so the bounds are wrong rather than the record."""


class Place(NamedTuple):
    """Where a trajectory was read from."""

    path: Path
    record: int
    start: int  # byte offset in the file


def read_trajectories(path: str | Path, camera: Camera) -> Iterator[tuple[Place, Trajectory | BrokenRecordError]]:
    """The trajectories of a file from one camera; a broken one is yielded as the error that describes it."""
    layout = _Layout(camera)
    path = Path(path)
    seen = end = 0
    for index, (start, payload) in enumerate(read_records(path)):
        place, seen = Place(path, index, start), index + 1
        if isinstance(payload, BrokenRecordError):
            yield place, payload
            continue
        end = start + len(payload) + FRAMING
        try:
            yield place, layout.read(payload)
        except ValueError as error:
            yield place, BrokenRecordError(path, index, start, str(error))
    if (named := num_named(path)) and seen < named and path.stat().st_size == end:
        reason = f"the file ends here, after {seen} of {named} trajectories"
        yield Place(path, seen, end), BrokenRecordError(path, seen, end, reason)


class _Layout:
    """Reads the trajectories of one file; parses a record's layout once and then only compares it.

    Records written by TFDS (tfds.py) are recognised by their keys.
    """

    def __init__(self, camera: Camera) -> None:
        self._camera: Camera = camera
        self._images = [f"{t}/image_{camera}/encoded" for t in range(FRAMES)]
        self._actions = [f"{t}/action" for t in range(FRAMES)]
        self._positions = [f"{t}/endeffector_pos" for t in range(FRAMES)]
        self._spans: dict[str, Span] = {}
        self._between: NDArray[np.int64] = np.zeros(0, np.int64)  # positions of all bytes outside values
        self._same: NDArray[np.uint8] = np.zeros(0, np.uint8)  # the bytes at these positions
        self._size = -1

    def read(self, payload: bytes) -> Trajectory:
        raw = np.frombuffer(payload, np.uint8)
        if len(raw) != self._size or not np.array_equal(raw[self._between], self._same):
            features = find_lists(payload)
            if is_tfds(features):
                frames, actions, positions = read_tfds(payload, features, self._camera)
                return Trajectory(frames=frames, actions=actions, positions=positions)
            self._look_up(features, raw)
        images = [payload[slice(*self._spans[key][1:])] for key in self._images]
        return Trajectory(
            frames=np.frombuffer(b"".join(images), np.uint8).reshape(FRAMES, SIZE, SIZE, CHANNELS),
            actions=np.stack([read_feature(payload, self._spans[key]) for key in self._actions]),
            positions=np.stack([read_feature(payload, self._spans[key]) for key in self._positions]),
        )

    def _look_up(self, features: Mapping[str, Sequence[Span]], raw: NDArray[np.uint8]) -> None:
        spans = {key: values[0] for key, values in features.items() if len(values) == 1}
        layout = [
            (self._images, BYTES, _IMAGE_BYTES),
            (self._actions, FLOATS, 4 * ACTION_SIZE),
            (self._positions, FLOATS, 4 * POSITION_SIZE),
        ]
        for keys, kind, size in layout:
            for key in keys:
                if key not in spans:
                    what = "must hold one value" if key in features else "is missing"
                    raise ValueError(f"the key {key!r} {what}")
                found = spans[key].stop - spans[key].start
                if found != size:
                    raise ValueError(f"{key!r} must have {size} bytes, got {found}")
                if spans[key].kind != kind:
                    raise ValueError(f"{key!r} must hold {KINDS[kind]}, got {KINDS[spans[key].kind]}")
        outside = np.ones(len(raw), bool)
        for span in (span for values in features.values() for span in values):
            outside[span.start : span.stop] = False
        self._between = np.flatnonzero(outside)
        self._same, self._size, self._spans = raw[self._between], len(raw), spans


def store_info(frames_per_step: int = 2, action_limit: tuple[float, ...] = ACTION_LIMIT) -> StoreInfo:
    """Description of a store of these trajectories."""
    if len(action_limit) != ACTION_SIZE:
        raise ValueError(f"action_limit must be {ACTION_SIZE} numbers, one per dimension; got {action_limit}")
    spec = ActionSpec(
        kind="box",
        n=ACTION_SIZE * frames_per_step,
        names=tuple(f"{name}_{k}" for k in range(frames_per_step) for name in _ACTION_NAMES),
        low=tuple(-limit for limit in action_limit) * frames_per_step,
        high=tuple(action_limit) * frames_per_step,
        frames=frames_per_step,
    )
    return StoreInfo(
        env_id=GAME,
        frames_per_step=frames_per_step,
        height=SIZE,
        width=SIZE,
        channels=CHANNELS,
        action=spec,
        signal_names=POSITION_NAMES,
        reward="none",
        steps_per_second=FRAMES_PER_SECOND / frames_per_step,
    )


def to_episode(trajectory: Trajectory, frames_per_step: int = 2) -> Episode:
    """Convert a trajectory to an episode: the first frame F times, then F frames per step with their F actions.

    An incomplete last step is padded: its frames with the last frame, its actions with zeros. The action recorded with
    the last frame led to no recorded frame and is dropped.
    """
    actions = numbers_to_steps(trajectory.actions[:-1], frames_per_step)
    return Episode(
        frames=frames_to_steps(trajectory.frames, frames_per_step),
        actions=actions,
        rewards=np.zeros(len(actions), np.float32),
        terminated=False,
        truncated=True,
        signals=trajectory.positions[state_frames(FRAMES, frames_per_step)],
    )


def to_features(cameras: Mapping[str, NDArray[np.uint8]], actions: NDArray, positions: NDArray) -> dict[str, Feature]:
    """Features of a record from the 30 frames of one or both cameras, actions (30, 4) and positions (30, 3)."""
    features: dict[str, Feature] = {}
    for t in range(FRAMES):
        for camera, frames in cameras.items():
            features[f"{t}/image_{camera}/encoded"] = np.ascontiguousarray(frames[t]).tobytes()
        features[f"{t}/action"] = np.asarray(actions[t], np.float32)
        features[f"{t}/endeffector_pos"] = np.asarray(positions[t], np.float32)
    return features

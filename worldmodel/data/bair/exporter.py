"""Export a store of robot pushing as BAIR's TFRecord files, for programs that read those.

Letters: F frames per step, N steps, H W C pixels; a record has 30 frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldmodel.data import EpisodeStorage, StoreInfo, open_stores
from worldmodel.data.bair.records import POSITION_NAMES, to_features
from worldmodel.data.bair.shapes import ACTION_SIZE, CHANNELS, FRAMES, SIZE
from worldmodel.data.bair.tfrecord import make_example, write_records
from worldmodel.data.steps import steps_to_frames
from worldmodel.files import naming_failures
from worldmodel.progress import progress
from worldmodel.replacing import finish_replacing, replacing

PER_FILE = 256  # trajectories
_CAMERAS = ("aux1", "main")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportStats:
    """What an export wrote; print it for a summary."""

    files: list[Path]
    trajectories: dict[str, int]  # count per split
    cut: int  # trajectories of episodes with more frames than a record holds

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {split}" for split, count in self.trajectories.items())
        lines = [f"{counts} trajectories in {len(self.files)} files"]
        if self.cut:
            lines.append(f"{self.cut} of them are the first {FRAMES} frames of longer episodes")
        return "\n".join(lines)


def export_bair(store: EpisodeStorage | str | Path, /, out: str | Path) -> ExportStats:
    """Write a store of robot pushing as BAIR's TFRecord files.

    Files: softmotion30_44k/{train,test}/traj_A_to_B.tfrecords, 256 trajectories each. The test split goes into test,
    training and validation into train. A store of two views, as import-bair makes of both cameras, gives trajectories
    with both; any other store has the same frames as image_aux1 and image_main. The gripper's positions are the signals
    GRIPPER_X, GRIPPER_Y and GRIPPER_Z (of a step, for all its frames), or zero.

    Args:
        store: episodes of at least 30 frames of 64 x 64 x 3, with actions of 4 dimensions for each frame or held for
            the step.
        out: a folder without such files; all of them appear at once, at the end.

    Returns: what was written, which is also printed.

    Raises:
        ValueError: the store has other frames or actions, or an episode is too short.
        FileExistsError: `out` already holds record files.
    """
    store = open_stores(store)
    _check(store.info)
    _check_lengths(store)
    folder = Path(out) / "softmotion30_44k"
    finish_replacing(folder)  # complete an exchange cut short by a kill
    if there := next(folder.glob("*"), None):
        raise FileExistsError(f"{there} already exists: delete it and its neighbours, or choose another out")
    views = store.info.views
    test = set(store.split("test").tolist())
    by_split: dict[str, list[range]] = {"train": [], "test": []}
    for first in range(0, len(store), views):
        by_split["test" if first in test else "train"].append(range(first, first + views))
    steps_kept = -(-(FRAMES - 1) // store.info.frames_per_step)
    files = []
    with replacing(folder) as fresh, progress(len(store) // views, "trajectory", "export") as bar:
        for split, episodes in by_split.items():
            for start in range(0, len(episodes), PER_FILE):
                part = episodes[start : start + PER_FILE]
                name = Path(split, f"traj_{start}_to_{start + len(part) - 1}.tfrecords")
                (fresh / split).mkdir(exist_ok=True)
                with naming_failures(folder / name):
                    write_records(fresh / name, _records(store, part))
                files.append(folder / name)
                bar.update(len(part))
    stats = ExportStats(
        files=files,
        trajectories={split: len(episodes) for split, episodes in by_split.items()},
        cut=sum(length > steps_kept for length in store.lengths[::views]),
    )
    print(stats)
    return stats


def _check(info: StoreInfo) -> None:
    frame, wanted = (info.height, info.width, info.channels), (SIZE, SIZE, CHANNELS)
    if frame != wanted or info.action.kind != "box" or info.views > len(_CAMERAS):
        raise ValueError(
            f"BAIR's records hold frames of {wanted}, continuous actions, and at most {len(_CAMERAS)} views; the store "
            f"has {frame}, {info.action.kind} actions, {info.views} views"
        )
    if info.action.n not in (ACTION_SIZE, ACTION_SIZE * info.frames_per_step):
        raise ValueError(
            f"BAIR's actions have {ACTION_SIZE} dimensions per frame, so {ACTION_SIZE * info.frames_per_step} per step "
            f"of {info.frames_per_step} frames, or {ACTION_SIZE} that are held for it; the store has {info.action.n}"
        )


def _check_lengths(store: EpisodeStorage) -> None:
    if not len(store) or len(store) % store.info.views:
        raise ValueError(f"{store.root} holds {len(store)} episodes of {store.info.views} views: nothing to export")
    for episode, length in enumerate(store.lengths):
        frames = 1 + length * store.info.frames_per_step
        if frames < FRAMES:
            raise ValueError(
                f"episode {episode} has {frames} frames; BAIR's records have {FRAMES}. Collect longer episodes"
            )


def _records(store: EpisodeStorage, trajectories: list[range]) -> Iterator[bytes]:
    for episodes in trajectories:
        cameras = [steps_to_frames(store.frames(episode))[:FRAMES] for episode in episodes]
        pictures = dict(zip(_CAMERAS, cameras * (len(_CAMERAS) // len(cameras)), strict=True))
        actions, positions = _actions(store, episodes[0]), _positions(store, episodes[0])
        yield make_example(to_features(pictures, actions, positions))


def _actions(store: EpisodeStorage, episode: int) -> NDArray[np.float32]:
    """(30, 4): the action from each frame to the next; zero where unknown."""
    actions, per_step = store.actions(episode), store.info.frames_per_step
    if store.info.action.n == ACTION_SIZE:
        actions = np.repeat(actions, per_step, axis=0)
    actions = actions.reshape(-1, ACTION_SIZE)[:FRAMES]
    return np.pad(actions, ((0, FRAMES - len(actions)), (0, 0)))


def _positions(store: EpisodeStorage, episode: int) -> NDArray[np.float32]:
    """(30, 3): every frame of a step gets the position after the step."""
    names = store.info.signal_names
    if not set(POSITION_NAMES) <= set(names):
        return np.zeros((FRAMES, len(POSITION_NAMES)), np.float32)
    positions = store.signals(episode)[:, [names.index(name) for name in POSITION_NAMES]]
    return positions[-(-np.arange(FRAMES) // store.info.frames_per_step)]

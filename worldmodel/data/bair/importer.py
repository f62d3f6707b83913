"""Import BAIR robot pushing into a store: published splits, resumable, and broken records reported.

The test files are read first, so that their episodes get the first ids (`StoreInfo.test_episodes`). After every block
of trajectories a line in `imported.jsonl` records the progress; what a killed import stored beyond it is read again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from worldmodel.counted import counted
from worldmodel.data import EpisodeStorage, StoreInfo
from worldmodel.data.bair.download import fetch_bair
from worldmodel.data.bair.files import find_record_files, label, num_named
from worldmodel.data.bair.journal import Block, check_same_files, note, read_journal
from worldmodel.data.bair.records import (
    ACTION_LIMIT,
    ActionLimitError,
    Trajectory,
    check_numbers,
    read_trajectories,
    store_info,
    to_episode,
)
from worldmodel.data.bair.shapes import Camera
from worldmodel.data.bair.tfrecord import BrokenRecordError
from worldmodel.data.store_settings import open_with_settings
from worldmodel.progress import progress

SETTINGS, JOURNAL = "import_bair.json", "imported.jsonl"
CAMERAS: dict[str, tuple[Camera, ...]] = {"aux1": ("aux1",), "main": ("main",), "both": ("aux1", "main")}
BLOCK = 64  # trajectories stored together
_TEST_ONLY = (
    "all episodes are in the test split, which only measures existing models; training needs the training files too: "
    "import the folder of both into the same store"
)
_LISTED = 20  # broken records that are printed


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportStats:
    """Content of a store after an import; print it for a summary."""

    episodes: int
    splits: dict[str, int]  # episodes per split
    broken: list[str]  # records that were skipped, and why
    new_trajectories: int  # imported by this run
    rate: float  # trajectories per second of this run
    journal: Path
    notes: list[str] = field(default_factory=list)  # about the files

    def __str__(self) -> str:
        lines = [
            f"{counted(self.episodes, 'episode')}: "
            + ", ".join(f"{count} {name}" for name, count in self.splits.items()),
            *self.notes,
            f"{counted(len(self.broken), 'broken record')} skipped",
            *(f"  {reason}" for reason in self.broken[:_LISTED]),
        ]
        if len(self.broken) > _LISTED:
            lines.append(f"  and {len(self.broken) - _LISTED} more, all listed in {self.journal}")
        if self.new_trajectories:
            lines.append(f"this run: {self.new_trajectories} trajectories ({self.rate:,.0f} per second)")
        return "\n".join(lines)


def import_bair(
    path: str | Path,
    /,
    out: str | Path,
    *,
    camera: Literal["aux1", "main", "both"] = "aux1",
    limit: int | None = None,
    frames_per_step: int = 2,
    action_limit: tuple[float, float, float, float] = ACTION_LIMIT,
    skip_bad: bool = False,
    download: bool = False,
) -> ImportStats:
    """Convert the BAIR robot pushing data to a store.

    Run it again to resume after an interruption, or to read up to a higher limit.

    Args:
        path: folder into which the archive was unpacked, or in which TensorFlow Datasets prepared
            bair_robot_pushing_small; or one file of either, such as the published test file.
        out: folder of the store; new, or left by an earlier import with the same settings.
        camera: which camera's frames; "both" makes two episodes of each trajectory, which share a split.
        limit: read at most this many training trajectories; all test trajectories are always read.
        frames_per_step: frames per step.
        action_limit: bounds of the four dimensions of a frame's action, below and above 0. An action outside is an
            error; actions are never clipped.
        skip_bad: skip and list records that cannot be read; otherwise the first one is an error.
        download: first download the archive (30 GiB, CC BY 4.0) into PATH if it is not there; see docs/bair.md.

    Returns: what the store holds, which is also printed.

    Raises:
        FileNotFoundError: there are no record files.
        ActionLimitError: an action is outside `action_limit`; never skipped and never clipped.
        ValueError: a record is broken (without `skip_bad`; the message names file, record and key), `out` holds
            another kind of store, or the files have changed since an earlier import.
    """
    if camera not in CAMERAS or (limit is not None and limit < 1) or frames_per_step < 1:
        raise ValueError(
            f"camera must be one of {', '.join(CAMERAS)}, limit and frames_per_step at least 1; got {camera!r}, "
            f"{limit} and {frames_per_step}"
        )
    reader = _Reader(CAMERAS[camera], frames_per_step, action_limit, skip_bad)
    found = find_record_files(fetch_bair(path) if download else path)
    files = {"test": found.test, "train": found.train}
    settings = {"camera": camera, "frames_per_step": frames_per_step, "action_limit": list(action_limit)}
    store = open_with_settings(Path(out), SETTINGS, settings, lambda: _info(reader, files["test"]))
    journal = read_journal(store.root / JOURNAL)
    check_same_files(journal, {label(path, split): path for split, paths in files.items() for path in paths})
    known = len(CAMERAS[camera]) * sum(block.trajectories for block in journal)
    if len(store) < known:
        raise ValueError(
            f"{store.root} holds {len(store)} episodes where {JOURNAL} in it says {known}. Delete the folder and "
            "import again"
        )
    store.discard([i for i in store.ids.tolist() if i >= known])
    before = len(journal)
    rate = _import_all(store, reader, files, journal, limit)
    store.flush()
    stats = ImportStats(
        episodes=len(store),
        splits={name: len(store.split(name)) for name in ("train", "validation", "test")},
        broken=[reason for block in journal for reason in block.broken],
        new_trajectories=sum(block.trajectories for block in journal[before:]),
        rate=rate,
        journal=store.root / JOURNAL,
        notes=[*found.notes, *([_TEST_ONLY] if not found.train else [])],
    )
    print(stats)
    return stats


class _Reader:
    """Reads and checks trajectories according to the settings."""

    def __init__(
        self, cameras: tuple[Camera, ...], frames_per_step: int, action_limit: tuple[float, ...], skip_bad: bool
    ) -> None:
        self.cameras, self.frames_per_step, self.skip_bad = cameras, frames_per_step, skip_bad
        self.action_limit = action_limit

    def info(self, test_trajectories: int) -> StoreInfo:
        views = len(self.cameras)
        info = store_info(self.frames_per_step, self.action_limit)
        return replace(info, test_episodes=test_trajectories * views, views=views)

    def read(self, path: Path, first: int = 0) -> Iterator[tuple[int, list[Trajectory] | BrokenRecordError]]:
        """Index of each record from `first`, with the trajectory of each camera, or the error if it may be skipped."""
        views = [read_trajectories(path, camera) for camera in self.cameras]
        for pairs in zip(*views, strict=True):
            index = pairs[0][0].record
            if index < first:
                continue
            good = [found for _, found in pairs if isinstance(found, Trajectory)]
            broken = [found for _, found in pairs if isinstance(found, BrokenRecordError)]
            try:
                for trajectory in good[:1]:  # actions and positions are the same for all cameras
                    check_numbers(trajectory, self.action_limit)
            except ActionLimitError as error:
                raise ActionLimitError(f"{path}, record {index}: {error}") from error
            except ValueError as error:
                broken.append(BrokenRecordError(path, index, pairs[0][0].start, str(error)))
            if broken and not self.skip_bad:
                raise ValueError(
                    f"{broken[0]}. Download the file again, or use --skip-bad to skip such records"
                ) from broken[0]
            yield index, broken[0] if broken else good


def _info(reader: _Reader, test_files: Iterable[Path]) -> StoreInfo:
    """Read all test files, because the number of valid test trajectories must be known first."""
    good, broken = 0, []
    for path in test_files:
        for _, found in reader.read(path):
            if isinstance(found, BrokenRecordError):
                broken.append(found)
            else:
                good += 1
    if broken and not good:
        raise ValueError(f"no record of the test files can be read; the first error: {broken[0]}")
    return reader.info(good)


def _import_all(
    store: EpisodeStorage, reader: _Reader, files: dict[str, list[Path]], journal: list[Block], limit: int | None
) -> float:
    """Store what is not stored yet and extend the journal; returns the rate in trajectories per second."""
    goals = {split: sum(num_named(path) for path in paths) for split, paths in files.items()}
    if limit is not None:
        goals["train"] = min(limit, goals["train"] or limit)
    done = {block.file: block.next_record for block in journal}
    stored = {split: sum(b.trajectories for b in journal if b.file.startswith(f"{split}/")) for split in files}
    with (
        open(store.root / JOURNAL, "a", encoding="utf-8") as lines,
        progress(sum(goals.values()), "trajectory", "import", initial=sum(stored.values())) as bar,
    ):
        for split, paths in files.items():
            for path in paths:
                room = limit - stored["train"] if split == "train" and limit is not None else None
                name = label(path, split)
                for block in _import_file(store, reader, path, name, done.get(name, 0), room):
                    journal.append(block)
                    stored[split] += block.trajectories
                    note(block, lines)
                    bar.update(block.trajectories)
        return bar.rate


def _import_file(
    store: EpisodeStorage, reader: _Reader, path: Path, name: str, first: int, room: int | None
) -> Iterator[Block]:
    """Store the records of a file from `first`, at most `room` trajectories; yields each stored block."""
    good: list[list[Trajectory]] = []
    broken: list[str] = []

    def store_block(next_record: int) -> Block:
        if good:
            episodes = [to_episode(view, reader.frames_per_step) for views in good for view in views]
            store.write_block(episodes, len(store))
        block = Block(
            file=name,
            num_bytes=path.stat().st_size,
            next_record=next_record,
            trajectories=len(good),
            broken=list(broken),
        )
        good.clear()
        broken.clear()
        return block

    taken, next_record = 0, first
    for index, found in reader.read(path, first) if room is None or room > 0 else ():
        next_record = index + 1
        if isinstance(found, BrokenRecordError):
            broken.append(str(found))
            continue
        good.append(found)
        taken += 1
        if len(good) == BLOCK or taken == room:
            yield store_block(next_record)
        if taken == room:
            return
    if good or broken:
        yield store_block(next_record)

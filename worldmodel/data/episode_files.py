"""The files of an episode store, and which one holds which episode. Writes are atomic, so no kill damages a file.

A store is a folder::

    root/data/metadata.json                 Minari's metadata and our StoreInfo
    root/data/main_data.hdf5                episodes 0 to n - 1
    root/data/pending/episode_XXXXXX.hdf5   episodes not yet packed into the main file, one or a block per file

Every file appears whole or not at all (temporary name, then rename), so a kill loses at most the episode or block being
written. Readers treat pending episodes like packed ones. Packing (`flush`) is for Minari, which reads only the main
file and needs consecutive ids: an episode stays pending while a lower id is missing.
"""

from __future__ import annotations

import math
import shutil
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from worldmodel.data.checks import wrong_frames, wrong_labels, wrong_steps
from worldmodel.data.episode import Episode, StoreInfo
from worldmodel.data.layout import (
    Entry,
    append_episodes,
    layout,
    make_metadata,
    read_info,
    same_episode,
    write_episodes,
)
from worldmodel.data.mapping import file_stamp, map_file
from worldmodel.data.pending import PATTERN, ids_of, pending_name, scan_pending
from worldmodel.data.scanning import MOST_IDS, refusal, scan
from worldmodel.files import JsonObject, atomic_write, read_json, write_json
from worldmodel.leftovers import remove_leftovers
from worldmodel.shapes import check_frames


class EpisodeFiles:
    """The writing half of `EpisodeStorage`, and the index of the episodes' locations."""

    _entries: list[Entry]  # sorted by id
    _main_stamp: tuple[int, int] | None  # identity of the main file when it was last scanned
    _may_show_less: bool  # the files may hold more episodes than this object shows: scan them before writing

    def __init__(self, root: str | Path) -> None:
        """Open the store in `root`; modifies no file.

        Raises:
            FileNotFoundError: there is no store in `root`.
            ValueError: a file is damaged, foreign, or of another format version; the message names it and the remedy.
        """
        self._open(Path(root))

    def _open(self, root: Path) -> None:
        self.root = root
        self._metadata_path = root / "data" / "metadata.json"
        self._main_path = root / "data" / "main_data.hdf5"
        self._pending_dir = root / "data" / "pending"
        self.info: StoreInfo = read_info(self._metadata_path)
        self._fields = layout(self.info)
        self._find_episodes()

    @classmethod
    def create(
        cls, root: str | Path, info: StoreInfo, dataset_id: str | None = None, env_spec: str | None = None
    ) -> Self:
        """Create an empty store.

        Args:
            root: a folder without a store; created if needed.
            info: properties that all episodes share.
            dataset_id, env_spec: name and env for Minari (minari.py); None: the folder's name, no env.
        """
        root = Path(root)
        for path in (root / "data").glob("[!.]*"):
            raise FileExistsError(
                f"{path} is already there: open that store with EpisodeStorage.open, or delete it first"
            )
        write_json(root / "data" / "metadata.json", make_metadata(root, info, dataset_id, env_spec))
        return cls(root)

    @classmethod
    def open(cls, root: str | Path) -> Self:
        """Open an existing store; the same as ``EpisodeStorage(root)``."""
        return cls(root)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the episodes, ascending."""
        return np.array([entry.id for entry in self._entries], np.int64)

    @cached_property
    def lengths(self) -> list[int]:
        """Number of steps of each episode."""
        return [entry.num_steps for entry in self._entries]

    @property
    def num_steps(self) -> int:
        """Number of steps of all episodes."""
        return sum(self.lengths)

    def missing_ids(self, count: int) -> list[int]:
        """Ids below `count` that are not stored, which a resumed collection still has to write."""
        return np.setdiff1d(np.arange(count), self.ids).tolist()

    # Writing

    def append(self, episode: Episode) -> int:
        """Store an episode under the next free id and return the id. For a single writing process."""
        self._look_again()
        episode_id = self._entries[-1].id + 1 if self._entries else 0
        self.write_pending(episode, episode_id)
        return episode_id

    def write_pending(self, episode: Episode, episode_id: int) -> None:
        """Store an episode under the given id in its own file; for parallel workers that divide the ids among them."""
        self.write_block([episode], episode_id)

    def write_block(self, episodes: Sequence[Episode], first_id: int) -> None:
        """Store episodes under consecutive ids from `first_id` in one file: all or none, and faster than one by one."""
        if not episodes:
            raise ValueError("a block needs at least one episode, got none")
        for episode in episodes:
            self._check(episode)
        self._look_again()
        path = self._pending_dir / pending_name(first_id, len(episodes))
        index, end = (
            bisect_left(self._entries, i, key=lambda entry: entry.id) for i in (first_id, first_id + len(episodes))
        )
        if first_id + len(episodes) > MOST_IDS:
            raise ValueError(f"episode ids must be below {MOST_IDS:,}, got {first_id} and {len(episodes)} episodes")
        if path.exists() or index < end or first_id < 0:
            raise ValueError(f"episode id must be new and at least 0, got {first_id}; see EpisodeStorage.missing_ids")
        with atomic_write(path) as temporary:
            write_episodes(temporary, episodes, first_id, self.info)
        self._entries[index:index] = scan_pending(path, self.info)
        self._forget()

    @property
    def pending_ids(self) -> set[int]:
        """Ids of episodes that are stored but not yet packed into the main file."""
        return {entry.id for entry in self._entries if entry.path != self._main_path}

    def discard(self, episode_ids: Iterable[int]) -> None:
        """Delete pending episodes permanently, such as those that a collection recorded beyond its goal.

        Raises:
            ValueError: an id is not stored or already packed; then nothing is deleted.
        """
        unwanted, pending = set(episode_ids), self.pending_ids
        if wrong := sorted(unwanted - pending):
            raise ValueError(f"only pending episodes can be discarded, got {wrong}; pending are {sorted(pending)}")
        paths = {entry.path for entry in self._entries if entry.id in unwanted}
        if torn := [path.name for path in paths if not unwanted.issuperset(ids_of(path))]:
            raise ValueError(f"episodes written as a block must be discarded together; {torn} would be split")
        for path in paths:
            path.unlink(missing_ok=True)
        self._entries = [entry for entry in self._entries if entry.id not in unwanted]
        self._forget()

    def flush(self) -> None:
        """Pack pending episodes into the main file, up to the first missing id, and remove files of killed writers."""
        with self._lock():
            self._find_episodes()
            num_packed = sum(entry.path == self._main_path for entry in self._entries)
            ready = [entry for index, entry in enumerate(self._entries) if entry.id == index >= num_packed]
            if ready:
                for entry in ready:
                    if wrong := self._wrong_content(entry, self._columns(entry)):
                        raise refusal(entry.path, wrong)
                with atomic_write(self._main_path) as temporary:
                    if num_packed:
                        shutil.copyfile(self._main_path, temporary)
                    append_episodes(temporary, ready)
                # Before scanning, so that they are not scanned again.
                for path in {entry.path for entry in ready}:
                    path.unlink(missing_ok=True)
                self._find_episodes()
            self._update_metadata()
            self._remove_leftovers()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: Any) -> None:
        # After an error or Ctrl-C the pending files are safe; packing can wait.
        if error is None:
            self.flush()

    # Scanning the files

    def _check(self, episode: Episode) -> None:
        info = self.info
        check_frames(episode.frames, info.height, info.width, info.channels, info.frames_per_step)
        info.action.check(episode.actions)
        if episode.signals.shape[1] != len(info.signal_names):
            raise ValueError(
                f"signals must be (N+1, {len(info.signal_names)}), one column for each of {info.signal_names}, "
                f"got {episode.signals.shape}"
            )
        shape = None if episode.labels is None else episode.labels.shape[1:]
        if shape != (wanted := info.labels_shape if info.label_names else None):
            raise ValueError(f"labels of a step must be {wanted} in this store (None: it has no labels), got {shape}")

    def _columns(self, entry: Entry) -> list[NDArray]:
        """Actions, rewards, terminations, truncations, and each signal."""
        return [self._window(entry, index) for index in range(1, 5 + len(self.info.signal_names))]

    def _wrong_content(self, entry: Entry, columns: Sequence[NDArray]) -> str:
        """Describe what is wrong with an episode (checksums, end flags, labels); "" if nothing is.

        `columns` are those of the episode, which the caller reads.
        """
        wrong = wrong_steps(entry, columns) or wrong_frames(entry, self._window(entry, 0))
        if wrong or not self.info.label_names:
            return wrong
        return wrong_labels(entry, self._window(entry, len(self._fields) - 1), len(self.info.label_names))

    def _entry(self, episode: int) -> Entry:
        if not 0 <= episode < len(self._entries):
            raise IndexError(f"episode must be 0 to {len(self) - 1}, the episodes of {self.root}; got {episode}")
        return self._entries[episode]

    def _find_episodes(self) -> None:
        """Scan the files, possibly again."""
        # Pending first: an episode that another process packs meanwhile is then seen twice rather than missed.
        found: dict[int, Entry] = {}
        for path in sorted(self._pending_dir.glob(PATTERN)):
            with suppress(FileNotFoundError):
                entries = scan_pending(path, self.info)
                if twice := [entry.id for entry in entries if entry.id in found]:
                    raise refusal(path, f"holds episode {twice[0]}, as {found[twice[0]].path.name} does")
                found |= {entry.id: entry for entry in entries}
        wanted, steps = self._totals()  # read before the main file, which only grows
        self._main_stamp = file_stamp(self._main_path)
        self._may_show_less = False
        packed = scan(self._main_path, self.info) if self._main_path.exists() else []
        if len(packed) < wanted or [entry.id for entry in packed] != list(range(len(packed))):
            raise ValueError(
                f"{self._main_path} holds {len(packed)} episodes where metadata.json beside it says {wanted}, numbered "
                "from 0 without a gap. Restore both from a backup, or delete the store and collect it again."
            )
        if (held := sum(entry.num_steps for entry in packed[:wanted])) != steps:
            raise ValueError(
                f"the first {wanted} episodes of {self._main_path} have {held} steps where metadata.json beside it "
                f"says {steps}. Restore both from a backup, or delete the store and collect it again."
            )
        found |= {entry.id: entry for entry in packed}
        self._entries = [found[episode_id] for episode_id in sorted(found)]
        self.__dict__.pop("_main_bytes", None)
        self._forget()

    def _totals(self) -> tuple[int, int]:
        """Numbers of packed episodes and of their steps, from metadata.json."""
        totals = read_json(self._metadata_path, JsonObject, ("total_episodes", "total_steps"))
        counts = totals["total_episodes"], totals["total_steps"]
        if any(type(count) is not int or count < 0 for count in counts):
            raise ValueError(
                f"{self._metadata_path} must have integers of at least 0 as total_episodes and total_steps, got "
                f"{counts}. Restore it from a backup"
            )
        return counts

    def _look_again(self) -> None:
        """Scan again if another handle has packed episodes, so that no id is used twice."""
        if self._may_show_less or file_stamp(self._main_path) != self._main_stamp:
            self._find_episodes()

    def _forget(self) -> None:
        """Drop caches derived from the list of episodes."""
        self.__dict__.pop("lengths", None)

    @cached_property
    def _main_bytes(self) -> NDArray[np.uint8]:
        return map_file(self._main_path)

    def _window(self, entry: Entry, index: int) -> NDArray:
        """Field `index` of the layout as a memory-mapped view of the episode's file."""
        # Pending files are mapped on each call: keeping every map open would exhaust the process's file handles.
        try:
            data = self._main_bytes if entry.path == self._main_path else map_file(entry.path)
        except FileNotFoundError:
            return self._window(self._packed_meanwhile(entry), index)
        field = self._fields[index]
        shape = (entry.num_steps + field.extra, *field.tail)
        if entry.offsets[index] + math.prod(shape) * field.dtype.itemsize > len(data):
            raise refusal(entry.path, "was truncated since it was opened")
        return np.ndarray(shape, field.dtype, data, entry.offsets[index])

    def _packed_meanwhile(self, entry: Entry) -> Entry:
        """Find an episode that another process has packed; FileNotFoundError if it was discarded."""
        index = bisect_left(self._entries, entry.id, key=lambda each: each.id)
        if self._entries[index].path == entry.path:  # otherwise an earlier call has found all of them
            shown = self._entries
            self._find_episodes()
            now = {each.id: each for each in self._entries}
            self._entries = [now.get(each.id, each) for each in shown]  # indices stay the same
            self._may_show_less = True
        if self._entries[index].path == entry.path:
            raise FileNotFoundError(f"episode {entry.id} of {self.root} was deleted by another process; open it again")
        return self._entries[index]

    def _lock(self) -> FileLock:
        """Lock of the one process that packs; the system releases it when that process dies."""
        return FileLock(self._main_path.with_name(".lock"))

    def _update_metadata(self) -> None:
        packed = [entry.num_steps for entry in self._entries if entry.path == self._main_path]
        metadata = read_json(self._metadata_path)
        if metadata.get("total_episodes") != len(packed):
            size = round(self._main_path.stat().st_size / 1e6, 1)
            totals = {"total_episodes": len(packed), "total_steps": sum(packed), "dataset_size": size}
            write_json(self._metadata_path, metadata | totals)

    def _remove_leftovers(self) -> None:
        """Remove pending files that are packed, and half-written files of dead processes."""
        packed = {entry.id: entry for entry in self._entries if entry.path == self._main_path}
        for path in (path for path in self._pending_dir.glob(PATTERN) if ids_of(path).stop <= len(packed)):
            if any(not same_episode(entry, packed[entry.id]) for entry in scan_pending(path, self.info)):
                raise ValueError(
                    f"{path} differs from the packed episodes with the same ids: another process wrote it at the same "
                    "time. Nothing is lost; move it elsewhere"
                )
            path.unlink(missing_ok=True)
        for folder in (self._main_path.parent, self._pending_dir):
            remove_leftovers(folder)

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "ids": self.ids}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the files again and show the same episodes as the pickled object."""
        self._open(state["root"])
        shown = set(state["ids"].tolist())
        self._entries = [entry for entry in self._entries if entry.id in shown]
        self._may_show_less = True

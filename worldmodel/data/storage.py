"""The store of recorded episodes: safe to write, fast to cut segments from, readable by Minari.

A store is a folder::

    root/data/metadata.json                 what Minari wants to know, and our StoreInfo
    root/data/main_data.hdf5                episodes 0 to n - 1
    root/data/pending/episode_XXXXXX.hdf5   episodes not yet packed into the main file

Every file appears whole or not at all (written beside its place, then renamed), so a kill at any moment costs at most
the episode in flight. To `EpisodeStorage` pending episodes are as good as packed ones. Packing (`flush`) is for Minari,
which reads the main file only and wants its ids without a gap: an episode whose lower neighbours are still missing
stays pending until they arrive.

Letters: see worldmodel/shapes.py; K start positions.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.data.episode import Batch, Episode, Segment, SegmentId, StoreInfo
from worldmodel.data.layout import (
    Entry,
    append_episodes,
    default_dataset_id,
    layout,
    make_metadata,
    read_info,
    read_seed,
    scan,
    write_episode,
)
from worldmodel.files import atomic_write, read_json, write_json
from worldmodel.names import did_you_mean
from worldmodel.shapes import check_frames

_SPLITS = ("train", "validation", "test")


class _Tables(NamedTuple):
    """All episodes end to end, but for the frames, in memory. E episodes, S steps in all."""

    num_steps: NDArray[np.int64]  # (E,)
    first_step: NDArray[np.int64]  # (E,) row of the episode's first step
    first_state: NDArray[np.int64]  # (E,) row of its first signals; an episode has one more of these than steps
    split: NDArray[np.int64]  # (E,) place in _SPLITS
    actions: NDArray  # (S,) int64 or (S, A) float32
    rewards: NDArray[np.float32]  # (S,)
    ended: NDArray[np.bool_]  # (E, 2) terminated, truncated
    signals: NDArray[np.float32]  # (S + E, G)


class EpisodeStorage:
    """Recorded episodes of one env.

    Episodes are counted from 0 to ``len(storage) - 1`` in the order of their ids. Place and id are the same unless a
    killed collection left a gap (`ids`, `missing_ids`). One process may `append`; any number may `write_pending`
    different ids at the same time. An object shows what was stored when it was opened or last flushed, and what it
    wrote since. It can be pickled and forked.
    """

    def __init__(self, root: str | Path) -> None:
        """Open the store in `root`; changes no file.

        Raises:
            FileNotFoundError: there is no store.
            ValueError: a file is damaged, foreign, or of another format version; the message says which and what to do.
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
    def create(cls, root: str | Path, info: StoreInfo, dataset_id: str | None = None) -> EpisodeStorage:
        """Start an empty store.

        Args:
            root: a folder without a store; it is made if needed.
            info: what all episodes share.
            dataset_id: Minari's name of it, "namespace/name-v0"; made from the folder's name if None. Minari finds the
                store under ``$MINARI_DATASETS_PATH/<dataset_id>``.
        """
        root = Path(root)
        for path in (root / "data").glob("[!.]*"):
            raise FileExistsError(
                f"{path} is already there: open that store with EpisodeStorage.open, or delete it first"
            )
        write_json(root / "data" / "metadata.json", make_metadata(info, dataset_id or default_dataset_id(root)))
        return cls(root)

    @classmethod
    def open(cls, root: str | Path) -> EpisodeStorage:
        """Open an existing store, as ``EpisodeStorage(root)`` does."""
        return cls(root)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Id of each episode, ascending."""
        return np.array([entry.id for entry in self._entries], np.int64)

    @cached_property
    def lengths(self) -> list[int]:
        """Steps of each episode."""
        return [entry.num_steps for entry in self._entries]

    @property
    def num_steps(self) -> int:
        """Steps of all episodes together."""
        return sum(self.lengths)

    def missing_ids(self, count: int) -> list[int]:
        """Ids below `count` that are not stored: what a resumed collection still has to write."""
        return sorted(set(range(count)) - set(self.ids.tolist()))

    # Writing

    def append(self, episode: Episode) -> int:
        """Store an episode under the next id and return that id. For a single writing process."""
        episode_id = self._entries[-1].id + 1 if self._entries else 0
        self.write_pending(episode, episode_id)
        return episode_id

    def write_pending(self, episode: Episode, episode_id: int) -> None:
        """Store an episode under a given id, in a file of its own; for workers that share out the ids."""
        self._check(episode)
        path = self._pending_path(episode_id)
        place = bisect_left(self._entries, episode_id, key=lambda entry: entry.id)
        taken = path.exists() or (place < len(self) and self._entries[place].id == episode_id)
        if taken or episode_id < 0:
            raise ValueError(f"episode id must be new and at least 0, got {episode_id}; see EpisodeStorage.missing_ids")
        with atomic_write(path) as temporary:
            write_episode(temporary, episode, episode_id, self.info)
        self._entries.insert(place, self._scan_pending(path))
        self._forget("lengths", "_tables")

    def flush(self) -> None:
        """Pack pending episodes into the main file, up to the first missing id, and clear up after killed writers."""
        with self._lock():
            self._find_episodes()
            num_packed = sum(entry.path == self._main_path for entry in self._entries)
            ready = [entry for place, entry in enumerate(self._entries) if entry.id == place >= num_packed]
            if ready:
                with atomic_write(self._main_path) as temporary:
                    if num_packed:
                        shutil.copyfile(self._main_path, temporary)
                    append_episodes(temporary, ready)
                self._find_episodes()
            self._update_metadata()
            self._remove_leftovers()

    def __enter__(self) -> EpisodeStorage:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: Any) -> None:
        # After an error or Ctrl-C the pending files are safe where they are; packing can wait.
        if error is None:
            self.flush()

    # Reading whole episodes

    def frames(self, episode: int) -> NDArray[np.uint8]:
        """(N + 1, F, H, W, C) uint8: a read-only window on the file, read where it is used; copy it for torch."""
        return self._window(self._entry(episode), 0)

    def actions(self, episode: int) -> NDArray:
        """(N,) int64 or (N, A) float32."""
        return self._rows(self._tables.actions, self._tables.first_step, episode, 0)

    def rewards(self, episode: int) -> NDArray[np.float32]:
        """(N,) float32 in the store's unit."""
        return self._rows(self._tables.rewards, self._tables.first_step, episode, 0)

    def signals(self, episode: int) -> NDArray[np.float32]:
        """(N + 1, G) float32."""
        return self._rows(self._tables.signals, self._tables.first_state, episode, 1)

    def ended(self, episode: int) -> tuple[bool, bool]:
        """(terminated, truncated)."""
        self._entry(episode)
        terminated, truncated = self._tables.ended[episode].tolist()
        return terminated, truncated

    def episode(self, episode: int) -> Episode:
        """A whole episode, copied into memory."""
        terminated, truncated = self.ended(episode)
        return Episode(
            frames=self.frames(episode).copy(),
            actions=self.actions(episode).copy(),
            rewards=self.rewards(episode).copy(),
            terminated=terminated,
            truncated=truncated,
            signals=self.signals(episode).copy(),
            seed=read_seed(self._entries[episode]),
        )

    # Cutting segments

    def split(self, name: str) -> NDArray[np.int64]:
        """Episodes of "train", "validation", "test" or "all", ascending.

        Of every ten ids in a row eight are for training, one for validation and one for the test; which, is fixed by a
        hash of the id, so an episode keeps its split however the store grows.
        """
        if name == "all":
            return np.arange(len(self))
        if name not in _SPLITS:
            raise ValueError(f"unknown split {name!r}.{did_you_mean(name, ('all', *_SPLITS))}")
        return np.flatnonzero(self._tables.split == _SPLITS.index(name))

    def starts(self, num_steps: int, split: str = "train") -> NDArray[np.int64]:
        """(K, 2) every (episode, start) from which `num_steps` steps fit into the episode, the last one included."""
        episodes, counts = self._count_starts(num_steps, split)
        starts = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.stack([np.repeat(episodes, counts), starts], axis=1)

    def sample_ids(self, n: int, num_steps: int, rng: np.random.Generator, split: str = "train") -> list[SegmentId]:
        """`n` segments of `num_steps` steps, drawn evenly from `starts(num_steps, split)` with replacement.

        Raises:
            ValueError: the split is empty or none of its episodes is long enough.
        """
        episodes, counts = self._count_starts(num_steps, split)
        ends = np.cumsum(counts)
        if not counts.any():
            longest = self._tables.num_steps[episodes].max(initial=0)
            raise ValueError(
                f"no segment of {num_steps} steps in split {split!r}: {self.root} holds {len(self)} episodes, "
                f"{len(episodes)} of them in this split, the longest of these has {longest} steps. Collect more or "
                "longer episodes, ask for fewer steps, or use split='all'."
            )
        drawn = rng.integers(ends[-1], size=n)
        places = np.searchsorted(ends, drawn, side="right")
        starts = drawn - (ends - counts)[places]
        return [
            SegmentId(episode, start, start + num_steps)
            for episode, start in zip(episodes[places].tolist(), starts.tolist(), strict=True)
        ]

    def segment(self, segment_id: SegmentId, num_steps: int | None = None) -> Segment:
        """One segment, padded at the end to `num_steps` if given."""
        arrays = self._cut([segment_id], num_steps)
        return Segment(**{name: array[0] for name, array in arrays.items()})

    def batch(self, segment_ids: Sequence[SegmentId]) -> Batch:
        """Segments as tensors, padded at the end to the longest of them."""
        import torch

        return Batch(**{name: torch.from_numpy(array) for name, array in self._cut(segment_ids).items()})

    def _cut(self, segment_ids: Sequence[SegmentId], num_steps: int | None = None) -> dict[str, NDArray]:
        """The fields of Segment with B in front."""
        episodes_B, starts_B, steps_B = self._check_segments(segment_ids)
        longest = int(steps_B.max())
        num_steps = longest if num_steps is None else num_steps
        if num_steps < longest:
            raise ValueError(f"num_steps must be at least the segment's {longest} steps, got {num_steps}")

        frames = np.empty((len(segment_ids), num_steps + 1, *self.info.frame_shape), np.uint8)
        for row, (episode, start, stop) in zip(frames, segment_ids, strict=True):
            kept = stop - start + 1
            row[:kept] = self._window(self._entries[episode], 0)[start : stop + 1]
            row[kept:] = row[kept - 1]

        tables = self._tables
        t = np.arange(num_steps + 1)
        padding_mask = t[:-1] < steps_B[:, None]
        step_BT = (tables.first_step[episodes_B] + starts_B)[:, None] + np.minimum(t[:-1], steps_B[:, None] - 1)
        state_BT = (tables.first_state[episodes_B] + starts_B)[:, None] + np.minimum(t, steps_B[:, None])
        actions, rewards = tables.actions[step_BT], tables.rewards[step_BT]
        actions[~padding_mask] = 0
        rewards[~padding_mask] = 0
        last_BT = padding_mask & (starts_B[:, None] + t[:-1] == tables.num_steps[episodes_B, None] - 1)
        return {
            "frames": frames,
            "actions": actions,
            "rewards": rewards,
            "terminated": last_BT & tables.ended[episodes_B, :1],
            "truncated": last_BT & tables.ended[episodes_B, 1:],
            "signals": tables.signals[state_BT],
            "padding_mask": padding_mask,
        }

    def _count_starts(self, num_steps: int, split: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The episodes of a split, and how many starts each has; both (E,)."""
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {num_steps}")
        episodes = self.split(split)
        return episodes, np.maximum(self._tables.num_steps[episodes] - num_steps + 1, 0)

    # Checks

    def _check(self, episode: Episode) -> None:
        info = self.info
        check_frames(episode.frames, info.height, info.width, info.channels, info.frames_per_step)
        info.action.check(episode.actions)
        if episode.signals.shape[1] != len(info.signal_names):
            raise ValueError(
                f"signals must be (N+1, {len(info.signal_names)}), one column for each of {info.signal_names}, "
                f"got {episode.signals.shape}"
            )

    def _check_segments(self, segment_ids: Sequence[SegmentId]) -> tuple[NDArray, NDArray, NDArray]:
        """Episodes, starts and numbers of steps, each (B,) int64."""
        if not len(segment_ids):
            raise ValueError("a batch needs at least one segment id, got none; see EpisodeStorage.sample_ids")
        episodes_B, starts_B, stops_B = np.array(segment_ids, np.int64).T
        self._entry(int(episodes_B.min()))
        self._entry(int(episodes_B.max()))
        wrong_B = (starts_B < 0) | (starts_B >= stops_B) | (stops_B > self._tables.num_steps[episodes_B])
        if wrong_B.any():
            wrong = SegmentId(*segment_ids[int(np.argmax(wrong_B))])
            raise ValueError(
                f"wanted 0 <= start < stop <= {self.lengths[wrong.episode]}, the episode's steps; got {wrong}"
            )
        return episodes_B, starts_B, stops_B - starts_B

    def _entry(self, episode: int) -> Entry:
        if not 0 <= episode < len(self._entries):
            raise IndexError(f"episode must be 0 to {len(self) - 1}, the episodes of {self.root}; got {episode}")
        return self._entries[episode]

    # Files

    def _find_episodes(self) -> None:
        """Look at the files (again)."""
        # Pending first: an episode that another process packs meanwhile is then seen twice rather than not at all.
        found: dict[int, Entry] = {}
        for path in self._pending_dir.glob("episode_*.hdf5"):
            with suppress(FileNotFoundError):
                entry = self._scan_pending(path)
                found[entry.id] = entry
        packed = scan(self._main_path, self.info) if self._main_path.exists() else []
        wanted = read_json(self._metadata_path).get("total_episodes", 0)
        if len(packed) < wanted or [entry.id for entry in packed] != list(range(len(packed))):
            raise ValueError(
                f"{self._main_path} holds {len(packed)} episodes where metadata.json beside it says {wanted}, numbered "
                "from 0 without a gap. Restore both from a backup, or delete the store and collect it again."
            )
        found |= {entry.id: entry for entry in packed}
        self._entries = [found[episode_id] for episode_id in sorted(found)]
        self._forget("lengths", "_tables", "_main_bytes")

    def _forget(self, *cached: str) -> None:
        for name in cached:
            self.__dict__.pop(name, None)

    def _pending_path(self, episode_id: int) -> Path:
        return self._pending_dir / f"episode_{episode_id:06d}.hdf5"

    def _scan_pending(self, path: Path) -> Entry:
        entries = scan(path, self.info)
        if [self._pending_path(entry.id) for entry in entries] != [path]:
            held = [entry.id for entry in entries]
            raise ValueError(f"{path} must hold the one episode it is named after, got ids {held}. Delete it.")
        return entries[0]

    @cached_property
    def _main_bytes(self) -> NDArray[np.uint8]:
        return _map(self._main_path)

    def _window(self, entry: Entry, place: int) -> NDArray:
        """The field at this place of the layout, as a window on the episode's file."""
        # Pending files are mapped anew each time: a lasting map of each would use up the process's file handles.
        data = self._main_bytes if entry.path == self._main_path else _map(entry.path)
        field = self._fields[place]
        return np.ndarray((entry.num_steps + field.extra, *field.tail), field.dtype, data, entry.offsets[place])

    @cached_property
    def _tables(self) -> _Tables:
        num_steps = np.array(self.lengths, np.int64)
        first_step = np.cumsum(num_steps) - num_steps
        first_state = first_step + np.arange(len(self))
        action = self.info.action
        actions = np.empty((num_steps.sum(), *action.shape), action.dtype)
        rewards = np.empty(num_steps.sum(), np.float32)
        ended = np.empty((len(self), 2), bool)
        signals = np.empty((num_steps.sum() + len(self), len(self.info.signal_names)), np.float32)
        for place, entry in enumerate(self._entries):
            columns = [self._window(entry, column) for column in range(1, len(self._fields))]
            steps = slice(first_step[place], first_step[place] + entry.num_steps)
            actions[steps], rewards[steps] = columns[:2]
            ended[place] = columns[2][-1], columns[3][-1]
            for column, values in enumerate(columns[4:]):
                signals[first_state[place] : first_state[place] + entry.num_steps + 1, column] = values
        return _Tables(num_steps, first_step, first_state, _split(self.ids), actions, rewards, ended, signals)

    def _rows(self, table: NDArray, first: NDArray[np.int64], episode: int, extra: int) -> NDArray:
        entry = self._entry(episode)
        return table[first[episode] : first[episode] + entry.num_steps + extra]

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One process packs at a time; the lock goes with the process, so a kill leaves none behind."""
        with open(self._main_path.with_name(".lock"), "w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _update_metadata(self) -> None:
        packed = [entry.num_steps for entry in self._entries if entry.path == self._main_path]
        metadata = read_json(self._metadata_path)
        if metadata.get("total_episodes") != len(packed):
            size = round(self._main_path.stat().st_size / 1e6, 1)
            totals = {"total_episodes": len(packed), "total_steps": sum(packed), "dataset_size": size}
            write_json(self._metadata_path, metadata | totals)

    def _remove_leftovers(self) -> None:
        """Remove pending files that are packed, and half-written files of processes that are gone."""
        for entry in self._entries:
            if entry.path == self._main_path:
                self._pending_path(entry.id).unlink(missing_ok=True)
        for folder in (self._main_path.parent, self._pending_dir):
            for path in folder.glob(".*.tmp"):  # .NAME.PROCESS.tmp, see worldmodel/files.py
                process_id = path.name.split(".")[-2]
                if process_id.isdigit() and not _is_running(int(process_id)):
                    path.unlink(missing_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "ids": self.ids}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the files again, and show the episodes that the pickled object showed."""
        self._open(state["root"])
        shown = set(state["ids"].tolist())
        self._entries = [entry for entry in self._entries if entry.id in shown]


def _map(path: Path) -> NDArray[np.uint8]:
    """A whole file as read-only bytes."""
    with open(path, "rb") as handle:
        return np.frombuffer(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _split(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """(E,) places in _SPLITS: of ten ids in a row, the largest hash is for the test, the next for validation."""
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

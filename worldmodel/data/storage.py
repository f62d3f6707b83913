"""The store of recorded episodes: crash-safe writing, fast cutting of segments, readable by Minari.

Letters: see worldmodel/shapes.py; K start positions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.counted import counted
from worldmodel.data.checks import wrong_frames, wrong_labels, wrong_numbers, wrong_steps
from worldmodel.data.episode import Batch, Episode, Segment, SegmentId
from worldmodel.data.episode_files import EpisodeFiles
from worldmodel.data.scanning import refusal
from worldmodel.data.splits import SPLITS, split_of
from worldmodel.errors import check_known


class _Tables(NamedTuple):
    """All episodes concatenated in memory, without the frames. E episodes, S steps in total."""

    num_steps: NDArray[np.int64]  # (E,)
    first_step: NDArray[np.int64]  # (E,) row of the episode's first step
    first_state: NDArray[np.int64]  # (E,) row of its first signals; an episode has one more row of signals than steps
    split: NDArray[np.int64]  # (E,) index into SPLITS
    actions: NDArray  # (S,) int64 or (S, A) float32
    rewards: NDArray[np.float32]  # (S,)
    ended: NDArray[np.bool_]  # (E, 2) terminated, truncated
    signals: NDArray[np.float32]  # (S + E, G)


class EpisodeStorage(EpisodeFiles):
    """Recorded episodes of one environment.

    Episodes have indices 0 to ``len(storage) - 1`` in the order of their ids. Index and id are equal unless a killed
    collection left a gap (`ids`, `missing_ids`). Only one process may `append`; any number may `write_pending`
    different ids at the same time. An object shows the episodes that were stored when it was opened or last flushed,
    and those it has written since. It can be pickled and forked.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from worldmodel.data import ActionSpec, Episode, EpisodeStorage, StoreInfo
        >>> action = ActionSpec(kind="discrete", n=2, names=("left", "right"))
        >>> shape = dict(frames_per_step=2, height=64, width=64, channels=3)
        >>> store = EpisodeStorage.create(tempfile.mkdtemp(), StoreInfo(env_id="MyGame-v0", action=action, **shape))
        >>> for _ in range(10):
        ...     episode = Episode(
        ...         frames=np.zeros((6, 2, 64, 64, 3), np.uint8),
        ...         actions=np.ones(5, np.int64),
        ...         rewards=np.zeros(5, np.float32),
        ...         terminated=True,
        ...         truncated=False,
        ...         signals=np.zeros((6, 0), np.float32),
        ...     )
        ...     episode_id = store.append(episode)
        >>> len(store), len(store.split("train"))
        (10, 8)
        >>> batch = store.batch(store.sample_ids(4, num_steps=3, rng=np.random.default_rng(0)))
        >>> batch.frames.shape, batch.actions.shape
        (torch.Size([4, 4, 2, 64, 64, 3]), torch.Size([4, 3]))
    """

    # Reading whole episodes

    def frames(self, episode: int) -> NDArray[np.uint8]:
        """(N + 1, F, H, W, C) uint8: a read-only memory-mapped view of the file; copy it before passing it to torch."""
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

    def labels(self, episode: int) -> NDArray[np.uint8]:
        """(N + 1, F, H, W, 2) uint8 class and object number of each pixel, as a copy with verified checksum.

        Class c is ``info.label_names[c - 1]``, 0 means no object; numbers distinguish the objects of one frame.

        Raises:
            ValueError: the store has no labels, or these are damaged.
        """
        entry = self._entry(episode)
        if not self.info.label_names:
            raise ValueError(f"{self.root} has no labels of objects; collect episodes with labels=True (--labels)")
        labels = self._window(entry, len(self._fields) - 1).copy()
        if wrong := wrong_labels(entry, labels, len(self.info.label_names)):
            raise refusal(entry.path, wrong)
        return labels

    def episode(self, episode: int) -> Episode:
        """A whole episode, copied into memory with verified checksums."""
        terminated, truncated = self.ended(episode)
        entry, frames = self._entries[episode], self.frames(episode).copy()
        if wrong := wrong_frames(entry, frames):
            raise refusal(entry.path, wrong)
        return Episode(
            frames=frames,
            actions=self.actions(episode).copy(),
            rewards=self.rewards(episode).copy(),
            terminated=terminated,
            truncated=truncated,
            signals=self.signals(episode).copy(),
            seed=entry.seed,
            labels=self.labels(episode) if self.info.label_names else None,
        )

    @property
    def folders(self) -> list[str]:
        """Folder of the store; all folders if several stores are joined."""
        return [str(self.root)]

    @property
    def plays(self) -> NDArray[np.int64]:
        """(episodes,) recording that each episode shows: equal for several views of one (`StoreInfo.views`)."""
        return self.ids // self.info.views if self.info.views > 1 else np.arange(len(self))

    def fingerprint(self) -> str:
        """Short hash of the content: changes with any action, reward, signal, end, or sampled frame."""
        digest = hashlib.sha256(repr((self.info.env_id, self.lengths)).encode())
        for column in (self._tables.actions, self._tables.rewards, self._tables.ended, self._tables.signals):
            digest.update(np.ascontiguousarray(column).tobytes())
        for episode in np.linspace(0, len(self) - 1, min(len(self), 32)).astype(int):
            digest.update(self.frames(int(episode))[-1].tobytes())
        return digest.hexdigest()[:16]

    def damage(self) -> Iterator[str]:
        """Read every episode in full and yield what is wrong with it; "" if nothing is or it has no checksums.

        Opening a store checks its structure, and its first use everything but the frames; this checks the frames too.
        """
        for entry in self._entries:
            columns = self._columns(entry)
            wrong = self._wrong_content(entry, columns)
            signals = np.stack(columns[4:], 1) if columns[4:] else np.zeros((0, 0), np.float32)
            if not wrong and (numbers := wrong_numbers(self.info.action, columns[0], columns[1], signals)):
                wrong = f"holds episode_{entry.id} with {numbers}"
            yield str(refusal(entry.path, wrong)) if wrong else ""

    @property
    def num_unchecked(self) -> int:
        """Number of episodes without checksums, which earlier versions wrote."""
        return sum(entry.checksums is None for entry in self._entries)

    # Cutting segments

    def split(self, name: str) -> NDArray[np.int64]:
        """Episodes of "train", "validation", "test" or "all", ascending.

        Of ten consecutive ids eight are for training, one for validation and one for the test, fixed by a hash of the
        id, so an episode keeps its split when the store grows. If the data have a published test split
        (`StoreInfo.test_episodes`), that is the test, and one in ten of the other episodes is for validation.
        """
        if name == "all":
            return np.arange(len(self))
        check_known("split", name, ("all", *SPLITS))
        return np.flatnonzero(self._tables.split == SPLITS.index(name))

    def starts(self, num_steps: int, split: str = "train") -> NDArray[np.int64]:
        """(K, 2) every (episode, start) from which `num_steps` steps fit into the episode."""
        episodes, counts = self._count_starts(num_steps, split)
        starts = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.stack([np.repeat(episodes, counts), starts], axis=1)

    def sample_ids(self, n: int, num_steps: int, rng: np.random.Generator, split: str = "train") -> list[SegmentId]:
        """Draw `n` segments of `num_steps` steps uniformly from `starts(num_steps, split)`, with replacement.

        Raises:
            ValueError: the split is empty or none of its episodes is long enough.
        """
        episodes, counts = self._count_starts(num_steps, split)
        ends = np.cumsum(counts)
        if not counts.any():
            longest = self._tables.num_steps[episodes].max(initial=0)
            raise ValueError(
                f"no segment of {num_steps} steps in split {split!r}: {self.root} holds "
                f"{counted(len(self), 'episode')}, {len(episodes)} of them in this split, the longest of these has "
                f"{longest} steps. Collect more or longer episodes, ask for fewer steps, or use split='all'."
            )
        drawn = rng.integers(ends[-1], size=n)
        index = np.searchsorted(ends, drawn, side="right")
        starts = drawn - (ends - counts)[index]
        return [
            SegmentId(episode, start, start + num_steps)
            for episode, start in zip(episodes[index].tolist(), starts.tolist(), strict=True)
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
        """The fields of Segment with a leading dimension B."""
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
        """The episodes of a split, and the number of starts of each; both (E,)."""
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {num_steps}")
        episodes = self.split(split)
        return episodes, np.maximum(self._tables.num_steps[episodes] - num_steps + 1, 0)

    def _check_segments(self, segment_ids: Sequence[SegmentId]) -> tuple[NDArray, NDArray, NDArray]:
        """Episodes, starts and numbers of steps of the segments, each (B,) int64."""
        if not len(segment_ids):
            raise ValueError("a batch needs at least one segment id, got none; see EpisodeStorage.sample_ids")
        episodes_B, starts_B, stops_B = np.array(segment_ids, np.int64).T
        self._entry(int(episodes_B.min()))
        self._entry(int(episodes_B.max()))
        wrong_B = (starts_B < 0) | (starts_B >= stops_B) | (stops_B > self._tables.num_steps[episodes_B])
        if wrong_B.any():
            wrong = SegmentId(*segment_ids[int(np.argmax(wrong_B))])
            raise ValueError(
                f"a segment needs 0 <= start < stop <= {self.lengths[wrong.episode]}, the episode's steps; got {wrong}"
            )
        return episodes_B, starts_B, stops_B - starts_B

    # Tables

    def _splits(self) -> NDArray[np.int64]:
        """(E,) indices into SPLITS."""
        return split_of(self.ids, self.info.test_episodes, self.info.views)

    def _forget(self) -> None:
        super()._forget()
        self.__dict__.pop("_tables", None)

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
        for index, entry in enumerate(self._entries):
            columns = self._columns(entry)
            if wrong := wrong_steps(entry, columns):
                raise refusal(entry.path, wrong)
            steps = slice(first_step[index], first_step[index] + entry.num_steps)
            actions[steps], rewards[steps] = columns[:2]
            ended[index] = columns[2][-1], columns[3][-1]
            for column, values in enumerate(columns[4:]):
                signals[first_state[index] : first_state[index] + entry.num_steps + 1, column] = values
        if wrong_numbers(action, actions, rewards, signals):  # fast, for all episodes together; then find the episode
            for entry, step, state in zip(self._entries, first_step, first_state, strict=True):
                steps, states = slice(step, step + entry.num_steps), slice(state, state + entry.num_steps + 1)
                if wrong := wrong_numbers(action, actions[steps], rewards[steps], signals[states]):
                    raise refusal(entry.path, f"holds episode_{entry.id} with {wrong}")
        return _Tables(num_steps, first_step, first_state, self._splits(), actions, rewards, ended, signals)

    def _rows(self, table: NDArray, first: NDArray[np.int64], episode: int, extra: int) -> NDArray:
        entry = self._entry(episode)
        return table[first[episode] : first[episode] + entry.num_steps + extra]

"""Segments of a split's codes, in memory: the data of the dynamics. Codes of single steps, or of whole clips.

Letters: B segments, N steps of an episode, T steps of a segment or clip, K clips, F frames of a step, H W C pixels,
h w latent grid, M slices.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from worldmodel.counted import counted
from worldmodel.data import EpisodeStorage
from worldmodel.model import CodeBatch
from worldmodel.tokenizer import TokenizerConfig
from worldmodel.training.encode_store import CLIP_STRIDE, clip_starts


class Segments(ABC):
    """What belongs to the steps of one split, episode after episode; the kinds of codes are its subclasses.

    Rare rewards are those of at least half the largest size seen, where they make up less than a tenth of all steps.
    With `frame_steps` a batch also holds the frames of that many first steps, read from the store's file.
    """

    def __init__(self, store: EpisodeStorage, split: str, frame_steps: int = 0) -> None:
        self.store, self.frame_steps = store, frame_steps
        self.episodes = [int(e) for e in store.split(split)]
        if not self.episodes:
            raise ValueError(f"the {split} split of {counted(len(store), 'episode')} is empty; collect more episodes")
        self.split = split
        self.lengths = np.array([store.lengths[e] for e in self.episodes])
        self.offsets = np.concatenate(([0], np.cumsum(self.lengths + 1)[:-1]))

        def join(parts: list[np.ndarray]) -> Tensor:  # one spare row per episode keeps all indices aligned
            return torch.from_numpy(np.concatenate([np.concatenate((p, np.zeros_like(p[:1]))) for p in parts]))

        self.actions = join([store.actions(e) for e in self.episodes])
        self.rewards = join([store.rewards(e) for e in self.episodes])
        self.signals = torch.from_numpy(np.concatenate([store.signals(e) for e in self.episodes]))
        self.terminated = torch.zeros(len(self.rewards), dtype=torch.bool)
        for offset, length, episode in zip(self.offsets, self.lengths, self.episodes, strict=True):
            self.terminated[offset + length - 1] = store.ended(episode)[0]
        size = self.rewards.abs()
        rare = (size >= 0.5 * size.max()) & (size > 0)
        self.events = rare.nonzero().flatten().numpy() if 0 < rare.float().mean() < 0.1 else np.array([], np.int64)

    @abstractmethod
    def batch(self, size: int, steps: int, rng: np.random.Generator, event_share: float = 0.0) -> CodeBatch:
        """Segments of `steps` steps, uniform over all that there are, a share of them around a rare reward."""

    @abstractmethod
    def every_step(self, steps: int) -> CodeBatch:
        """Segments of `steps` steps in which each step that a segment can hold counts once."""

    def _along(self, episode: np.ndarray, start: np.ndarray, steps: int) -> tuple[Tensor, Tensor]:
        """Rows of a segment's steps (B, T+1), the last one repeated where an episode is shorter; the mask (B, T)."""
        along, length = start[:, None] + np.arange(steps + 1), self.lengths[episode][:, None]
        index = self.offsets[episode][:, None] + np.minimum(along, length)
        return torch.from_numpy(index), torch.from_numpy(along[:, 1:] <= length)

    def _gather(self, codes: Tensor, index: Tensor, mask: Tensor, episode: np.ndarray) -> CodeBatch:
        """Codes (B, T+1, h, w, M) and what belongs to them."""
        now = index[:, :-1]
        frames = None
        if self.frame_steps:
            frames = self._frames(episode, index[:, : self.frame_steps].numpy() - self.offsets[episode][:, None])
        actions, rewards, terminated = self.actions[now], self.rewards[now], self.terminated[now] & mask
        return CodeBatch(codes.long(), actions, rewards, terminated, self.signals[index], mask, frames)

    def _frames(self, episode: np.ndarray, steps: np.ndarray) -> Tensor:
        """Frames (B, n, F, H, W, C) uint8 of steps (B, n)."""
        rows = [self.store.frames(self.episodes[e])[row] for e, row in zip(episode, steps, strict=True)]
        return torch.from_numpy(np.stack(rows))


class CodeStore(Segments):
    """The steps of one split, each coded on its own: a step is h*w*M small numbers, and a segment begins anywhere.

    It may run over the end of its episode; what is missing is masked.
    """

    def __init__(self, store: EpisodeStorage, codes: list[Tensor], split: str, frame_steps: int = 0) -> None:
        """`codes`: (N+1, h, w, M) int16 of every episode of the store."""
        super().__init__(store, split, frame_steps)
        self.codes = torch.cat([codes[e] for e in self.episodes])  # (sum of N+1, h, w, M)

    def batch(self, size: int, steps: int, rng: np.random.Generator, event_share: float = 0.0) -> CodeBatch:
        # A segment may begin at any step and run over its episode's end. If it had to fit, the last step would be in
        # one segment only and earlier steps in many, so that ends would seem rarer than they are.
        ends = np.cumsum(self.lengths)
        place = rng.integers(ends[-1], size=size)
        episode = np.searchsorted(ends, place, side="right")
        start = place - (ends - self.lengths)[episode]
        if len(self.events):
            around = rng.random(size) < event_share
            event = rng.choice(self.events, size)
            its_episode = np.searchsorted(self.offsets, event, side="right") - 1
            its_start = event - self.offsets[its_episode] - rng.integers(steps, size=size)
            episode = np.where(around, its_episode, episode)
            start = np.where(around, np.maximum(its_start, 0), start)
        return self.cut(episode, start, steps)

    def every_step(self, steps: int) -> CodeBatch:
        starts = [(e, s) for e, n in enumerate(self.lengths) for s in range(0, n, steps)]
        episode, start = np.array(starts).T
        return self.cut(episode, start, steps)

    def cut(self, episode: np.ndarray, start: np.ndarray, steps: int) -> CodeBatch:
        """Segments by their episode's place in this split and their first step, padded where an episode is shorter."""
        index, mask = self._along(episode, start, steps)
        return self._gather(self.codes[index], index, mask, episode)


class ClipStore(Segments):
    """The clips of one split, each coded as a whole: a segment is a clip. Episodes shorter than a clip are left out."""

    def __init__(
        self,
        store: EpisodeStorage,
        codes: list[Tensor],
        split: str,
        frame_steps: int = 0,
        stride: int = CLIP_STRIDE,
    ) -> None:
        """`codes`: (K, T, h, w, M) int16 of the clips of every episode of the store, `stride` steps apart."""
        super().__init__(store, split, frame_steps)
        self.codes = torch.cat([codes[e] for e in self.episodes])  # (clips, T, h, w, M)
        self.clip_steps = self.codes.shape[1]
        starts = [clip_starts(length, self.clip_steps, stride) for length in self.lengths]
        self.left_out = sum(not len(part) for part in starts)  # episodes
        if not len(self.codes):
            raise ValueError(
                f"no episode of the {split} split is as long as a clip of {self.clip_steps} steps, the longest has "
                f"{self.lengths.max() + 1}; train a tokenizer of shorter clips or collect longer episodes"
            )
        self._episode = np.repeat(np.arange(len(starts)), [len(part) for part in starts])  # of each clip, ascending
        self._start = np.concatenate(starts)
        # The clips that hold an event's step are neighbours: none of the episode before reaches as far as this one.
        row = self.offsets[self._episode] + self._start
        self._first = np.searchsorted(row, self.events - (self.clip_steps - 2))
        self._behind = np.searchsorted(row, self.events, side="right")
        held = self._behind > self._first
        self.events, self._first, self._behind = self.events[held], self._first[held], self._behind[held]

    def batch(self, size: int, steps: int, rng: np.random.Generator, event_share: float = 0.0) -> CodeBatch:
        clip = rng.integers(len(self.codes), size=size)
        if len(self.events):
            around = rng.random(size) < event_share
            event = rng.integers(len(self.events), size=size)
            clip = np.where(around, rng.integers(self._first[event], self._behind[event]), clip)
        return self._cut(clip, steps)

    def every_step(self, steps: int) -> CodeBatch:
        batch = self._cut(np.arange(len(self.codes)), steps)
        same = self._episode[1:] == self._episode[:-1]
        counted = np.where(same, np.maximum(self._start[:-1] + steps - self._start[1:], 0), 0)
        batch.padding_mask[1:] = torch.arange(steps) >= torch.from_numpy(counted)[:, None]
        return batch

    def _cut(self, clip: np.ndarray, steps: int) -> CodeBatch:
        if steps != self.clip_steps - 1:
            raise ValueError(
                f"a segment is a clip of {self.clip_steps} steps, which has {self.clip_steps - 1} after its first; "
                f"got {steps}"
            )
        episode = self._episode[clip]
        index, mask = self._along(episode, self._start[clip], steps)
        return self._gather(self.codes[torch.from_numpy(clip)], index, mask, episode)


def split_codes(
    store: EpisodeStorage,
    codes: list[Tensor],
    split: str,
    tokenizer: TokenizerConfig,
    frame_steps: int = 0,
    stride: int = CLIP_STRIDE,
) -> Segments:
    """One split of what `encode_store` returned for a tokenizer of this configuration."""
    if tokenizer.temporal == "step":
        return CodeStore(store, codes, split, frame_steps)
    return ClipStore(store, codes, split, frame_steps, stride)

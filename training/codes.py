"""The codes of a whole store in memory, and segments cut from them: the data of the dynamics."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from worldmodel.data import EpisodeStorage
from worldmodel.files import atomic_write
from worldmodel.model import CodeBatch
from worldmodel.progress import progress
from worldmodel.tokenizer import VQVAE


class CodeStore:
    """The encoded episodes of one split, in memory: a step is h*w*M small numbers.

    Rare rewards are those of at least half the largest size seen, where they make up less than a tenth of all steps.
    With `frame_steps` a batch also holds the frames of that many first steps, read from the store's file.
    """

    def __init__(self, store: EpisodeStorage, codes: list[Tensor], split: str, frame_steps: int = 0) -> None:
        self.store, self.frame_steps = store, frame_steps
        self.episodes = [int(e) for e in store.split(split)]
        if not self.episodes:
            raise ValueError(f"the {split} split of {len(store)} episodes is empty; collect more episodes")
        self.split = split
        self.lengths = np.array([store.lengths[e] for e in self.episodes])
        self.offsets = np.concatenate(([0], np.cumsum(self.lengths + 1)[:-1]))
        self.codes = torch.cat([codes[e] for e in self.episodes])  # (sum of N+1, h, w, M) int16

        def join(parts: list[np.ndarray]) -> Tensor:  # one spare row per episode keeps all places alike
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

    def batch(self, size: int, steps: int, rng: np.random.Generator, event_share: float = 0.0) -> CodeBatch:
        """Segments of `steps` steps, uniform over all starts, a share of them around a rare reward."""
        choices = np.maximum(self.lengths - steps + 1, 1)  # starts of each episode
        ends = np.cumsum(choices)
        place = rng.integers(ends[-1], size=size)
        episode = np.searchsorted(ends, place, side="right")
        start = place - (ends - choices)[episode]
        if len(self.events):
            around = rng.random(size) < event_share
            event = rng.choice(self.events, size)
            its_episode = np.searchsorted(self.offsets, event, side="right") - 1
            its_start = event - self.offsets[its_episode] - rng.integers(steps, size=size)
            episode = np.where(around, its_episode, episode)
            start = np.where(around, np.clip(its_start, 0, choices[its_episode] - 1), start)
        return self.cut(episode, start, steps)

    def cut(self, episode: np.ndarray, start: np.ndarray, steps: int) -> CodeBatch:
        """Segments by their episode's place in this split and their first step, padded where an episode is shorter."""
        along = start[:, None] + np.arange(steps + 1)
        real = along[:, 1:] <= self.lengths[episode][:, None]
        index = torch.from_numpy(self.offsets[episode][:, None] + np.minimum(along, self.lengths[episode][:, None]))
        now = index[:, :-1]
        mask = torch.from_numpy(real)
        return CodeBatch(
            self.codes[index].long(),
            self.actions[now],
            self.rewards[now],
            self.terminated[now] & mask,
            self.signals[index],
            mask,
            self._first_frames(episode, along[:, : self.frame_steps]) if self.frame_steps else None,
        )

    def _first_frames(self, episode: np.ndarray, steps: np.ndarray) -> Tensor:
        """Frames (B, n, F, H, W, C) uint8 of steps (B, n), the last one repeated where an episode is shorter."""
        rows = []
        for place, row in zip(episode, steps, strict=True):
            frames = self.store.frames(self.episodes[place])
            rows.append(np.stack([frames[min(step, len(frames) - 1)] for step in row]))
        return torch.from_numpy(np.stack(rows))


def codes_name(store: EpisodeStorage, tokenizer: VQVAE) -> str:
    """Short name of the codes that this tokenizer makes of this data."""
    digest = hashlib.sha256(store.fingerprint().encode())
    for tensor in tokenizer.state_dict().values():
        digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.inference_mode()
def encode_store(store: EpisodeStorage, tokenizer: VQVAE, cache: Path, batch_size: int = 64) -> list[Tensor]:
    """Codes (N+1, h, w, M) int16 of every episode; read from `cache` if that was made by this tokenizer and data."""
    name = codes_name(store, tokenizer)
    if cache.exists():
        tensors = load_file(cache)
        if name in tensors:
            return list(tensors[name].split([n + 1 for n in store.lengths]))
    parts, device = [], next(tokenizer.parameters()).device
    with progress(store.num_steps + len(store), "step", "encoding") as bar:
        for episode in range(len(store)):
            frames = store.frames(episode)
            for first in range(0, len(frames), batch_size):
                part = torch.from_numpy(frames[first : first + batch_size].copy())
                codes = tokenizer.encode(part.unsqueeze(1).to(device)).squeeze(1)
                parts.append(codes.to(torch.int16).cpu())
                bar.update(len(part))
    codes = torch.cat(parts)
    with atomic_write(cache) as temporary:
        save_file({name: codes}, temporary)
    return list(codes.split([n + 1 for n in store.lengths]))

"""Where dreams begin: a seeded supply of context segments for reset.

Letters: K stored starts, n rows, T context steps, h w latent grid, M slices, G signals.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel.model import WorldModel
from worldmodel.names import did_you_mean

SOURCES = ("starts",)  # what `seed_from` may name


class Context(NamedTuple):
    """What `WorldModel.start_codes` needs to begin n dreams."""

    codes: Tensor  # (n, T, h, w, M) int64
    actions: Tensor  # (n, T-1) int64 or (n, T-1, A) float32
    signals: Tensor  # (n, G) float32, at the last given step
    seeds: list[int]  # one per row; decides all that the dream draws


class StartStates:
    """Draws context segments from the starts that lie in a model's checkpoint.

    Args:
        model: the dreaming model; its starts are used.
        seed_from: "starts".
    """

    def __init__(self, model: WorldModel, seed_from: str = "starts") -> None:
        if seed_from not in SOURCES:
            raise ValueError(f"unknown seed_from {seed_from!r}.{did_you_mean(seed_from, SOURCES)}")
        if model.starts is None or not len(model.starts.codes):
            raise ValueError(
                "this model has no start segments, so no dream can begin: its checkpoint folder lacks "
                "starts.safetensors. Save the model again with starts (train-dynamics does)"
            )
        starts = model.starts
        self._codes = starts.codes.to(model.device)
        self._actions = starts.actions.to(model.device)
        self._signals = starts.signals[:, -1].to(model.device)

    def __len__(self) -> int:
        return len(self._codes)

    def draw(self, rngs: Sequence[np.random.Generator]) -> Context:
        """One start and one dream seed per generator; a row's draw depends on its own generator only."""
        picks, seeds = [], []
        for rng in rngs:
            picks.append(int(rng.integers(len(self))))
            seeds.append(int(rng.integers(2**62)))
        rows = torch.tensor(picks, device=self._codes.device)
        return Context(self._codes[rows], self._actions[rows], self._signals[rows], seeds)

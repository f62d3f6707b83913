"""Where dreams begin: seeded sampling of contexts for reset, from one of several sources.

Each row has a key, drawn from its seed, and a number of its dream: together they decide where that dream begins and
everything it samples, independently of the other rows.

Letters: n rows, T context steps, h w latent grid, M slices, G signals.
"""

import os
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from worldmodel.data import EpisodeStorage, SegmentId
from worldmodel.data.splits import SPLITS
from worldmodel.dynamics.sampling import uniforms
from worldmodel.errors import check_known, did_you_mean
from worldmodel.model import WorldModel

SOURCES = ("starts", "prior")  # values of `seed_from`, besides the folder of a store
KINDS = ("all", "first", "middle")  # of starts: half of each, first steps of episodes, segments from mid-episode
_DEFAULT_STEPS = 8  # length of the context for models without starts


class Context(NamedTuple):
    """What `WorldModel.start_codes` needs to begin n dreams."""

    codes: Tensor  # (n, T, h, w, M) int64
    actions: Tensor  # (n, T-1) int64 or (n, T-1, A) float32
    signals: Tensor  # (n, G) float32, at the last context step
    seeds: Tensor  # (n,) int64; decide everything the dreams sample


class Source(Protocol):
    """Samples the contexts with which dreams begin."""

    def draw(self, keys: Tensor, numbers: Tensor) -> Context:
        """Contexts of the dreams with these `numbers` (n,) int64, in rows with these `keys` (n,) int64."""


class BothStarts:
    """Half of the dreams begin with the first steps of an episode, half in the middle of one.

    The dreams of a row alternate; the row's key decides which kind comes first. All dreams start at the same clock
    value, in a batch or alone.
    """

    def __init__(self, model: WorldModel, first: Source, middle: Source) -> None:
        self.first, self.middle = first, middle
        self.clock = max(_first_steps(model), _given_steps(model)) - 1 + model.config.dynamics.lead

    def parts(self, keys: np.ndarray, numbers: np.ndarray) -> list[tuple[Source, np.ndarray]]:
        """Which source is used for which rows, given their keys (n,) and the numbers of their dreams (n,)."""
        first = ((keys ^ numbers) & 1).astype(bool)
        parts = [(self.first, np.flatnonzero(first)), (self.middle, np.flatnonzero(~first))]
        return [(source, rows) for source, rows in parts if len(rows)]


def make_source(
    model: WorldModel, seed_from: str | os.PathLike, split: str = "train", starts: str = "all"
) -> Source | BothStarts:
    """The source "starts", "prior" or a store's folder, restricted to one kind of starts (`KINDS`)."""
    check_known("split", split, (*SPLITS, "all"))
    check_known("starts", starts, KINDS)
    if seed_from == "starts":
        middle = RecordedStarts(model)
        if starts == "middle" or (starts == "all" and model.starts is not None and model.starts.first is None):
            return middle
        first = RecordedStarts(model, first=True)
        return first if starts == "first" else BothStarts(model, first, middle)
    if seed_from == "prior":
        if starts != "all":
            raise ValueError(
                f'seed_from="prior", which generates from nothing, has only one kind of starts: omit starts={starts!r}'
            )
        return PriorStarts(model)
    if not Path(seed_from).is_dir():
        raise ValueError(
            f"seed_from is neither the folder of a store nor a known source: {str(seed_from)!r}."
            f"{did_you_mean(str(seed_from), SOURCES)}"
        )
    if starts != "all":
        return StoreStarts(model, seed_from, split, first=starts == "first")
    return BothStarts(model, StoreStarts(model, seed_from, split, first=True), StoreStarts(model, seed_from, split))


class RecordedStarts:
    """Segments of real episodes in a model's checkpoint, or with `first` the first steps of episodes in it."""

    def __init__(self, model: WorldModel, first: bool = False) -> None:
        starts = model.starts
        if starts is None or not len(starts.codes):
            raise ValueError(
                "this model has no start segments, so no dream can begin: its checkpoint folder lacks "
                "starts.safetensors. Save the model with starts (train-dynamics does), or start dreams from a store: "
                "seed_from=FOLDER"
            )
        if first and starts.first is None:
            raise ValueError(
                'this model has no first steps of episodes (older ones do not), wanted for starts="first": omit '
                "starts, train it again, or start dreams from a store: seed_from=FOLDER"
            )
        if first:
            assert starts.first is not None
            starts = starts.first
        self._codes = starts.codes.to(model.device)
        self._actions = starts.actions.to(model.device)
        self._signals = starts.signals[:, -1].to(model.device)

    def draw(self, keys: Tensor, numbers: Tensor) -> Context:
        pick, seeds = pick_and_seed(keys, numbers, len(self._codes))
        return Context(self._codes[pick], self._actions[pick], self._signals[pick], seeds)


class StoreStarts:
    """Segments of a split of a store of the model's game, or with `first` the first steps of its episodes.

    No segment ends where the recorded game ended: a dream from there would continue after a death.
    """

    def __init__(self, model: WorldModel, folder: str | os.PathLike, split: str = "train", first: bool = False) -> None:
        self._model, self._split, self._first = model, split, first
        self._store = EpisodeStorage.open(Path(folder))
        self._steps = _first_steps(model) if first else _given_steps(model)
        info, config = self._store.info, model.config
        theirs, ours = (info.action.kind, info.action.n, info.signal_names), (config.action.kind, config.action.n)
        if theirs != (*ours, config.signal_names):
            raise ValueError(
                f"{folder} is of another game: {info.env_id} with (kind, number, signals) {theirs}, the model's is "
                f"{(*ours, config.signal_names)}"
            )
        # Fails now rather than at a reset. A segment has at least one action, and one state more than actions.
        self._length = max(self._steps - 1, 1)
        self._store.sample_ids(1, self._length, np.random.default_rng(0), split)
        possible = self._store.starts(self._length, split)
        alive = possible[~self._at_end(*possible.T)]
        self._episodes = np.unique(alive[alive[:, 1] == 0, 0]) if first else None
        if not len(alive if self._episodes is None else self._episodes):
            raise ValueError(
                f"split {split!r} of {folder} has no {self._steps} steps after which the game continues; collect "
                "longer episodes, or choose another split"
            )

    def draw(self, keys: Tensor, numbers: Tensor) -> Context:
        segments = []
        for key, number in zip(keys.tolist(), numbers.tolist(), strict=True):
            rng = np.random.default_rng((key, number))
            if self._episodes is None:
                segments.append(self._alive(rng))
            else:
                segments.append(SegmentId(int(rng.choice(self._episodes)), 0, self._length))
        batch = self._store.batch(segments).to(self._model.device)
        frames, actions, signals = batch.frames[:, : self._steps], batch.actions, batch.signals[:, self._steps - 1]
        with torch.inference_mode():
            codes = self._model.tokenizer.encode(frames)
        return Context(codes, actions[:, : self._steps - 1], signals, pick_and_seed(keys, numbers, 1)[1])

    def _alive(self, rng: np.random.Generator) -> SegmentId:
        """A segment after which the game continues; others are drawn again."""
        while True:
            [segment] = self._store.sample_ids(1, self._length, rng, self._split)
            if not self._at_end(np.array([segment.episode]), np.array([segment.start]))[0]:
                return segment

    def _at_end(self, episodes: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Whether the last given step of the segments that begin at `starts` (K,) is that at which the game ended."""
        lengths = np.array(self._store.lengths)
        last, ended = starts + self._steps - 1 == lengths[episodes], np.zeros(len(lengths), bool)
        for episode in np.unique(episodes[last]).tolist():
            ended[episode] = self._store.ended(episode)[0]
        return last & ended[episodes]


class PriorStarts:
    """Contexts that the model generates from nothing, with random actions.

    Generated steps have no game variables; those of a recorded start are used, or zeros if the model has no starts.
    """

    def __init__(self, model: WorldModel) -> None:
        self._model = model
        self._steps = _given_steps(model)
        self._recorded = RecordedStarts(model) if model.starts is not None and len(model.starts.codes) else None
        first = torch.zeros(1, dtype=torch.int64, device=model.device)
        self.draw(first, first)  # fail here, not at the first reset, if the model cannot generate from nothing

    def draw(self, keys: Tensor, numbers: Tensor) -> Context:
        spec = self._model.config.action
        space = spec.held.to_gym()
        actions = []
        for key, number in zip(keys.tolist(), numbers.tolist(), strict=True):
            space.seed(int(np.random.default_rng((key, number)).integers(2**31)))
            actions.append([space.sample() for _ in range(self._steps - 1)])
        between = np.asarray(actions, dtype=spec.dtype).reshape(len(keys), self._steps - 1, *space.shape)
        given = spec.hold(torch.from_numpy(between).to(keys.device))
        reads = self._model.config.dynamics.action_condition != "none"
        _, seeds = pick_and_seed(keys, numbers, 1)
        # Not with the dream's own seeds: it counts its steps from 0 again, and would repeat the noise of its context.
        video = self._model.sample(len(keys), self._steps, actions=given if reads else None, seeds=seeds ^ 1)
        if self._recorded is None:
            signals = torch.zeros(len(keys), len(self._model.config.signal_names), device=keys.device)
        else:
            signals = self._recorded.draw(keys, numbers).signals
        return Context(video.codes, given, signals, seeds)


def _first_steps(model: WorldModel) -> int:
    """Context steps of a dream from an episode's beginning: one, or as many as the model needs."""
    if model.starts is not None and model.starts.first is not None:
        return model.starts.first.codes.shape[1]
    return max(1, model.config.dynamics.frame_condition)


def _given_steps(model: WorldModel) -> int:
    return _DEFAULT_STEPS if model.starts is None else model.starts.codes.shape[1]


def pick_and_seed(keys: Tensor, numbers: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """An index in [0, count) and a seed for each dream, both (n,) int64; does not synchronise with the device."""
    noise = uniforms(keys, numbers, 4).double()
    picks = ((noise[:, 0] + noise[:, 1] * 2.0**-24) * count).long()
    parts = (noise[:, 2:] * 2.0**24).long()
    return picks.clamp_(max=count - 1), (parts[:, 0] << 24) | parts[:, 1]

"""Where dreams begin: a seeded supply of given steps for reset, from one of several sources.

Each row has a key, drawn from its seed, and a number of its dream: the two decide where that dream begins and all that
it draws, whatever the rows beside it.

Letters: K stored starts, n rows, T given steps, F frames of a step, H W C pixels, h w latent grid, M slices, G signals.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from worldmodel.data import EpisodeStorage
from worldmodel.data.splits import SPLITS
from worldmodel.dynamics.sampling import uniforms
from worldmodel.media.arrays import ARRAYS
from worldmodel.media.brightness import to_bytes
from worldmodel.media.read import read_images
from worldmodel.model import WorldModel
from worldmodel.names import did_you_mean
from worldmodel.shapes import check_frames

SOURCES = ("starts", "prior")  # what `seed_from` may name, next to the folder of a store
_USUAL_STEPS = 8  # given to dreams of a model without starts


class Context(NamedTuple):
    """What `WorldModel.start_codes` needs to begin n dreams."""

    codes: Tensor  # (n, T, h, w, M) int64
    actions: Tensor  # (n, T-1) int64 or (n, T-1, A) float32
    signals: Tensor  # (n, G) float32, at the last given step
    seeds: Tensor  # (n,) int64; decides all that the dream draws


class Source(Protocol):
    """Gives n dreams their beginning."""

    def draw(self, keys: Tensor, numbers: Tensor) -> Context:
        """The beginnings of dream number `numbers` (n,) int64 of rows with `keys` (n,) int64."""


def make_source(model: WorldModel, seed_from: str | os.PathLike, split: str = "train") -> Source:
    """The source called "starts" or "prior", or a store's folder."""
    if split not in (splits := (*SPLITS, "all")):
        raise ValueError(f"unknown split {split!r}.{did_you_mean(str(split), splits)}")
    if seed_from == "starts":
        return RecordedStarts(model)
    if seed_from == "prior":
        return PriorStarts(model)
    if not Path(seed_from).is_dir():
        raise ValueError(
            f"seed_from is neither the folder of a store nor known: {str(seed_from)!r}."
            f"{did_you_mean(str(seed_from), SOURCES)}"
        )
    return StoreStarts(model, seed_from, split)


class RecordedStarts:
    """The segments of real play that lie in a model's checkpoint."""

    def __init__(self, model: WorldModel) -> None:
        if model.starts is None or not len(model.starts.codes):
            raise ValueError(
                "this model has no start segments, so no dream can begin: its checkpoint folder lacks "
                "starts.safetensors. Save the model again with starts (train-dynamics does), or let dreams begin in a "
                "store: seed_from=FOLDER"
            )
        starts = model.starts
        self._codes = starts.codes.to(model.device)
        self._actions = starts.actions.to(model.device)
        self._signals = starts.signals[:, -1].to(model.device)

    def draw(self, keys: Tensor, numbers: Tensor) -> Context:
        pick, seeds = _pick_and_seed(keys, numbers, len(self._codes))
        return Context(self._codes[pick], self._actions[pick], self._signals[pick], seeds)


class StoreStarts:
    """Any segment of a split of recorded play of the model's game."""

    def __init__(self, model: WorldModel, folder: str | os.PathLike, split: str = "train") -> None:
        self._model, self._split = model, split
        self._store = EpisodeStorage.open(Path(folder))
        self._steps = _given_steps(model)
        info, config = self._store.info, model.config
        theirs, ours = (info.action.kind, info.action.n, info.signal_names), (config.action.kind, config.action.n)
        if theirs != (*ours, config.signal_names):
            raise ValueError(
                f"{folder} is play of another game: {info.env_id} with (kind, number, signals) {theirs}, the model "
                f"knows {(*ours, config.signal_names)}"
            )
        self._store.sample_ids(1, self._steps - 1, np.random.default_rng(0), split)  # fails now rather than at a reset

    def draw(self, keys: Tensor, numbers: Tensor) -> Context:
        segments = []
        for key, number in zip(keys.tolist(), numbers.tolist(), strict=True):
            rng = np.random.default_rng((key, number))
            segments += self._store.sample_ids(1, self._steps - 1, rng, self._split)
        batch = self._store.batch(segments).to(self._model.device)
        with torch.inference_mode():
            codes = self._model.tokenizer.encode(batch.frames)
        return Context(codes, batch.actions, batch.signals[:, -1], _pick_and_seed(keys, numbers, 1)[1])


class PriorStarts:
    """Steps that the model makes itself, from nothing, with random actions between them.

    Nobody knows the game variables of such a step: those of a recorded start stand in for them, zeros without any.
    """

    def __init__(self, model: WorldModel) -> None:
        self._model = model
        self._steps = _given_steps(model)
        self._recorded = RecordedStarts(model) if model.starts is not None and len(model.starts.codes) else None
        first = torch.zeros(1, dtype=torch.int64, device=model.device)
        self.draw(first, first)  # a model that cannot says so now rather than at a reset

    def draw(self, keys: Tensor, numbers: Tensor) -> Context:
        spec = self._model.config.action
        space = spec.held.to_gym()
        actions = []
        for key, number in zip(keys.tolist(), numbers.tolist(), strict=True):
            space.seed(int(np.random.default_rng((key, number)).integers(2**31)))
            actions.append([space.sample() for _ in range(self._steps - 1)])
        given = spec.hold(torch.from_numpy(np.asarray(actions, dtype=spec.dtype)).to(keys.device))
        reads = self._model.config.dynamics.action_condition != "none"
        _, seeds = _pick_and_seed(keys, numbers, 1)
        video = self._model.sample(len(keys), self._steps, actions=given if reads else None, seeds=seeds)
        if self._recorded is None:
            signals = torch.zeros(len(keys), len(self._model.config.signal_names), device=keys.device)
        else:
            signals = self._recorded.draw(keys, numbers).signals
        return Context(video.codes, given, signals, seeds)


class GivenStarts:
    """Frames of the user's own, the same for all rows or for each its own.

    Args:
        rows: of the env.
        given: "frames" (T, F, H, W, C) or (B, T, F, H, W, C), or one picture, (H, W, C) or (B, H, W, C), which is shown
            F times as at a reset, uint8 or what `to_bytes` converts; or the name of a file of such an array, or of a
            picture or a film, shrunk to the model's size; "actions" (T-1, …) or (B, T-1, …) between them, if T is above
            1, as an agent gives them or as a store holds them; "signals", by name or (G,) or (B, G), at the last of
            them: the usual ones (`WorldModel.usual_signals`) where they are not given.
    """

    def __init__(self, model: WorldModel, rows: np.ndarray, total: int, given: Mapping[str, Any]) -> None:
        config, device = model.config, model.device
        frames = torch.as_tensor(_frames_of(given["frames"], model), device=device)
        if frames.ndim in (3, 4):
            frames = frames[..., None, None, :, :, :].repeat_interleave(model.frames_per_step, dim=-4)
        check_frames(frames, model.height, model.width, config.tokenizer.channels, model.frames_per_step)
        each = torch.as_tensor(rows, device=device)
        frames = _for_rows(frames, 5, each, total, "frames")
        steps = frames.shape[1]
        if "actions" not in given and steps > 1:
            raise ValueError(f"{steps} given steps need options['actions'], the {steps - 1} between them")
        spec = config.action
        empty = np.zeros((0, *spec.shape), spec.dtype)
        actions = torch.as_tensor(_as_actions(given.get("actions", empty), spec.dtype), device=device)
        if actions.shape[-1:] == spec.held.shape:
            actions = spec.hold(actions)
        actions = _for_rows(actions, 1 + len(spec.shape), each, total, "actions")
        if actions.shape[1] != steps - 1:
            raise ValueError(f"{steps} given steps have {steps - 1} actions between them, got {actions.shape[1]}")
        spec.check(actions.flatten(0, 1).cpu().numpy())
        signals = _signals(given.get("signals"), config.signal_names, model.usual_signals.cpu().numpy())
        if not np.isfinite(signals).all():
            raise ValueError(f"options['signals'] must be finite; leave out those not known, got {given['signals']}")
        self._signals = _for_rows(torch.as_tensor(signals, device=device), 1, each, total, "signals")
        self._actions = actions
        with torch.inference_mode():
            self._codes = model.tokenizer.encode(frames)

    def draw(self, keys: Tensor, numbers: Tensor) -> Context:
        return Context(self._codes, self._actions, self._signals, _pick_and_seed(keys, numbers, 1)[1])


def _frames_of(given: Any, model: WorldModel) -> np.ndarray:
    """Frames as an array of bytes: given as one, as a tensor or by a file's name."""
    if not isinstance(given, str | os.PathLike):
        given = given.detach().cpu() if isinstance(given, Tensor) else given
        try:
            return np.array(to_bytes(given))
        except ValueError as error:
            raise ValueError(f"options['frames']: {error}") from error
    path, per_step = Path(given), model.frames_per_step
    images = read_images(path, model.config.tokenizer.channels, size=(model.height, model.width)).frames
    if path.suffix.lower() in ARRAYS or len(images) == 1:
        return images if path.suffix.lower() in ARRAYS else images[0]
    if len(images) % per_step:
        raise ValueError(f"{path} has {len(images)} images, which make no steps of {per_step}: give a multiple, or one")
    return images.reshape(-1, per_step, *images.shape[1:])


def _for_rows(given: Tensor, ndim: int, rows: Tensor, total: int, name: str) -> Tensor:
    """What is given once for all rows (`ndim` axes), or for each row of the env: that of `rows`, (n, …)."""
    if given.ndim == ndim:
        return given.expand(len(rows), *given.shape)
    if given.ndim != ndim + 1 or len(given) != total:
        raise ValueError(
            f"options[{name!r}] must have {ndim} axes, or one more with an entry for each of {total} rows, got shape "
            f"{tuple(given.shape)}"
        )
    return given[rows]


def _as_actions(given: Any, dtype: np.dtype) -> np.ndarray:
    """In the dtype of the action space; ValueError where that would change them, as numbers for names."""
    values = np.asarray(given)
    if values.size and dtype.kind == "i" and values.dtype.kind not in "iu":
        raise ValueError(f"options['actions'] must be whole numbers for these named actions, got {values.dtype}")
    return values.astype(dtype)


def _signals(given: Any, names: tuple[str, ...], usual: np.ndarray) -> np.ndarray:
    if given is None:
        return usual
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise ValueError(f"unknown game variable {name!r}.{did_you_mean(name, names)}")
        return np.array([given.get(name, value) for name, value in zip(names, usual, strict=True)], np.float32)
    values = np.asarray(given, np.float32)
    if values.shape[-1:] != (len(names),):
        raise ValueError(f"options['signals'] must name or list {', '.join(names) or 'none'}, got shape {values.shape}")
    return values


def _given_steps(model: WorldModel) -> int:
    return _USUAL_STEPS if model.starts is None else model.starts.codes.shape[1]


def _pick_and_seed(keys: Tensor, numbers: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """A place in [0, count) and a seed for each dream, both (n,) int64; nothing waits for the device."""
    noise = uniforms(keys, numbers, 4).double()
    picks = ((noise[:, 0] + noise[:, 1] * 2.0**-24) * count).long()
    parts = (noise[:, 2:] * 2.0**24).long()
    return picks.clamp_(max=count - 1), (parts[:, 0] << 24) | parts[:, 1]

"""Dreams that start from the user's frames: arrays, tensors, or paths of images and videos.

Letters: B rows of the env, n some of them, T context steps, F frames of a step, H W C pixels, G signals.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodel.envs.dream.start_states import Context, pick_and_seed
from worldmodel.errors import check_known, did_you_mean
from worldmodel.media.arrays import ARRAYS
from worldmodel.media.brightness import to_bytes
from worldmodel.media.read import read_images
from worldmodel.model import WorldModel
from worldmodel.shapes import check_frames

_OPTIONS = ("reset_mask", "from", "starts", "frames", "actions", "signals")  # of a reset


class GivenStarts:
    """Starts from the user's frames, the same for all rows or one per row.

    Args:
        rows: indices of the rows that start.
        total: B.
        given: "frames" (T, F, H, W, C) or (B, T, F, H, W, C), or one image, (H, W, C) or (B, H, W, C), which is
            repeated F times as at a reset, uint8 or what `to_bytes` converts; or the path of a file with such an array,
            an image or a video, shrunk to the model's size; "actions" (T-1, …) or (B, T-1, …) between them, if T is
            above 1, as an agent chooses them or as a store holds them; "signals" at the last frame, by name, () or
            (B,) each, or (G,) or (B, G); missing ones default to `WorldModel.usual_signals`.
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
            raise ValueError(f"frames of {steps} steps need options['actions'], the {steps - 1} between them")
        spec = config.action
        empty = np.zeros((0, *spec.shape), spec.dtype)
        actions = torch.as_tensor(_as_actions(given.get("actions", empty), spec.dtype), device=device)
        if actions.shape[-1:] == spec.held.shape:
            actions = spec.hold(actions)
        actions = _for_rows(actions, 1 + len(spec.shape), each, total, "actions")
        if actions.shape[1] != steps - 1:
            raise ValueError(f"frames of {steps} steps need {steps - 1} actions between them, got {actions.shape[1]}")
        spec.check(actions.flatten(0, 1).cpu().numpy())
        signals = _signals(given.get("signals"), config.signal_names, model.usual_signals.cpu().numpy())
        if not np.isfinite(signals).all():
            raise ValueError(f"options['signals'] must be finite; omit unknown ones, got {given['signals']}")
        self._signals = _for_rows(torch.as_tensor(signals, device=device), 1, each, total, "signals")
        self._actions = actions
        with torch.inference_mode():
            self._codes = model.tokenizer.encode(frames)

    def draw(self, keys: Tensor, numbers: Tensor) -> Context:
        return Context(self._codes, self._actions, self._signals, pick_and_seed(keys, numbers, 1)[1])


def _frames_of(given: Any, model: WorldModel) -> np.ndarray:
    """Frames as a uint8 array, from an array, a tensor or a file."""
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
        raise ValueError(f"{path} has {len(images)} images; wanted one, or a multiple of {per_step} (frames per step)")
    return images.reshape(-1, per_step, *images.shape[1:])


def _for_rows(given: Tensor, ndim: int, rows: Tensor, total: int, name: str) -> Tensor:
    """Values of `rows`, (n, …), from one value for all rows (`ndim` axes) or one per row of the env."""
    if given.ndim == ndim:
        return given.expand(len(rows), *given.shape)
    if given.ndim != ndim + 1 or len(given) != total:
        raise ValueError(
            f"options[{name!r}] must have {ndim} axes, or a leading axis with an entry for each of {total} rows too, "
            f"got shape {tuple(given.shape)}"
        )
    return given[rows]


def _as_actions(given: Any, dtype: np.dtype) -> np.ndarray:
    """Actions in the dtype of the action space; ValueError for floats where actions are discrete."""
    values = np.asarray(given)
    if values.size and dtype.kind == "i" and values.dtype.kind not in "iu":
        raise ValueError(f"options['actions'] must be integers for these discrete actions, got {values.dtype}")
    return values.astype(dtype)


def _signals(given: Any, names: tuple[str, ...], defaults: np.ndarray) -> np.ndarray:
    if given is None:
        return defaults
    if isinstance(given, Mapping):
        for name in given:
            check_known("game variable", name, names)
        each = [given.get(name, value) for name, value in zip(names, defaults, strict=True)]
        return np.stack(np.broadcast_arrays(*each), axis=-1).astype(np.float32) if each else defaults
    values = np.asarray(given, np.float32)
    if values.shape[-1:] != (len(names),):
        raise ValueError(f"options['signals'] must name or list {', '.join(names) or 'none'}, got shape {values.shape}")
    return values


def check_options(options: Mapping[str, Any]) -> None:
    """ValueError for reset options that are unknown, exclude each other, or need "frames" when these are missing."""
    if unknown := set(options) - set(_OPTIONS):
        name = min(map(str, unknown))
        raise ValueError(f"unknown reset option {name!r}.{did_you_mean(name, _OPTIONS)}")
    for name in ("from", "starts") if "frames" in options else ():
        if name in options:
            raise ValueError(f'the options "frames" and "{name}" exclude each other')
    for name in () if "frames" in options else ("actions", "signals"):
        if name in options:
            raise ValueError(f'the option "{name}" needs "frames", which are missing')

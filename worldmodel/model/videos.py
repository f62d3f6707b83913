"""Whole videos: from nothing, from given first frames, from actions, or from both.

The function behind `WorldModel.sample`, whose docstring describes its arguments. A tokenizer of clips looks at later
frames, so that codes of given frames would tell what comes after them: its videos are made clip by clip, and given
frames enter through the frame encoder alone.

Letters: n videos, T given steps, F frames of a step, H W C pixels, h w latent grid, M slices.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from worldmodel.dynamics import GPTConfig, Sampling, Video
from worldmodel.dynamics.generation import generate
from worldmodel.model.checks import check_actions, check_seeds

if TYPE_CHECKING:
    from worldmodel.model import WorldModel


def sample(
    wm: "WorldModel",
    n: int,
    steps: int,
    first_frames: Tensor | np.ndarray | None,
    actions: Tensor | np.ndarray | None,
    options: Sampling,
    seeds: Sequence[int] | Tensor | None,
) -> Video:
    """Videos that go on step by step, or clip by clip."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    seeds = check_seeds(seeds, n, wm.device)
    if actions is not None:
        actions = check_actions(wm, actions, (n,), steps - 1)
    if first_frames is not None:
        first_frames = torch.as_tensor(first_frames, device=wm.device)
        given, wanted = (
            first_frames.shape[1] if first_frames.ndim == 6 else 0,
            max(1, wm.config.dynamics.frame_condition),
        )
        if not wanted <= given <= steps or len(first_frames) != n:
            raise ValueError(
                f"first_frames must be ({n}, T, F, H, W, C) with T from {wanted} to steps = {steps}, "
                f"got {tuple(first_frames.shape)}"
            )
    if wm.config.tokenizer.temporal == "clip":
        return _clip_by_clip(wm, n, steps, first_frames, actions, options, seeds)
    codes = _no_codes(wm, n) if first_frames is None else wm.tokenizer.encode(first_frames)
    codes = generate(wm.dynamics, wm.tokenizer, codes, steps, seeds, first_frames, actions, options)
    return Video(wm.tokenizer.decode(codes), codes)


def _no_codes(wm: "WorldModel", n: int) -> Tensor:
    """Codes of no step, (n, 0, h, w, M)."""
    return torch.zeros(n, 0, *wm.tokenizer.grid, wm.tokenizer.num_slices, dtype=torch.int64, device=wm.device)


def _clip_by_clip(
    wm: "WorldModel",
    n: int,
    steps: int,
    first_frames: Tensor | None,
    actions: Tensor | None,
    options: Sampling,
    seeds: Tensor,
) -> Video:
    """Clips from the learned start, each told the last `frame_condition` decoded steps of the one before it.

    Its own first steps repeat those and are dropped.
    """
    config, length = wm.config.dynamics, wm.config.tokenizer.clip_steps
    _check_clips(config, length, steps, first_frames is not None)
    shift = length - config.frame_condition
    frames, codes = [], []
    for clip in range(1 + max(0, -((length - steps) // shift))):
        begin = clip * shift
        known = None if actions is None else _filled(actions[:, begin : begin + length - 1], length - 1)
        drawn = generate(
            wm.dynamics, wm.tokenizer, _no_codes(wm, n), length, seeds, first_frames, known, options, clip * length
        )
        seen = wm.tokenizer.decode(drawn)
        first_frames = seen[:, shift:]
        new = slice(config.frame_condition if clip else 0, None)
        frames.append(seen[:, new])
        codes.append(drawn[:, new])
    return Video(torch.cat(frames, dim=1)[:, :steps], torch.cat(codes, dim=1)[:, :steps])


def _check_clips(config: GPTConfig, length: int, steps: int, given_frames: bool) -> None:
    """Raise ValueError if a model of clips of `length` steps was not trained for what is asked of it."""
    if not config.lead:
        raise ValueError(
            'this model has not learned how a clip begins: train it with learn_start=True, or with order "raster"'
        )
    if config.frame_condition >= length:
        raise ValueError(f"frame_condition must be below the {length} steps of a clip, got {config.frame_condition}")
    if config.frame_condition:
        return
    if given_frames:
        raise ValueError(
            "codes of a clip look at later frames, so first_frames cannot be given as codes: leave them out, or train "
            "the model with frame_condition"
        )
    if steps > length:
        raise ValueError(
            f"this model makes clips of {length} steps, got steps {steps}: ask for at most {length}, or train it with "
            "frame_condition, so that a clip can go on from the last frames of another"
        )


def _filled(actions: Tensor, count: int) -> Tensor:
    """Actions (n, up to count, …) with the last one repeated, or zeros if there is none: (n, count, …).

    What is cut off a clip's end still needs actions.
    """
    missing = count - actions.shape[1]
    last = actions[:, -1:] if actions.shape[1] else actions.new_zeros(len(actions), 1, *actions.shape[2:])
    return torch.cat((actions, last.expand(-1, missing, *last.shape[2:])), dim=1)

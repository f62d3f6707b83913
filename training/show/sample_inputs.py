"""Conditions of sampled videos: first frames and actions, from a store, a file or the command line.

Letters: n videos, R rows of a file, T steps, F frames of a step, H W C pixels, K actions.
Time: action t is taken after step t, so T steps have T - 1 actions between them.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldmodel.data import ActionSpec, EpisodeStorage, SegmentId
from worldmodel.data.clips import draw_clips
from worldmodel.data.regroup import regroup_action, suits
from worldmodel.dynamics import DynamicsConfig, Sampling
from worldmodel.dynamics.generation import check_request
from worldmodel.errors import did_you_mean
from worldmodel.media.arrays import ARRAYS, read_array
from worldmodel.media.brightness import to_bytes
from worldmodel.media.read import read_images
from worldmodel.model import WorldModelConfig
from worldmodel.shapes import check_frames

# Whether first frames and actions are given. "auto" takes the first of these for which the model was trained.
CONDITIONS = {"both": (True, True), "frames": (True, False), "actions": (False, True), "none": (False, False)}
_HOW = {
    "frames": "first frames (--data STORE or --frames FILE)",
    "actions": "actions (--data STORE or --actions …)",
}


def choose_condition(
    asked: str,
    model: DynamicsConfig,
    sampling: Sampling,
    data: bool,
    frames: bool,
    actions: bool,
    reads_frames: bool = True,
) -> str:
    """The requested condition, or with "auto" the richest that is available and for which the model was trained.

    Args:
        asked: a key of `CONDITIONS`, or "auto".
        data, frames, actions: whether the user gave a store, first frames, actions.
        reads_frames: whether the model can be given first frames (`WorldModel.reads_frames`).

    Raises: ValueError if that is not possible.
    """
    objections = {name: _objection(name, data, frames, actions) for name in CONDITIONS}
    if asked == "auto":
        possible = [name for name, objection in objections.items() if objection is None]
    elif objection := objections[asked]:
        raise ValueError(objection)
    else:
        possible = [asked]
    problems = []
    for name in possible:
        try:
            if CONDITIONS[name][0] and not reads_frames:
                raise ValueError(
                    "this model makes whole clips and reads no first frames: train it with frame_condition above 0, or "
                    "let it begin"
                )
            check_request(model, *CONDITIONS[name], sampling)
        except ValueError as error:
            problems.append(error)
        else:
            return name
    raise ValueError(f"{problems[0]}. On the command line: {', '.join(_HOW.values())}") from problems[0]


def _objection(condition: str, data: bool, frames: bool, actions: bool) -> str | None:
    """Why the given inputs do not fit this condition; None if they do."""
    gives_frames, gives_actions = CONDITIONS[condition]
    for name, wanted, given in (("frames", gives_frames, frames), ("actions", gives_actions, actions)):
        if wanted and not given and not data:
            return f"condition {condition!r} needs {_HOW[name]}"
        if given and not wanted:
            return f"condition {condition!r} ignores --{name}: omit it or choose another condition"
    if data and not gives_frames and (actions or not gives_actions):
        return f"condition {condition!r} ignores --data: omit it or choose another condition"
    return None


def check_same_game(config: WorldModelConfig, store: EpisodeStorage, regrouped: bool = False) -> None:
    """ValueError for a store of another game or with frames of another size than the model's.

    `regrouped`: the clips that the model is given are cut into steps of its own number of frames (`regroup_clips`).
    """
    info, tokenizer = store.info, config.tokenizer
    if regrouped and suits(info.frames_per_step, tokenizer.frames_per_step):
        action = regroup_action(info.action, info.frames_per_step, tokenizer.frames_per_step)
        info = replace(info, frames_per_step=tokenizer.frames_per_step, action=action)
    wanted = {
        "env_id": config.env_id or info.env_id,
        "action": config.action,
        "frames of a step (F, H, W, C)": (
            tokenizer.frames_per_step,
            tokenizer.height,
            tokenizer.width,
            tokenizer.channels,
        ),
    }
    found = {"env_id": info.env_id, "action": info.action, "frames of a step (F, H, W, C)": info.frame_shape}
    for name, value in wanted.items():
        if found[name] != value:
            raise ValueError(
                f"{store.root} does not fit the model: its {name} is {found[name]}, the model's {value}; "
                "give a store of the game that the model was learned from"
                + ("" if name == "env_id" else _regrouping(info.frames_per_step, tokenizer.frames_per_step))
            )


def _regrouping(found: int, wanted: int) -> str:
    """How to get steps of `wanted` frames; empty if the store has them."""
    if found == wanted:
        return ""
    return (
        f". Its steps have other frames: collect with --env-kwargs frames_per_step={wanted}, import with "
        f"--frames-per-step {wanted}, or copy the store with worldmodel.data.regroup.regroup(store, folder, {wanted})"
    )


def real_clips(store: EpisodeStorage, n: int, steps: int, split: str, seed: int) -> list[SegmentId]:
    """`n` clips of `steps` steps from a split, in random order (`draw_clips`)."""
    return draw_clips(store, n, steps - 1, np.random.default_rng(seed), split)


def read_first_frames(
    source: str | Path | NDArray, config: WorldModelConfig, n: int, steps: int, notes: Counter[str] | None = None
) -> NDArray[np.uint8]:
    """The first `steps` steps of the user's frames, for each of n videos: (n, steps, F, H, W, C) uint8.

    Args:
        source: an array, or a file .npy, .npz (of one array), a video, an image, or a folder of images in the order of
            their names. An array is (R, T, F, H, W, C), or images (R, N, H, W, C) or (N, H, W, C), F of which make a
            step. A single image is repeated for one step. One row is used for all videos; otherwise R is at least n.
            Images and videos larger than the model's are shrunk by area, ignoring their proportions; arrays of other
            dtypes than uint8 are converted by `to_bytes`.
        notes: counts conversions, by description.
    """
    tokenizer = config.tokenizer
    per_step = tokenizer.frames_per_step
    if isinstance(source, np.ndarray):
        frames = to_bytes(source)
    else:
        size = tokenizer.height, tokenizer.width
        frames, changed = read_images(Path(source), tokenizer.channels, steps * per_step, size)
        (Counter() if notes is None else notes).update(changed)
    if frames.ndim not in (4, 5, 6):
        raise ValueError(
            f"frames must be (R, T, F, H, W, C), or images (R, N, H, W, C) or (N, H, W, C); got {frames.shape}"
        )
    if frames.ndim == 4:
        frames = frames[None]
    if frames.ndim == 5:  # images, to be joined into steps
        if frames.shape[1] == 1 and steps == 1:
            frames = frames.repeat(per_step, axis=1)
        whole = frames.shape[1] // per_step
        frames = frames[:, : whole * per_step].reshape(len(frames), whole, per_step, *frames.shape[2:])
    check_frames(frames, tokenizer.height, tokenizer.width, tokenizer.channels, per_step)
    if frames.shape[1] < steps:
        raise ValueError(
            f"{steps} context steps of {per_step} frames each are needed, but the frames make {frames.shape[1]}; "
            "give more frames or lower given_steps"
        )
    if len(frames) != 1 and len(frames) < n:
        raise ValueError(f"frames must have one row for all videos or at least {n}, got {len(frames)}; or lower n")
    # A copy, because torch needs writable arrays.
    return np.array(np.broadcast_to(frames[:n, :steps], (n, steps, *frames.shape[2:])))


def read_actions(source: str | Path | Sequence[str] | NDArray, spec: ActionSpec) -> NDArray:
    """Actions from words or an array: (K,) int64 or (K, A) float32 for all videos, or (n, K) or (n, K, A) per video.

    Args:
        source: an array, the path of a .npy file, or words for a discrete game: numbers or names, each followed by
            `*COUNT` to repeat it ("turn_left*4 move_forward 0").
    """
    given = [source] if isinstance(source, str | Path) else source
    if len(given) == 1 and not isinstance(given, np.ndarray) and Path(str(given[0])).suffix.lower() in ARRAYS:
        given = read_array(Path(str(given[0])))
    elif len(given) == 1 and not isinstance(given, np.ndarray) and os.path.isfile(str(given[0])):
        raise ValueError(f"actions must be a file ({' or '.join(ARRAYS)}) or words; got {given[0]}")
    if not isinstance(given, np.ndarray):
        return _from_words(" ".join(map(str, given)).split(), spec)
    actions, deep = given, 1 + len(spec.shape)
    if spec.kind == "discrete" and (actions.dtype.kind == "b" or _are_integers(actions)):
        actions = actions.astype(spec.dtype)
    fits = actions.dtype.kind in ("iu" if spec.kind == "discrete" else "iuf")
    tail_fits = actions.shape[actions.ndim - len(spec.shape) :] == spec.shape
    if not fits or not tail_fits or actions.ndim not in (deep, deep + 1):
        tail = ", A" if spec.shape else ""
        raise ValueError(
            f"actions must be {spec.dtype} of shape (K{tail}) or (n, K{tail}) for this {spec.kind} game with n = "
            f"{spec.n}; got {actions.dtype} {actions.shape}"
        )
    actions = actions.astype(spec.dtype)
    spec.check(actions.reshape(-1, *spec.shape))
    return actions


def _are_integers(numbers: NDArray) -> bool:
    """Whether all floats have integer values, such as 1.0."""
    if numbers.dtype.kind != "f":
        return False
    wide = numbers.astype(float)
    return bool((abs(wide) < 2**53).all() and (wide % 1 == 0).all())


def _from_words(words: Sequence[str], spec: ActionSpec) -> NDArray[np.int64]:
    if spec.kind != "discrete":
        raise ValueError(f"this game's actions have {spec.n} dimensions: give them as a .npy file, not as words")
    actions: list[int] = []
    for word in words:
        name, star, times = word.partition("*")
        if star and not times.isdecimal():
            raise ValueError(f"{word!r}: * must be followed by an integer, such as {name}*4")
        if name not in spec.names and not (name.isdecimal() and int(name) < spec.n):
            raise ValueError(f"no action {name!r}.{did_you_mean(name, (*spec.names, *map(str, range(spec.n))))}")
        actions += [spec.names.index(name) if name in spec.names else int(name)] * (int(times) if star else 1)
    if not actions:
        raise ValueError(f"at least one action is needed, got {' '.join(words)!r}")
    return np.array(actions, np.int64)


def action_text(action: NDArray, spec: ActionSpec) -> str:
    """A short text for one action."""
    if spec.kind == "discrete":
        return spec.names[int(action)] if spec.names else str(int(action))
    return " ".join(f"{number:+.1f}" for number in action)

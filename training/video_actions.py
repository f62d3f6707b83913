"""The actions, rewards and signals of a user's video: rows of a table, brought into steps.

Letters: K rows of a table, V frames of a video, F frames per step, N steps, A numbers per row, G signals.
Time: row t belongs to frame t. Its action leads from it to the next frame, its reward is for that; its signals are as
the frame shows them. A table of steps instead of frames has a row for each step.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.data import ActionSpec
from worldmodel.data.steps import num_steps, numbers_to_steps, state_frames
from worldmodel.training.action_tables import Table


class Steps(NamedTuple):
    """The same, step by step."""

    actions: NDArray  # (N,) int64 or (N, A) float32
    rewards: NDArray[np.float32]  # (N,)
    signals: NDArray[np.float32]  # (N + 1, G)


def action_spec(
    tables: Sequence[Table],
    kind: str,
    per_step: Sequence[int],
    names: Sequence[str] = (),
    limit: Sequence[float] = (),
) -> ActionSpec:
    """The actions that hold all tables.

    Args:
        kind: "discrete", "box", or "auto": discrete if all tables are single columns of whole numbers from 0 on.
        per_step: rows that make a step of each table: F, or 1 for tables of steps.
        names: of discrete actions, or of a row's numbers.
        limit: bounds of a row's numbers, below and above 0; one for all or one for each. Without it the bounds are
            the narrowest that hold all actions given, and zero.
    """
    widths = {1 if table.actions.ndim == 1 else table.actions.shape[1] for table in tables}
    if len(widths) != 1:
        raise ValueError(f"the actions of all videos must be of one width, got {sorted(widths)} columns")
    [width] = widths
    whole = width == 1 and all(table.actions.dtype.kind in "iu" and table.actions.min() >= 0 for table in tables)
    if kind == "discrete" and not whole:
        raise ValueError(
            f"discrete actions are one column of whole numbers from 0 on; these are {width} columns of "
            f"{tables[0].actions.dtype}. Give --action-kind box for actions that are numbers"
        )
    if kind == "discrete" or (kind == "auto" and whole):
        if limit:
            raise ValueError("--action-limit is for actions that are numbers (--action-kind box); these are discrete")
        largest = max(int(table.actions.max()) for table in tables)
        n = len(names) or largest + 1
        if largest >= n:
            raise ValueError(f"action {largest} has no name: {n} are named, {', '.join(names)}")
        return ActionSpec(kind="discrete", n=n, names=tuple(names))
    if len(set(per_step)) != 1:
        raise ValueError("some files of actions have a row for each frame, others for each step; make them all alike")
    if names and len(names) != width:
        raise ValueError(f"names must be one for each of the {width} columns of actions, got {', '.join(names)}")
    if limit and len(limit) not in (1, width):
        raise ValueError(f"the limit must be one number, or one for each of the {width} columns; got {list(limit)}")
    everything = np.concatenate([table.actions.reshape(-1, width) for table in tables]).astype(np.float32)
    if not np.isfinite(everything).all():
        raise ValueError("actions must be finite numbers; among these are some that are not")
    low, high = np.minimum(everything.min(0), 0), np.maximum(everything.max(0), 0)
    if limit:
        wide = np.broadcast_to(np.abs(np.array(limit, np.float32)), width)
        if (low < -wide).any() or (high > wide).any():
            raise ValueError(
                f"the actions reach from {low} to {high}, beyond the limit of ±{wide}; give a higher --action-limit"
            )
        low, high = -wide, wide
    high = np.where(high > low, high, low + 1)  # a number that is always 0
    times = per_step[0]
    return ActionSpec(
        kind="box",
        n=width * times,
        names=tuple(f"{name}_{k}" if times > 1 else name for k in range(times) for name in names),
        low=tuple(low.tolist()) * times,
        high=tuple(high.tolist()) * times,
        frames=times,
    )


def rows_per_step(table: Table, num_frames: int, frames_per_step: int) -> int:
    """F if the table has a row for each frame, 1 if for each step; ValueError if neither fits the video."""
    rows, steps = len(table.actions), num_steps(num_frames, frames_per_step)
    if rows in (num_frames, num_frames - 1):
        return frames_per_step
    if rows in (steps, steps + 1):
        return 1
    raise ValueError(
        f"{table.path} has {rows} actions, its video {num_frames} frames: wanted are {num_frames} or {num_frames - 1} "
        f"(one for each frame; the last frame's leads nowhere), or {steps} or {steps + 1} (one for each step of "
        f"{frames_per_step} frames)"
    )


def to_steps(table: Table, spec: ActionSpec, num_frames: int, frames_per_step: int) -> Steps:
    """Bring the rows of a video into steps.

    Numbers of a step's frames are put side by side. Discrete actions must be one for all frames of a step. Rewards of
    a step's frames are added up. Signals are those of the step's last frame.
    """
    per_step = rows_per_step(table, num_frames, frames_per_step)
    steps = num_steps(num_frames, frames_per_step)
    used = steps if per_step == 1 else num_frames - 1
    actions = table.actions[:used]
    if spec.kind == "discrete":
        actions = _held(actions.reshape(-1).astype(np.int64), per_step, table.path)
    else:
        actions = numbers_to_steps(actions.reshape(used, -1).astype(np.float32), per_step)
    rewards = np.zeros((used, 1)) if table.rewards is None else table.rewards[:used, None]
    states = np.arange(steps + 1) if per_step == 1 else state_frames(num_frames, frames_per_step)
    if table.signals.shape[1] and len(table.signals) <= states[-1]:
        raise ValueError(
            f"{table.path} has {len(table.signals)} rows; with signals it needs {states[-1] + 1}, one for the last "
            "frame too"
        )
    signals = table.signals[states] if table.signals.shape[1] else np.zeros((steps + 1, 0))
    for what, numbers in (("rewards", rewards), ("signals", signals)):
        if not np.isfinite(numbers).all():
            raise ValueError(f"{table.path}: {what} must be finite numbers; among these are some that are not")
    return Steps(
        actions=actions,
        rewards=numbers_to_steps(rewards.astype(np.float32), per_step).sum(1),
        signals=signals.astype(np.float32),
    )


def _held(actions: NDArray[np.int64], per_step: int, path: Path) -> NDArray[np.int64]:
    """(N,) the action of each step; ValueError if it changes within one."""
    first = actions[::per_step]
    changes = np.flatnonzero(actions != np.repeat(first, per_step)[: len(actions)])
    if len(changes):
        row = int(changes[0])
        raise ValueError(
            f"{path}: the action changes within a step, from {first[row // per_step]} to {actions[row]} at row {row} "
            f"(counted from 0). A step of {per_step} frames has one action: hold each for {per_step} frames, or give "
            "--frames-per-step 1"
        )
    return first

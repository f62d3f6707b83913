"""Convert the rows of a user's action table to actions, rewards and signals per step.

Letters: K rows of a table, V frames of a video, F frames per step, N steps, A columns of actions, G signals.
Time: row t belongs to frame t. Its action leads from this frame to the next, and its reward belongs to that
transition; its signals describe the frame. A table may also have one row per step instead of per frame.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.data import ActionSpec
from worldmodel.data.steps import num_steps, numbers_to_steps, state_frames
from worldmodel.data.user_video.tables import Table
from worldmodel.errors import did_you_mean

_MANY_WORDS = 64  # more different words than this are probably not actions
_MANY_INTEGERS = 256


class Steps(NamedTuple):
    """Actions, rewards and signals per step."""

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
    """An action space that contains the actions of all tables.

    Args:
        kind: "discrete", "box", or "auto": discrete if all tables are single columns of integers >= 0 (1.0 counts as
            an integer), single columns of words, or one-hot rows.
        per_step: rows per step of each table: F, or 1 for tables with a row per step.
        names: of discrete actions, or of a row's columns. Default: the names of the columns, if they have any; for a
            column of words these in alphabetical order.
        limit: bounds of the columns, below and above 0; one for all or one per column. Default: the narrowest bounds
            that contain all actions and zero.
    """
    _check_columns(tables)
    found = _discrete(tables)
    if kind == "discrete" and found is None:
        raise ValueError(
            "discrete actions are one column of integers from 0 on, one column of words, or one-hot rows; these are "
            f"{_width(tables[0])} columns of {tables[0].actions.dtype}. Use --action-kind box for continuous actions"
        )
    if kind != "box" and found is not None:
        if limit:
            raise ValueError("--action-limit is for continuous actions (--action-kind box); these are discrete")
        return _discrete_spec(tables, found, names)
    if any(table.actions.dtype.kind == "U" for table in tables):
        raise ValueError(f"{tables[0].path}: the actions are words, which --action-kind box does not accept")
    if len(set(per_step)) != 1:
        raise ValueError("some files of actions have a row for each frame, others for each step; use one of the two")
    width = _width(tables[0])
    names = names or (tables[0].columns if tables[0].named else ())
    if len(names) not in (0, width):
        raise ValueError(f"names must be one for each of the {width} columns of actions, got {', '.join(names)}")
    if limit and len(limit) not in (1, width):
        raise ValueError(f"the limit must be one number, or one for each of the {width} columns; got {list(limit)}")
    low, high = _bounds(tables, limit)
    times = per_step[0]
    return ActionSpec(
        kind="box",
        n=width * times,
        names=tuple(f"{name}_{k}" if times > 1 else name for k in range(times) for name in names),
        low=tuple(low.tolist()) * times,
        high=tuple(high.tolist()) * times,
        frames=times,
    )


def _width(table: Table) -> int:
    return 1 if table.actions.ndim == 1 else table.actions.shape[1]


def _check_columns(tables: Sequence[Table]) -> None:
    """Refuse tables whose columns differ in names or order."""
    widths = {_width(table) for table in tables}
    if len(widths) != 1:
        raise ValueError(f"the actions of all videos must have the same number of columns, got {sorted(widths)}")
    headed = [table for table in tables if table.named]
    for table in headed[1:]:
        if table.columns != headed[0].columns and len(table.columns) > 1:
            raise ValueError(
                f"{headed[0].path} has the columns {', '.join(headed[0].columns)}, {table.path} has "
                f"{', '.join(table.columns)}: give the order with --action-columns, or use the same names"
            )


def _finite(table: Table) -> NDArray:
    """(K', A) the rows without missing values; `to_steps` checks those that are used."""
    rows = table.actions.reshape(-1, _width(table))
    return rows[np.isfinite(rows).all(1)]


def _discrete(tables: Sequence[Table]) -> Literal["words", "integers", "one-hot"] | None:
    """How the actions of all tables can be read as discrete, or None."""
    if all(table.actions.dtype.kind == "U" for table in tables):
        return "words"
    if any(table.actions.dtype.kind == "U" for table in tables):
        words = next(table for table in tables if table.actions.dtype.kind == "U")
        raise ValueError(f"the actions of {words.path} are words, those of other files numbers: use one of the two")
    rows = np.concatenate([_finite(table) for table in tables])
    if rows.shape[1] == 1:
        return "integers" if len(rows) and rows.min() >= 0 and (rows % 1 == 0).all() else None
    one_hot = np.isin(rows, (0, 1)).all() and (rows.sum(1) == 1).all() and len(rows) > 1
    return "one-hot" if one_hot else None


def _discrete_spec(tables: Sequence[Table], found: str, names: Sequence[str]) -> ActionSpec:
    if found == "words":
        words = sorted({str(word) for table in tables for word in table.actions if word})
        if unknown := [word for word in words if names and word not in names]:
            raise ValueError(f"{unknown[0]!r} is not a name of an action.{did_you_mean(unknown[0], names)}")
        if not names and len(words) > _MANY_WORDS:
            raise ValueError(
                f"{tables[0].path}: the column {tables[0].columns[0]!r} holds {len(words)} different words, such as "
                f"{', '.join(words[:3])}. If these are actions, list them with --action-names; otherwise name the "
                "columns of actions with --action-columns"
            )
        return ActionSpec(kind="discrete", n=len(names or words), names=tuple(names or words))
    if found == "one-hot":
        names = names or (tables[0].columns if tables[0].named else ())
        largest, different = _width(tables[0]) - 1, _width(tables[0])
    else:
        indices = np.unique(np.concatenate([_finite(table) for table in tables]))
        largest, different = int(indices.max()), len(indices)
    n = len(names) or largest + 1
    if largest >= n:
        raise ValueError(f"action {largest} has no name: only {n} are named, {', '.join(names)}")
    if not names and n > _MANY_INTEGERS and different < n / 2:
        raise ValueError(
            f"the actions are integers up to {largest}, of which {different} occur. If they are discrete, number them "
            "from 0 or list them with --action-names; if they are quantities, use --action-kind box"
        )
    return ActionSpec(kind="discrete", n=n, names=tuple(names))


def _bounds(tables: Sequence[Table], limit: Sequence[float]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(A,) lowest and highest value of each column."""
    rows = np.concatenate([_as_float32(_finite(table)) for table in tables])
    rows = rows[np.isfinite(rows).all(1)]
    if not len(rows):
        raise ValueError(f"{tables[0].path}: no row of actions has only finite numbers")
    low, high = np.minimum(rows.min(0), 0), np.maximum(rows.max(0), 0)
    if limit:
        wide = np.broadcast_to(np.abs(np.array(limit, np.float32)), low.shape)
        if (low < -wide).any() or (high > wide).any():
            raise ValueError(
                f"the actions reach from {low} to {high}, beyond the limit of ±{wide}; use a higher --action-limit"
            )
        return -wide, wide
    return low, np.where(high > low, high, low + 1)  # + 1 where a column is always 0


def _as_float32(numbers: NDArray) -> NDArray[np.float32]:
    """Convert to float32; values beyond its range become infinite, which is refused later."""
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)


def rows_per_step(table: Table, num_frames: int, frames_per_step: int) -> int:
    """F if the table has a row per frame, 1 if it has a row per step; ValueError if neither fits the video."""
    rows, steps = len(table.actions), num_steps(num_frames, frames_per_step)
    if rows in (num_frames, num_frames - 1):
        return frames_per_step
    if rows in (steps, steps + 1):
        return 1
    raise ValueError(
        f"{table.path} has {rows} actions, its video {num_frames} frames: expected {num_frames} or {num_frames - 1} "
        f"(one per frame; the last one is not needed), or {steps} or {steps + 1} (one per step of "
        f"{frames_per_step} frames)"
    )


def to_steps(table: Table, spec: ActionSpec, num_frames: int, frames_per_step: int) -> Steps:
    """Convert the rows of a video to steps.

    Continuous actions of a step's frames are concatenated. A discrete action must be the same for all frames of a step.
    Rewards of a step's frames are summed. Signals are those of the step's last frame.
    """
    per_step = rows_per_step(table, num_frames, frames_per_step)
    steps = num_steps(num_frames, frames_per_step)
    used = steps if per_step == 1 else num_frames - 1
    actions: NDArray
    if spec.kind == "discrete":
        actions = _held(_indices(table, spec, used), per_step, table)
    else:
        numbers = table.actions.reshape(len(table.actions), -1)[:used]
        actions = numbers_to_steps(_checked(table, "action", table.columns, numbers), per_step)
    rewards = np.zeros((used, 1), np.float32)
    if table.rewards is not None:
        rewards = _checked(table, "reward", table.special, table.rewards[:used, None])
    states = np.arange(steps + 1) if per_step == 1 else state_frames(num_frames, frames_per_step)
    signals = np.zeros((steps + 1, 0), np.float32)
    if table.signals.shape[1]:
        if len(table.signals) <= states[-1]:
            raise ValueError(
                f"{table.path} has {len(table.signals)} rows; with signals it needs {states[-1] + 1}, one for "
                "the last frame too"
            )
        names = table.special[table.rewards is not None :]
        signals = _checked(table, "signal", names, table.signals[: states[-1] + 1])[states]
    return Steps(actions=actions, rewards=numbers_to_steps(rewards, per_step).sum(1), signals=signals)


def _checked(table: Table, what: str, names: Sequence[str], numbers: NDArray) -> NDArray[np.float32]:
    """(K, …) float32; ValueError with the position of a value that is not finite."""
    checked = _as_float32(numbers)
    bad = np.argwhere(~np.isfinite(checked))
    if len(bad):
        row, column = bad[0].tolist()
        value = numbers[row, column]
        found = "empty, NaN or infinite" if np.isnan(value) else f"{value:g}, which is not finite in float32"
        name = f", column {names[column]!r}" if column < len(names) else ""
        more = f" ({len(bad)} such cells in all)" if len(bad) > 1 else ""
        raise ValueError(f"{table.path}, {table.row(row)}{name}: the {what} is {found}{more}")
    return checked


def _indices(table: Table, spec: ActionSpec, used: int) -> NDArray[np.int64]:
    """(used,) the discrete actions of the first rows; ValueError with the position of a missing one."""
    actions = table.actions[:used]
    if actions.dtype.kind == "U":
        if not all(actions):
            row = int(np.flatnonzero(actions == "")[0])
            raise ValueError(f"{table.path}, {table.row(row)}, column {table.columns[0]!r}: the action is empty")
        return np.array([spec.names.index(word) for word in actions.tolist()], np.int64)
    checked = _checked(table, "action", table.columns, actions.reshape(used, -1))
    return (checked[:, 0] if checked.shape[1] == 1 else checked.argmax(1)).astype(np.int64)


def _held(actions: NDArray[np.int64], per_step: int, table: Table) -> NDArray[np.int64]:
    """(N,) the action of each step; ValueError if it changes within one."""
    first = actions[::per_step]
    changes = np.flatnonzero(actions != np.repeat(first, per_step)[: len(actions)])
    if len(changes):
        row = int(changes[0])
        raise ValueError(
            f"{table.path}: the action changes within a step, from {first[row // per_step]} to {actions[row]} at "
            f"{table.row(row)}. A step of {per_step} frames has one action: hold each for {per_step} frames, or use "
            "--frames-per-step 1"
        )
    return first

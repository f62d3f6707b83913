"""Find columns that are probably not part of the action (rewards, clocks, counters), to ask the user about them."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_REWARDS = ("reward", "rewards", "score")
_ENDS = ("done", "terminal", "terminated", "truncated", "is_terminal", "is_last", "is_first")
_COUNTERS = (
    *("frame", "frames", "frame_id", "frame_idx", "frame_index", "frame_no", "frame_nr", "frame_num", "frame_number"),
    *("step", "steps", "step_id", "tick", "ticks", "index", "idx", "id", "row", "nr", "no", "#", "n", "i"),
    *("t", "time", "times", "time_s", "time_ms", "timestamp", "timestamps", "ts", "date", "datetime", "sec", "seconds"),
    *("episode", "episode_id", "episode_index", "video", "video_id", "file", "filename"),
)
_EVEN = 5  # this many evenly spaced rows are a counter
_RISING = 20  # this many rows in ascending order are a clock


def refuse_doubtful(path: Path, columns: Mapping[str, NDArray | None]) -> None:
    """Refuse columns that were not named as actions and do not look like actions.

    Args:
        columns: the columns that would be the actions, with their values (K,) if these could be parsed.

    Raises:
        ValueError: names all doubtful columns, the reasons, and the options that resolve the doubt.
    """
    doubts = {name: reason for name, values in columns.items() if (reason := _doubt(name, values))}
    if not doubts:
        return
    listed = " and ".join(f"{name!r} ({reason})" for name, reason in doubts.items())
    one = len(doubts) == 1
    what = f"is the column {listed}" if one else f"are the columns {listed}"
    others = [name for name in columns if name not in doubts]
    words = [name for name in others if (values := columns[name]) is not None and may_be_names(values.tolist())]
    rest = as_options(words if len(words) == 1 else others) or "…"
    everything = as_options(columns)
    rewards = [name for name in doubts if name.lower() in _REWARDS]
    give_reward = f"use --reward {rewards[0]}, or " if rewards else ""
    raise ValueError(
        f"{path}: {what} part of the action? If not, {give_reward}name the columns that are: --action-columns "
        f"{rest}. "
        f"If {'it is' if one else 'they are'}: --action-columns {everything}"
    )


def may_be_names(cells: Sequence[object]) -> bool:
    """Whether all non-empty cells are words that begin with a letter, as names of actions do."""
    return all(isinstance(cell, str) and (not cell or cell[0].isalpha()) for cell in cells)


def as_options(names: Iterable[str]) -> str:
    """Names of columns, quoted for a shell."""
    return " ".join(shlex.quote(name) for name in names)


def _doubt(name: str, values: NDArray | None) -> str:
    """Why a column may not be an action; "" if it looks like one."""
    lower = name.lower().replace(" ", "_")
    if lower in _REWARDS:
        return "a reward by its name"
    if lower in _ENDS:
        return "an end by its name"
    if lower in _COUNTERS or lower.startswith("unnamed:"):
        return "a counter or a time by its name"
    if lower.startswith("column_"):
        return "it has no name"
    if values is None or values.dtype.kind not in "if" or len(values) < _EVEN:
        return ""
    distances = np.diff(values.astype(float))
    if not (np.isfinite(distances).all() and distances.min() > 0):
        return ""
    if distances.max() <= 1.5 * distances.min():
        return f"it counts evenly, {values[0]:g}, {values[1]:g}, {values[2]:g}, …"
    return "it rises from row to row" if len(values) >= _RISING else ""

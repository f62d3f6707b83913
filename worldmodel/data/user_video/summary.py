"""Summary of an import: its size, how actions were interpreted, and what looks odd."""

from collections.abc import Sequence

import numpy as np

from worldmodel.counted import counted
from worldmodel.data import EpisodeStorage
from worldmodel.data.facts import action_counts
from worldmodel.data.user_video.tables import Table

_LISTED = 20  # maximum number of actions or columns that are listed
_LARGE = 10_000
_NEARLY_ALL = 0.95  # one action with a larger share than this is odd
NO_ACTIONS = ("none",)  # name of the only action of videos without actions


def store_lines(store: EpisodeStorage, speed_from: str) -> list[str]:
    """Lines of a summary: size, splits, kind of actions and speed, which comes from `speed_from`."""
    info, spec = store.info, store.info.action
    bounds = f" from {_short(spec.low)} to {_short(spec.high)}" if spec.kind == "box" else ""
    splits = {name: len(store.split(name)) for name in ("train", "validation", "test")}
    lines = [
        f"{counted(len(store), 'episode')}, {counted(store.num_steps, 'step')} of "
        f"{counted(info.frames_per_step, 'frame')} {info.frame_shape[1:]}: "
        + ", ".join(f"{count} {name}" for name, count in splits.items()),
        "no actions" if spec.names == NO_ACTIONS else f"{spec.kind} actions: {spec.n}{bounds}",
    ]
    lines.append(
        f"{info.steps_per_second:.4g} steps per second ({info.steps_per_second * info.frames_per_step:.4g} frames), "
        f"from {speed_from}"
        if info.steps_per_second
        else "speed unknown, because the videos do not state it: set it with --fps"
    )
    if info.height % 16 or info.width % 16:
        lines.append(
            "most tokenizers need heights and widths that are multiples of 16: import again with such a --size"
        )
    if empty := [name for name, count in splits.items() if not count]:
        lines.append(f"no episode is in {' and '.join(empty)}: training needs ten videos or more")
    return lines


def _short(numbers: Sequence[float]) -> str:
    return f"({', '.join(f'{number:.4g}' for number in numbers)})"


def action_lines(tables: Sequence[Table], store: EpisodeStorage, kind: str) -> list[str]:
    """Lines of a summary: number, order and kind of the actions, how they were read, and what looks odd.

    Args:
        store: the store of these tables' videos.
        kind: as requested: "auto", "discrete" or "box".
    """
    first, frames_per_step = tables[0], store.info.frames_per_step
    per_step = frames_per_step > 1 and len(first.actions) <= store.lengths[0] + 1
    columns = "the column" if len(first.columns) == 1 else "the columns, in this order,"
    lines = [f"actions from {columns} {_listed(first.columns)}; one row per {'step' if per_step else 'frame'}"]
    for note in dict.fromkeys(note for table in tables for note in table.notes):
        having = [table.path.name for table in tables if note in table.notes]
        more = f" and {len(having) - 1} more" if len(having) > 1 else ""
        lines.append(f"read as {note}: {having[0]}{more}")
    return lines + (_discrete_lines(first, store, kind) if store.info.action.kind == "discrete" else _box_lines(tables))


def _discrete_lines(table: Table, store: EpisodeStorage, kind: str) -> list[str]:
    spec, counts = store.info.action, np.array([*action_counts(store).values()])
    names = [f"{i} {spec.names[i]}" if spec.names else str(i) for i in range(spec.n)]
    lines = [
        "shares: " + _listed([f"{name} {count / counts.sum():.0%}" for name, count in zip(names, counts, strict=True)])
    ]
    if kind == "auto":
        words, one_hot = table.actions.dtype.kind == "U", table.actions.ndim == 2 and table.actions.shape[1] > 1
        integers = "integers from 0 on" + (" or names" if spec.names else "")
        why = "words" if words else "one-hot rows" if one_hot else integers
        box = "" if words else "; if they are quantities, import with --action-kind box"
        lines.append(f"discrete because they are {why}{box}")
    most, share = names[int(counts.argmax())], counts.max() / counts.sum()
    if share == 1:
        lines.append(f"odd: every action is {most}, so a model cannot learn what actions do")
    elif share > _NEARLY_ALL:
        lines.append(f"odd: {share:.1%} of the actions are {most}")
    if never := [name for name, count in zip(names, counts, strict=True) if not count]:
        lines.append(f"odd: no step has {_listed(never)}, so a model cannot learn what that does")
    return lines


def _box_lines(tables: Sequence[Table]) -> list[str]:
    rows = np.concatenate([table.actions.reshape(len(table.actions), -1) for table in tables]).astype(float)
    low, high = np.nanmin(rows, 0), np.nanmax(rows, 0)
    names = tables[0].columns
    lines = []
    still = [f"{name} ({a:.4g})" for name, a, b in zip(names, low, high, strict=True) if a == b]
    if still:
        lines.append(f"odd: {_listed(still)} never {'changes' if len(still) == 1 else 'change'}")
    if np.isin(rows[np.isfinite(rows)], (0, 1)).all() and not still:
        lines.append("all values are 0 or 1 and several may be 1 at once: read as a continuous action")
    if large := [
        f"{name} ({max(-a, b):.4g})" for name, a, b in zip(names, low, high, strict=True) if max(-a, b) > _LARGE
    ]:
        lines.append(f"odd: large values in {_listed(large)}: a time or a counter?")
    return lines


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - _LISTED} more" if len(words) > _LISTED else ""
    return ", ".join(words[:_LISTED]) + more

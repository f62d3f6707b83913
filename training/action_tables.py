"""Files that say what was done in a user's video: actions, rewards and signals, a row for each frame or step.

Letters: K rows of a table, A numbers per row, G signals.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.media.arrays import ARRAYS, read_arrays
from worldmodel.names import did_you_mean

TABLES = (".csv", *ARRAYS)


class Table(NamedTuple):
    """What a file says of one video."""

    path: Path
    actions: NDArray  # (K,) or (K, A), int64 or float64
    rewards: NDArray[np.float64] | None  # (K,)
    signals: NDArray[np.float64]  # (K, G)


def read_table(
    path: Path,
    reward: str | None,
    signals: Sequence[str],
    action_names: Sequence[str] = (),
    action_columns: Sequence[str] = (),
) -> Table:
    """Read .npy (actions alone), .npz (arrays by name, "actions" among them, or one array) or .csv.

    In a .csv, a first row that is not all numbers names the columns. The words of a single column of actions are looked
    up in `action_names`.

    Args:
        reward, signals: columns of a .csv, arrays of an .npz.
        action_columns: the columns of a .csv that are actions; none: all that are neither reward nor signals.

    Raises:
        FileNotFoundError, ValueError: names the file, and the line and column of what cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the file with the video's actions")
    ending = path.suffix.lower()
    if ending == ".csv":
        columns = _read_csv(path, {reward, *signals}, action_names, action_columns)
    elif ending in ARRAYS:
        if action_columns:
            raise ValueError(f"action columns are chosen in .csv files; of {path} the array 'actions' is read")
        columns = _arrays_of(path)
    else:
        raise ValueError(f"actions come from a file with the ending {', '.join(TABLES)}; got {path}")
    wanted = [*([reward] if reward else []), *signals]
    for name in wanted:
        if name not in columns:
            raise ValueError(f"{path} has no column {name!r}; it has {', '.join(columns)}")
    actions = columns["actions"]
    if actions.ndim not in (1, 2) or actions.dtype.kind not in "iuf" or 0 in actions.shape:
        raise ValueError(
            f"{path}: actions must be numbers of shape (K,) or (K, A), got {actions.dtype} {actions.shape}"
        )
    for name in wanted:
        column = columns[name]
        if column.shape != (len(actions),) or column.dtype.kind not in "biuf":
            raise ValueError(
                f"{path}: {name!r} must have one number for each of the {len(actions)} actions, got {column.dtype} "
                f"{column.shape}"
            )
    numbers = [np.asarray(columns[name], float) for name in signals]
    return Table(
        path=path,
        actions=actions,
        rewards=np.asarray(columns[reward], float) if reward else None,
        signals=np.stack(numbers, axis=1) if numbers else np.zeros((len(actions), 0)),
    )


def _arrays_of(path: Path) -> dict[str, NDArray]:
    loaded = read_arrays(path)
    if isinstance(loaded, np.ndarray):
        return {"actions": loaded}
    if "actions" in loaded:
        return loaded
    if len(loaded) != 1:
        raise ValueError(f"{path} must hold an array 'actions', it holds {', '.join(loaded)}")
    return {"actions": next(iter(loaded.values()))}


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows that are not empty, each with its line."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no table of comma-separated values in UTF-8 ({error})") from error
    if not rows:
        raise ValueError(f"{path} is empty")
    return rows


def _read_csv(
    path: Path, special: set[str | None], action_names: Sequence[str], action_columns: Sequence[str]
) -> dict[str, NDArray]:
    """The columns of actions as "actions", and the special ones by their names."""
    rows = _rows(path)
    named = _is_header([row for _, row in rows], action_names)
    header = rows[0][1] if named else [f"column {i + 1}" for i in range(len(rows[0][1]))]
    body = rows[1:] if named else rows
    if len(set(header)) < len(header) or "" in header:
        raise ValueError(
            f"{path}: every column needs a name of its own, got {header}. A table may have been written with its row "
            "numbers as a column without a name: write it without them"
        )
    for line, row in body:
        if len(row) != len(header):
            raise ValueError(f"{path}, line {line}: {len(row)} cells where {len(header)} are wanted")
    for name in sorted(name for name in special if name is not None):
        if name not in header:
            raise ValueError(f"{path} has no column {name!r}.{did_you_mean(name, header)}")
    of_actions = list(action_columns) or [name for name in header if name not in special]
    for name in of_actions:
        if name not in header:
            raise ValueError(f"{path} has no column {name!r}.{did_you_mean(name, header)}")
        if name in special:
            raise ValueError(f"{path}: {name!r} cannot be an action and a reward or signal too")
    for name in of_actions if len(of_actions) > 1 and not action_columns else ():
        if name.lower() in ("reward", "rewards"):
            raise ValueError(
                f"{path}: is the column {name!r} part of the action? If not, give --reward {name}, or name the actions "
                "with --action-columns"
            )
    if not of_actions or not body:
        raise ValueError(f"{path} holds no actions: its columns are {', '.join(header)}, its rows {len(body)}")

    def column(name: str, names: Sequence[str]) -> list[float]:
        place = header.index(name)
        return [_number(row[place], names, f"{path}, line {line}, {name!r}") for line, row in body]

    lists = [column(name, action_names if len(of_actions) == 1 else ()) for name in of_actions]
    whole = all(isinstance(number, int) for numbers in lists for number in numbers)
    actions = np.stack([np.array(numbers, np.int64 if whole else float) for numbers in lists], axis=1)
    return {"actions": actions} | {name: np.array(column(name, ()), float) for name in header if name in special}


def _is_header(rows: Sequence[Sequence[str]], action_names: Sequence[str]) -> bool:
    """Whether the first row names the columns: it has words, and these are no action, as those below them may be."""
    words = [place for place, cell in enumerate(rows[0]) if not _is_number(cell)]
    if len(words) != 1 or rows[0][words[0]] not in action_names:
        return bool(words)
    below = [row[words[0]] for row in rows[1:] if len(row) > words[0]]
    return bool(below) and all(_is_number(cell) for cell in below)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, names: Sequence[str], where: str) -> float:
    """A number of a cell (an int if it is whole, and not too large for one), or the place of a name."""
    if cell in names:
        return names.index(cell)
    try:
        whole = int(cell)
        return whole if abs(whole) < 2**63 else float(whole)
    except (ValueError, OverflowError):
        pass
    try:
        return float(cell)
    except ValueError:
        hint = did_you_mean(cell, names) if names else " Name actions that are words with --action-names."
        raise ValueError(f"{where}: {cell!r} is no number.{hint}") from None

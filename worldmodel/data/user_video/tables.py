"""Read the table of a user's video: actions, rewards and signals, one row per frame or step.

Letters: K rows of a table, A columns of actions, G signals.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.data.user_video.array_tables import read_array_columns
from worldmodel.data.user_video.doubtful_columns import refuse_doubtful
from worldmodel.data.user_video.text_columns import parse_columns, parse_what_can_be, read_text_table
from worldmodel.errors import did_you_mean
from worldmodel.media.arrays import ARRAYS

TEXTS = (".csv", ".tsv")
TABLES = (*TEXTS, *ARRAYS)
_PANDAS = {  # pandas' readers for formats that are not supported here
    ".json": "read_json({path!r})",
    ".jsonl": "read_json({path!r}, lines=True)",
    ".ndjson": "read_json({path!r}, lines=True)",
    ".parquet": "read_parquet({path!r})",
    ".feather": "read_feather({path!r})",
    ".xlsx": "read_excel({path!r})",
    ".xls": "read_excel({path!r})",
    ".ods": "read_excel({path!r})",
    ".h5": "read_hdf({path!r})",
    ".hdf5": "read_hdf({path!r})",
}


class Table(NamedTuple):
    """A file's content for one video. Cells without a finite number are NaN, missing words are empty strings."""

    path: Path
    actions: NDArray  # (K,) or (K, A), int64 or float64; or (K,) words
    rewards: NDArray[np.float64] | None  # (K,)
    signals: NDArray[np.float64]  # (K, G)
    columns: tuple[str, ...] = ()  # (A,) names of the action columns
    named: bool = False  # whether the file names its columns; otherwise they are called by their index
    first_row: int | None = None  # spreadsheet number of the first row of values; None: the file has only indices
    special: tuple[str, ...] = ()  # names of the reward column, if any, and of the signal columns
    notes: tuple[str, ...] = ()  # how ambiguous parts of the file were read

    def row(self, index: int) -> str:
        """Name of a row for messages, as a user finds it."""
        return f"entry {index} (counted from 0)" if self.first_row is None else f"row {index + self.first_row}"


def read_table(
    path: Path,
    reward: str | None,
    signals: Sequence[str],
    action_names: Sequence[str] = (),
    action_columns: Sequence[str] = (),
) -> Table:
    """Read a text table (.csv, .tsv), an .npy, or an .npz (with an array "actions", or a single array).

    The first row of a text table names the columns unless it is all numbers. Columns without a name, and those of a
    two-dimensional array, are called by their index from 0. If the actions are a single column, its words are looked up
    in `action_names`.

    Args:
        reward, signals: columns, or arrays of an .npz.
        action_columns: the action columns; empty: all columns but reward and signals, unless their names or values
            suggest something else (`refuse_doubtful`).

    Raises:
        FileNotFoundError, ValueError: names the file, and the row and column that cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the file with the video's actions")
    special = [*([reward] if reward else []), *signals]
    if path.suffix.lower() in ARRAYS:
        columns, candidates = read_array_columns(path)
        text, valid = None, list(columns)
    elif path.suffix.lower() in (*TEXTS, ".txt"):
        text = read_text_table(path, action_names)
        columns, candidates = {}, list(text.cells)
        valid = candidates
    else:
        raise ValueError(_how_to_convert(path))
    _check_names(path, valid, special, action_columns)
    chosen = list(action_columns) or [name for name in candidates if name not in special]
    if not chosen:
        raise ValueError(
            f"{path} holds no actions: it has {', '.join(valid)}. Name the columns of actions with --action-columns, "
            "or call the array 'actions'"
        )
    notes: tuple[str, ...] = ()
    if text is not None:
        try:
            columns, notes = parse_columns(text, chosen, special, action_names)
        except ValueError:
            if not action_columns:
                refuse_doubtful(path, parse_what_can_be(text, chosen, action_names))
            raise
    length = len(columns[chosen[0]])
    for name in (*chosen, *special):
        _check_column(path, name, columns[name], length, word=[name] == chosen)
    if not action_columns:
        refuse_doubtful(path, {name: columns[name] for name in chosen})
    actions = [columns[name] for name in chosen]
    numbers = [np.asarray(columns[name], float) for name in signals]
    return Table(
        path=path,
        actions=actions[0] if actions[0].dtype.kind == "U" else np.stack(actions, axis=1),
        rewards=np.asarray(columns[reward], float) if reward else None,
        signals=np.stack(numbers, axis=1) if numbers else np.zeros((length, 0)),
        columns=tuple(chosen),
        named=not chosen[0].isdecimal() and chosen != ["actions"],
        first_row=text.first_row if text else None,
        special=tuple(special),
        notes=notes,
    )


def _check_names(path: Path, valid: Sequence[str], special: Sequence[str], action_columns: Sequence[str]) -> None:
    for name in (*special, *action_columns):
        if name not in valid:
            raise ValueError(f"{path} has no column {name!r}.{did_you_mean(name, valid)}")
    for name in action_columns:
        if name in special:
            raise ValueError(f"{path}: {name!r} cannot be both an action and a reward or signal")


def _check_column(path: Path, name: str, column: NDArray, length: int, word: bool) -> None:
    if column.dtype.kind not in ("ifU" if word else "if") or column.shape != (length,):
        raise ValueError(
            f"{path}: {name!r} must have one number for each of the {length} actions, got {column.dtype} {column.shape}"
        )


def _how_to_convert(path: Path) -> str:
    wanted = f"files of actions must have the ending {', '.join(TABLES)}; got {path}"
    read = _PANDAS.get(path.suffix.lower())
    if read is None:
        return wanted
    call = read.format(path=str(path))
    csv = str(path.with_suffix(".csv"))
    return f"{wanted}. Convert it, for instance with pandas: pandas.{call}.to_csv({csv!r}, index=False)"

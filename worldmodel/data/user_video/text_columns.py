"""Interpret text tables: find the header row, and parse the columns of actions, rewards and signals."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from numpy.typing import NDArray

from worldmodel.data.user_video.cells import (
    CellError,
    are_yes_no,
    has_decimal_commas,
    is_word,
    may_set_off_thousands,
    parse_column,
)
from worldmodel.data.user_video.doubtful_columns import as_options, may_be_names
from worldmodel.data.user_video.text_tables import SEPARATORS, Sheet, read_sheet

_COMMON_NAMES = ("action", "actions", "act", "key", "keys", "button", "buttons", "move", "command", "input", "label")


class TextTable(NamedTuple):
    """A text table with named columns."""

    path: Path
    cells: dict[str, list[str]]  # cells of each column
    named: bool  # whether a row names the columns; otherwise they are called by their index from 0
    first_row: int  # spreadsheet number of the first row of values
    separator: str


def read_text_table(path: Path, action_names: Sequence[str]) -> TextTable:
    """Read the cells of a file by column.

    Raises:
        ValueError: the file is not a table, has two columns of the same name, or has no rows of values.
    """
    sheet = read_sheet(path, action_names)
    named = _has_header(path, sheet, action_names)
    header = _names(path, sheet.rows[0]) if named else [str(i) for i in range(len(sheet.rows[0]))]
    body = sheet.rows[named:]
    if not body:
        raise ValueError(f"{path} holds no actions: there are no rows below the names {', '.join(header)}")
    cells = {name: [row[i] for row in body] for i, name in enumerate(header)}
    return TextTable(path, cells, named, sheet.first_row + named, sheet.separator)


def parse_columns(
    table: TextTable, actions: Sequence[str], special: Sequence[str], action_names: Sequence[str]
) -> tuple[dict[str, NDArray], tuple[str, ...]]:
    """Parse the columns of actions, rewards and signals: (K,) int64, float64 or str; and notes on how they were read.

    A single column of actions may hold `action_names`, or any words if `action_names` is empty.

    Raises:
        ValueError: a cell is not a number; names its row and column.
    """
    path, cells = table.path, table.cells
    wanted = [*actions, *special]
    try:
        commas = has_decimal_commas(cell for name in wanted for cell in cells[name])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for name in wanted if table.separator == ";" else ():
        if cell := may_set_off_thousands(cells[name]):
            raise ValueError(
                f"{path}, column {name!r}: {cell!r} beside integers below 1000 could have a thousands separator: write "
                "numbers without them, or all with the same number of decimals"
            )
    notes = []
    if table.separator not in ("", ","):
        notes.append(f"separated by {SEPARATORS.get(table.separator, repr(table.separator))}")
    if list(cells) == ["0", "1"] and table.separator == ",":
        notes.append("two columns separated by commas, not as one with decimal commas")
    columns = {}
    for name in wanted:
        alone = list(actions) == [name]
        try:
            columns[name], note = parse_column(cells[name], action_names if alone else (), commas, words=alone)
        except CellError as error:
            hint = ""
            if name in actions and not alone:
                rest = as_options([other for other in actions if other != name])
                words = may_be_names(cells[name])
                hint = f" If this column is the action, use --action-columns {as_options([name])}." if words else ""
                hint += f" If it is not part of the action, name those that are: --action-columns {rest}"
            raise ValueError(f"{path}, row {error.row + table.first_row}, column {name!r}: {error}{hint}") from error
        notes += [note] if note and note not in notes else []
    return columns, tuple(notes)


def parse_what_can_be(
    table: TextTable, actions: Sequence[str], action_names: Sequence[str]
) -> dict[str, NDArray | None]:
    """Parse each column separately with `parse_columns`; None where that raises."""
    found: dict[str, NDArray | None] = {}
    for name in actions:
        try:
            found[name] = parse_columns(table, [name], [], action_names)[0][name]
        except ValueError:
            found[name] = None
    return found


def _has_header(path: Path, sheet: Sheet, action_names: Sequence[str]) -> bool:
    """Whether the first row names the columns: it has words where the rows below have numbers or other words.

    Raises:
        ValueError: it is ambiguous.
    """
    first, *below = sheet.rows
    words = {i: [row[i] for row in below if row[i]] for i, cell in enumerate(first) if is_word(cell)}
    if any(not any(map(str.isalpha, first[i])) for i in words):
        return False  # 50% or 10:30 is not a name
    if not words:
        return _numbers_columns(path, first, below)
    if any(not all(map(is_word, column)) for column in words.values()):
        return True
    if any(not is_word(cell) for cell in first if cell) or not any(words.values()):
        return not any(first[i] in action_names for i in words) and not any(words.values())
    for i, column in words.items():
        if first[i] in column or first[i] in action_names or are_yes_no([first[i], *column]):
            return False
    if any(set(column) <= set(action_names) or are_yes_no(column) for column in words.values()):
        return True
    if any(cell.lower() in _COMMON_NAMES for cell in first):
        return True
    raise ValueError(
        f"{path}: does its first row, {', '.join(first)}, name the columns, or is it an action? Call the column of "
        "actions 'action', or name the actions with --action-names"
    )


def _numbers_columns(path: Path, first: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Whether a first row without words holds column numbers, which pandas writes for columns without names."""
    if not first[0] and list(first[1:]) == [str(i) for i in range(len(first) - 1)] and len(first) > 1:
        return True
    counts = list(first) == [str(i) for i in range(len(first))] and len(first) > 1
    if counts and (len(first) > 2 or any("." in cell for row in below for cell in row)):
        raise ValueError(
            f"{path}: are the numbers in its first row, {', '.join(first)}, column numbers written by pandas, or "
            "actions? Replace them by names, or add a row of names above"
        )
    return False


def _names(path: Path, header: Sequence[str]) -> list[str]:
    """Names of columns; those without a name are called by their index from 0."""
    names = [name or f"column {i}" for i, name in enumerate(header)]
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: column names must be unique, got {', '.join(names)}")
    return names

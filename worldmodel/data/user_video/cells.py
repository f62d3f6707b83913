"""Parse the cells of text tables: numbers, decimal commas, yes/no words, and missing values."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.errors import did_you_mean

_POINT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_GROUPS = re.compile(r"[+-]?\d{1,3}(,\d{3}){2,}|[+-]?\d{1,3}(,\d{3})+\.\d+|[+-]?\d{1,3}(\.\d{3})+,\d+", re.ASCII)
_POINTED = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}", re.ASCII)  # 1.234: a thousands separator or a decimal point
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)  # 1,234: a thousands separator or a decimal comma
# What spreadsheets and pandas write for a missing number.
_NO_NUMBER = {"", "nan", "na", "n/a", "#n/a", "null", "none", "-", "inf", "+inf", "-inf", "infinity", "-infinity"}
_YES_NO = ({"true": 1.0, "false": 0.0}, {"yes": 1.0, "no": 0.0}, {"wahr": 1.0, "falsch": 0.0})


class Parsed(NamedTuple):
    """The parsed cells of a column."""

    values: NDArray  # (K,) int64; or float64 with NaN for cells without a finite number; or words
    note: str  # how the cells were read; empty for plain numbers


def is_number(cell: str) -> bool:
    """Whether the cell is a number, with a decimal point or comma, or a missing number."""
    return bool(_POINT.fullmatch(cell) or _COMMA.fullmatch(cell)) or cell.lower() in _NO_NUMBER


def is_word(cell: str) -> bool:
    """Whether the cell is neither empty nor a number."""
    return not is_number(cell)


def are_yes_no(cells: Iterable[str]) -> bool:
    """Whether all cells are one language's words for true and false."""
    lower = {cell.lower() for cell in cells}
    return any(lower <= pair.keys() for pair in _YES_NO)


def has_decimal_commas(cells: Iterable[str]) -> bool:
    """Whether these cells are numbers with decimal commas.

    Raises:
        ValueError: there are thousands separators, or they cannot be ruled out; or there are also decimal points.
    """
    cells = list(cells)
    for cell in cells:
        if _GROUPS.fullmatch(cell):
            raise ValueError(f"{cell!r} has thousands separators: write numbers without them")
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    if not commas:
        return False
    if all(_EITHER.fullmatch(cell) for cell in commas):
        raise ValueError(f"{commas[0]!r} could mean {commas[0].replace(',', '')} or {commas[0].replace(',', '.')}: "
                         "write numbers with a decimal point and without thousands separators")  # fmt: skip
    if points := [cell for cell in cells if "." in cell and _POINT.fullmatch(cell)]:
        raise ValueError(f"{points[0]!r} has a decimal point, {commas[0]!r} a decimal comma: use one of them")
    return True


def may_set_off_thousands(cells: Sequence[str]) -> str:
    """A cell such as 1.234 in a column that also has integers below 1000; "" if there is none.

    If the point were a decimal point, programs would write 2.000 rather than 2.
    """
    pointed = [cell for cell in cells if "." in cell]
    plain = [cell for cell in cells if cell.lstrip("+-").isdecimal()]
    if pointed and plain and all(map(_POINTED.fullmatch, pointed)) and all(abs(int(cell)) < 1000 for cell in plain):
        return pointed[0]
    return ""


def parse_column(cells: Sequence[str], names: Sequence[str], decimal_comma: bool, words: bool) -> Parsed:
    """The values of a column's cells.

    Args:
        names: names of actions; a cell with one of them is read as its index.
        words: whether a column of only words stays as words.

    Raises:
        CellError: a cell is not a number.
    """
    filled = [cell for cell in cells if cell and cell not in names]
    lower = {cell.lower() for cell in filled}
    for pair in _YES_NO:
        if lower and lower <= pair.keys():
            values = [names.index(cell) if cell in names else pair.get(cell.lower(), np.nan) for cell in cells]
            return Parsed(_numbers(values), f"{'/'.join(pair)} as 1/0")
    if words and not names and filled and not any(is_number(cell) and cell.lower() != "none" for cell in filled):
        return Parsed(np.array(cells), "")
    values = [_number(cell, names, decimal_comma, row) for row, cell in enumerate(cells)]
    return Parsed(_numbers(values), "decimal commas" if decimal_comma and any("," in cell for cell in cells) else "")


class CellError(ValueError):
    """A cell is not a number."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row  # counted from 0


def _number(cell: str, names: Sequence[str], decimal_comma: bool, row: int) -> float:
    if cell in names:
        return names.index(cell)
    if cell.lower() in _NO_NUMBER:
        return np.nan
    plain = cell.replace(",", ".") if decimal_comma and _COMMA.fullmatch(cell) else cell
    if not _POINT.fullmatch(plain):
        hint = did_you_mean(cell, names) if names else ""
        raise CellError(row, f"{cell!r} is not a number.{hint}")
    return float(plain)


def _numbers(values: Sequence[float]) -> NDArray:
    """int64 if all values are integers, else float64."""
    numbers = np.array(values, float)
    return numbers.astype(np.int64) if (abs(numbers) < 2**53).all() and (numbers % 1 == 0).all() else numbers

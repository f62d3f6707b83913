"""Cells of a table of text as numbers: decimal commas, words for yes and no, and cells without a value."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.errors import did_you_mean

_POINT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_GROUPS = re.compile(r"[+-]?\d{1,3}(,\d{3}){2,}|[+-]?\d{1,3}(,\d{3})+\.\d+|[+-]?\d{1,3}(\.\d{3})+,\d+", re.ASCII)
_POINTED = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}", re.ASCII)  # 1.234: with thousands set off, or a decimal point
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)  # 1,234: with thousands set off, or a decimal comma
# What spreadsheets and pandas write where there is no number.
_NO_NUMBER = {"", "nan", "na", "n/a", "#n/a", "null", "none", "-", "inf", "+inf", "-inf", "infinity", "-infinity"}
_YES_NO = ({"true": 1.0, "false": 0.0}, {"yes": 1.0, "no": 0.0}, {"wahr": 1.0, "falsch": 0.0})


class Parsed(NamedTuple):
    """The cells of a column."""

    values: NDArray  # (K,) int64 or float64 with NaN for cells without a finite number, or words
    note: str  # how the cells were read, unless they are plain numbers


def is_number(cell: str) -> bool:
    """Whether the cell is a number, with a decimal point or comma, or stands for one that is missing."""
    return bool(_POINT.fullmatch(cell) or _COMMA.fullmatch(cell)) or cell.lower() in _NO_NUMBER


def is_word(cell: str) -> bool:
    """Whether the cell is neither empty nor a number."""
    return not is_number(cell)


def are_yes_no(cells: Iterable[str]) -> bool:
    """Whether the cells are the two words for true and false of one language."""
    lower = {cell.lower() for cell in cells}
    return any(lower <= pair.keys() for pair in _YES_NO)


def has_decimal_commas(cells: Iterable[str]) -> bool:
    """Whether numbers of these cells have decimal commas.

    Raises:
        ValueError: thousands are set off, or that cannot be ruled out; or there are decimal points too.
    """
    cells = list(cells)
    for cell in cells:
        if _GROUPS.fullmatch(cell):
            raise ValueError(f"{cell!r} sets off the thousands: write numbers without that")
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    if not commas:
        return False
    if all(_EITHER.fullmatch(cell) for cell in commas):
        raise ValueError(f"{commas[0]!r} could mean {commas[0].replace(',', '')} or {commas[0].replace(',', '.')}: "
                         "write numbers with a decimal point and without setting off the thousands")  # fmt: skip
    if points := [cell for cell in cells if "." in cell and _POINT.fullmatch(cell)]:
        raise ValueError(f"{points[0]!r} has a decimal point, {commas[0]!r} a decimal comma: use one of them")
    return True


def may_set_off_thousands(cells: Sequence[str]) -> str:
    """A cell such as 1.234 of a column that has integers below 1000 besides; "" if there is none.

    Programs write 2.000 beside 1.234 where that is a decimal point.
    """
    pointed = [cell for cell in cells if "." in cell]
    plain = [cell for cell in cells if cell.lstrip("+-").isdecimal()]
    if pointed and plain and all(map(_POINTED.fullmatch, pointed)) and all(abs(int(cell)) < 1000 for cell in plain):
        return pointed[0]
    return ""


def parse_column(cells: Sequence[str], names: Sequence[str], decimal_comma: bool, words: bool) -> Parsed:
    """The values of a column's cells.

    Args:
        names: of actions; a cell that is one of them is its index.
        words: whether cells that are all words may stay so.

    Raises:
        CellError: says which cell is not a number.
    """
    told = [cell for cell in cells if cell and cell not in names]
    lower = {cell.lower() for cell in told}
    for pair in _YES_NO:
        if lower and lower <= pair.keys():
            values = [names.index(cell) if cell in names else pair.get(cell.lower(), np.nan) for cell in cells]
            return Parsed(_numbers(values), f"{'/'.join(pair)} as 1/0")
    if words and not names and told and not any(is_number(cell) and cell.lower() != "none" for cell in told):
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
    """int64 if all are integers."""
    numbers = np.array(values, float)
    return numbers.astype(np.int64) if (abs(numbers) < 2**53).all() and (numbers % 1 == 0).all() else numbers

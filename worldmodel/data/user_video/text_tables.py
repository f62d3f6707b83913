"""Read text tables as spreadsheets and scripts write them: encoding, separator, and cells of each row."""

import csv
import re
from collections.abc import Container, Iterable
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from worldmodel.data.user_video.cells import is_number

SEPARATORS = {"\t": "tabs", ";": "semicolons", "|": "pipes", ",": "commas", " ": "spaces"}  # the earlier wins a tie
_BINARY = {
    b"PK\x03\x04": "a spreadsheet (.xlsx, .ods) or another zip archive",
    b"\xd0\xcf\x11\xe0": "an Excel file (.xls)",
    b"PAR1": "a Parquet file",
    b"\x93NUMPY": "a numpy file: name it .npy",
    b"\x80": "a pickle",
}
_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n', re.IGNORECASE)  # Excel's extension


class Sheet(NamedTuple):
    """The cells of a table, without surrounding empty rows and columns."""

    rows: list[list[str]]  # all of equal width
    first_row: int  # spreadsheet number of the first row
    separator: str  # one of SEPARATORS; "": there is only one column


def read_sheet(path: Path, words: Container[str] = ()) -> Sheet:
    """Read the cells of a file.

    The separator is one that occurs, splits every row into the same number of cells, and yields the most numbers.

    Args:
        words: cells that count as values although they are not numbers.

    Raises:
        ValueError: the file is something else, or a row has too few cells; names the file and the row.
    """
    text = _decode(path)
    known = SEPARATORS
    if line := _SEPARATOR_LINE.match(text):
        text, known = text[line.end() :], {line[1]: repr(line[1])}
    rows, separator = _separate(text.removeprefix("#"), path, words, known)  # numpy's savetxt writes "# dx dy"
    first_row = 1
    while rows and not any(rows[0]):
        del rows[0]
        first_row += 1
    while rows and not any(rows[-1]):
        del rows[-1]
    if not rows:
        raise ValueError(f"{path} is empty")
    if separator == "," and _may_be_decimals(rows):
        raise ValueError(
            f"{path}: {','.join(rows[0])} in its first row could be two numbers, or one with a decimal comma. Write a "
            "decimal point, or add a row of names above"
        )
    width = max(_filled(row) for row in rows)
    for number, row in enumerate(rows, first_row):
        if not any(row):
            raise ValueError(
                f"{path}, row {number} is empty but rows with values follow: fill it in, or delete it if it belongs to "
                "no frame"
            )
        if len(row) < width:
            raise ValueError(
                f"{path}, row {number}: {len(row)} cells, expected {width} (separated by "
                f"{SEPARATORS.get(separator, separator)}). If the numbers have decimal commas, separate them by "
                "semicolons"
            )
    return Sheet([row[:width] for row in rows], first_row, separator)


def _decode(path: Path) -> str:
    raw = path.read_bytes()
    for start, what in _BINARY.items():
        if raw.startswith(start):
            raise ValueError(f"{path} is {what}, not a text table: save it as CSV")
    encoding = next((name for mark, name in _BOMS.items() if raw.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in raw:
        raise ValueError(f"{path} holds zero bytes, probably UTF-16 without a byte order mark: save it as CSV in UTF-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a table in UTF-8 ({error}): save it as CSV in UTF-8") from error
    if text.lstrip()[:1] in ("{", "[", "<"):
        raise ValueError(f"{path} holds JSON, HTML or XML instead of a table: convert it to CSV")
    return text


def _separate(text: str, path: Path, words: Container[str], separators: Iterable[str]) -> tuple[list[list[str]], str]:
    """The rows, and the separator that fits best."""
    tried, problem = {}, None
    for separator in separators:
        try:
            tried[separator] = _split(text, separator)
        except csv.Error as error:
            problem = error
    if not tried:
        raise ValueError(f"{path} is not a table of separated values ({problem})") from problem
    shares = {separator: _share(rows, words) for separator, rows in tried.items() if _fits(rows)}
    single = [[cell for cell in (" ".join(row).strip(),) if cell] for row in next(reversed(tried.values()))]
    if shares.get(" ") == 0 or _share(single, words) == 1:
        shares.pop(" ", None)  # several words in one cell
    if shares:
        best = max(shares, key=lambda separator: shares[separator])
        return tried[best], best
    uneven = {
        separator: sum(_filled(row) > 1 for row in tried.get(separator, []))
        for separator in separators
        if separator != " "
    }
    if any(uneven.values()):
        best = max(uneven, key=lambda separator: uneven[separator])
        return tried[best], best
    return single, ""


def _split(text: str, separator: str) -> list[list[str]]:
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    return [[cell.strip() for cell in row] for row in reader]


def _filled(row: list[str]) -> int:
    """Number of cells of a row up to the last non-empty one."""
    return max((i + 1 for i, cell in enumerate(row) if cell), default=0)


def _fits(rows: list[list[str]]) -> bool:
    width = max((_filled(row) for row in rows), default=0)
    return max(map(len, rows), default=0) > 1 and all(len(row) >= width for row in rows if any(row))


def _may_be_decimals(rows: list[list[str]]) -> bool:
    """Whether two columns of integers look like one decimal number: 0,05 or -0,5."""
    if any(_filled(row) != 2 or not all(cell.lstrip("+-").isdecimal() for cell in row[:2]) for row in rows):
        return False
    after_zero = any(len(row[1]) > 1 and row[1].startswith("0") for row in rows)
    return after_zero or any(row[0] in ("-0", "+0") for row in rows)


def _share(rows: list[list[str]], words: Container[str]) -> float:
    """Share of the cells below the first row that are values."""
    filled = [row for row in rows if any(row)]
    cells = [cell for row in (filled[1:] or filled) for cell in row if cell]
    return sum(is_number(cell) or cell in words for cell in cells) / max(len(cells), 1)

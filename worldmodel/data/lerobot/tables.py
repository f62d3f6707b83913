"""Parquet tables of a LeRobot data set. Columns of one dimension hold numbers, those of two hold lists of one length.

Letters: K rows, D dimensions of a feature.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pyarrow() -> ModuleType:
    """The module with `parquet` in it, imported late; ModuleNotFoundError says how to install it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("LeRobot's tables need pyarrow: pip install 'videogen-dream[lerobot]'") from error
    return pyarrow


@contextmanager
def table_writer(path: Path) -> Iterator[Any]:
    """Yield a function that appends columns by name, (K,) or (K, D), to a new table; each call is a row group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pa = pyarrow()
    writer = None

    def append(columns: Mapping[str, NDArray]) -> None:
        nonlocal writer
        table = pa.table({name: _column(values) for name, values in columns.items()})
        writer = writer or pa.parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)

    try:
        yield append
    finally:
        if writer is not None:
            writer.close()


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table of rows of plain values and lists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pa = pyarrow()
    pa.parquet.write_table(pa.Table.from_pylist(list(rows)), path)


def write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """Write the tasks as a table that pandas reads with the tasks as its index, which LeRobot relies on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pa = pyarrow()
    about: dict[str, Any] = {"column_indexes": [], "index_columns": ["task"], "pandas_version": "2.0.0"}
    kinds = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    about["columns"] = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": stored, "metadata": None}
        for name, (kind, stored) in kinds.items()
    ]
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    pa.parquet.write_table(table.replace_schema_metadata({"pandas": json.dumps(about)}), path)


def read_rows(folder: Path, needed: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of all tables in chunks below a folder, without statistics; ValueError if one lacks a needed column."""
    paths = sorted(folder.glob("*/[!.]*.parquet"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no tables chunk-000/file-000.parquet: the data set is incomplete")
    rows: list[dict[str, Any]] = []
    for path in paths:
        there = [name for name in _opened(path).schema_arrow.names if not name.startswith("stats/")]
        rows += read_columns(path, list(dict.fromkeys((*there, *needed)))).to_pylist()
    return rows


def read_columns(path: Path, names: Sequence[str] | None = None, where: tuple[str, int] | None = None) -> Any:
    """A table of some columns; ValueError or FileNotFoundError that names the file and the columns it lacks.

    `where`: only the rows in which a column has this value; groups of rows without any are not read.
    """
    there = _opened(path).schema_arrow.names
    if missing := [name for name in names or () if name not in there]:
        raise ValueError(f"{path} lacks the column {missing[0]!r}; it has {', '.join(there)}")
    rows = None if where is None else [(where[0], "=", where[1])]
    columns = None if names is None else list(names)
    return pyarrow().parquet.read_table(path, columns=columns, filters=rows, partitioning=None)


def column_of(table: Any, name: str) -> NDArray:
    """A column as (K,), or (K, D) if its cells are lists of one length."""
    values = table.column(name).to_pylist()
    if any(value is None for value in values):
        raise ValueError(f"the column {name!r} has empty cells, such as row {values.index(None)}")
    if len({len(value) for value in values if isinstance(value, list)}) > 1:
        raise ValueError(f"the column {name!r} has lists of different lengths")
    return np.array(values)


def _column(values: NDArray) -> Any:
    pa = pyarrow()
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), values.shape[1])


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the data set is incomplete")
    pa = pyarrow()
    try:
        return pa.parquet.ParquetFile(path)
    except pa.ArrowException as error:
        raise ValueError(f"{path} is damaged or no Parquet file ({error}): fetch it again") from error

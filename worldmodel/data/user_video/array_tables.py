"""Read columns of actions, rewards and signals from numpy files."""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldmodel.media.arrays import read_arrays


def read_array_columns(path: Path) -> tuple[dict[str, NDArray], list[str]]:
    """The columns of an .npy or .npz by name, and the names of those that may be actions.

    A two-dimensional array has the columns "0", "1", …; a structured array has its fields. An .npz is read from its
    array "actions", or its only array; its other arrays are additional columns.

    Returns: columns of (K,) int64, float64 or str; the arrays of an .npz keep their own length.
    Raises:
        ValueError: an array is not a table; names the file and the array.
    """
    try:
        loaded = read_arrays(path)
    except ValueError as error:
        raise ValueError(f"{error}. Save numbers or words: np.save(path, np.array(actions, float))") from error
    arrays = {"actions": loaded} if isinstance(loaded, np.ndarray) else loaded
    if len(arrays) == 1:
        [main] = arrays
    else:
        main = "actions"
    columns = _columns_of(path, main, arrays[main]) if main in arrays else {}
    names = list(columns)
    for name, array in arrays.items():
        if name != main and name not in columns:
            columns[name] = _plain(path, array) if array.ndim == 1 else array
    return columns, names


def _columns_of(path: Path, name: str, array: NDArray) -> dict[str, NDArray]:
    fields = array.dtype.names
    if fields and array.ndim == 1 and all(array[field].ndim == 1 for field in fields) and len(array):
        return {field: _number_or_word(path, field, array[field]) for field in fields}
    if array.ndim not in (1, 2) or 0 in array.shape or fields:
        raise ValueError(
            f"{path}: actions must be numbers of shape (K,) or (K, A), got {array.dtype} {array.shape} as {name!r}"
        )
    if array.ndim == 1:
        return {name: _number_or_word(path, name, array)}
    return {str(i): _number_or_word(path, name, array[:, i]) for i in range(array.shape[1])}


def _number_or_word(path: Path, name: str, array: NDArray) -> NDArray:
    plain = _plain(path, array)
    if plain.dtype.kind not in "ifU":
        raise ValueError(
            f"{path}: actions must be numbers of shape (K,) or (K, A), or words of shape (K,), got {array.dtype} as "
            f"{name!r}"
        )
    return plain


def _plain(path: Path, array: NDArray) -> NDArray:
    """Numbers as int64 if they fit, else float64; words as str; other types as they are."""
    kind = array.dtype.kind
    if kind == "S":
        try:
            return np.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} holds words that are not UTF-8 ({error})") from error
    if kind == "U" and array.size:
        characters = np.ascontiguousarray(array).view(np.dtype("u4").newbyteorder(array.dtype.byteorder))
        if characters.max(initial=0) > sys.maxunicode:
            raise ValueError(f"{path} holds characters that do not exist: the file is damaged")
    if kind in "biu":
        fits = kind != "u" or not array.size or array.max() < 2**63
        return array.astype(np.int64 if fits else float)
    return array.astype(float) if kind == "f" else array

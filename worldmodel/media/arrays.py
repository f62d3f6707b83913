"""Arrays in files of numpy."""

import struct
import zlib
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

ARRAYS = (".npy", ".npz")
# What numpy, zipfile and Python's parser raise for damaged files. OSError is a seek to a place that is not in the file.
_DAMAGED = (
    *(EOFError, ValueError, TypeError, KeyError, SyntaxError, TokenError, MemoryError, OSError),
    *(BadZipFile, NotImplementedError, RuntimeError, zlib.error, struct.error),
)


def read_arrays(path: Path) -> NDArray | dict[str, NDArray]:
    """What a file of numpy holds: one array, or arrays by name. ValueError if it holds neither, or Python's objects."""
    with open(path, "rb") as file:  # numpy itself would leave a broken one open
        try:
            loaded = np.load(file, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
        except _DAMAGED as error:
            why = "no file of numpy's, or one of objects" if "pickle" in str(error) else str(error)
            raise ValueError(f"{path} holds no array that can be read ({why})") from error


def read_array(path: Path) -> NDArray:
    """The one array of a file."""
    loaded = read_arrays(path)
    if isinstance(loaded, np.ndarray):
        return loaded
    if len(loaded) != 1:
        raise ValueError(f"{path} must hold one array, it holds {len(loaded)}: {', '.join(loaded)}")
    return next(iter(loaded.values()))

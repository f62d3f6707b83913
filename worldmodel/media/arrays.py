"""Read arrays from numpy files."""

import struct
import zlib
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

ARRAYS = (".npy", ".npz")
# What numpy, zipfile and Python's parser raise for damaged files. OSError: a seek beyond the end of the file.
_DAMAGED = (
    *(EOFError, ValueError, TypeError, KeyError, SyntaxError, TokenError, MemoryError, OSError),
    *(BadZipFile, NotImplementedError, RuntimeError, zlib.error, struct.error),
)


def read_arrays(path: Path) -> NDArray | dict[str, NDArray]:
    """Load a numpy file: one array, or arrays by name. ValueError if it is invalid or contains Python objects."""
    with open(path, "rb") as file:  # numpy itself would not close a broken file
        try:
            loaded = np.load(file, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
        except _DAMAGED as error:
            why = "not a numpy file, or one with Python objects" if "pickle" in str(error) else str(error)
            raise ValueError(f"{path} holds no readable array ({why})") from error


def read_array(path: Path) -> NDArray:
    """Load a numpy file that holds a single array."""
    loaded = read_arrays(path)
    if isinstance(loaded, np.ndarray):
        return loaded
    if len(loaded) != 1:
        raise ValueError(f"{path} must hold one array, got {len(loaded)}: {', '.join(loaded)}")
    return next(iter(loaded.values()))

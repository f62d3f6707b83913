"""Memory-mapped files, and detection of replaced ones."""

import mmap
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldmodel.data.scanning import refusal


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Identity of a file, which changes when the file is replaced; None if it does not exist."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def map_file(path: Path) -> NDArray[np.uint8]:
    """A whole file as read-only bytes."""
    with open(path, "rb") as handle:
        if not os.fstat(handle.fileno()).st_size:
            raise refusal(path, "was truncated since it was opened")
        return np.frombuffer(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)

"""Find the episodes of a file; refuse files whose structure is damaged, foreign, or links elsewhere.

These checks take the same time for episodes of any length: they read no dataset. checks.py verifies the content.
"""

from __future__ import annotations

import math
import os
import re
import stat
from pathlib import Path

import h5py
import numpy as np

from worldmodel.data.checksums import Checksums
from worldmodel.data.episode import StoreInfo
from worldmodel.data.layout import CHECKED, CHECKSUMS, Entry, hdf5_type, layout

MOST_IDS = 10_000_000  # ids must be below
_EPISODE = re.compile(r"episode_(0|[1-9][0-9]{0,6})")


def scan(path: Path, info: StoreInfo) -> list[Entry]:
    """Find every episode of a file, sorted by id.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is truncated or foreign, or its episodes do not fit `info`.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise refusal(path, "is not a regular file")
    try:
        with h5py.File(path, "r") as file:
            entries = _Scan(file, path, found.st_size, info).entries()
    except (FileNotFoundError, DamagedFileError):
        raise
    except (KeyError, OSError, RuntimeError, ValueError, TypeError, OverflowError) as error:  # whatever HDF5 raises
        if not path.exists():  # another process packed it during the scan
            raise FileNotFoundError(f"{path} no longer exists") from error
        if number := getattr(error, "errno", None):  # no permission, locked by another program, too many open files
            raise OSError(number, os.strerror(number), str(path)) from error
        raise refusal(path, f"is truncated, damaged or not an HDF5 file ({_one_line(error)})") from error
    return sorted(entries)


class DamagedFileError(ValueError):
    """An episode file has changed since it was written."""


def refusal(path: Path, what: str) -> DamagedFileError:
    """The error for a damaged episode file: what is wrong, and what to do."""
    remedy = (
        "Delete it and collect that episode again"
        if path.parent.name == "pending"
        else "Restore it from a backup, or delete the store and collect it again"
    )
    return DamagedFileError(f"{path} {what}. {remedy}.")


class _Scan:
    """Checks the structure of an episode file; reads none of its datasets."""

    # h5py's low-level calls: a store may hold 100,000 datasets, and the high-level calls take three times as long.

    def __init__(self, file: h5py.File, path: Path, size: int, info: StoreInfo) -> None:
        self._file, self._path, self._size = file, path, size
        self._fields = [(field, field.name.encode(), hdf5_type(field)) for field in layout(info)]
        self._num_signals = len(info.signal_names)
        self._num_checksums = 3 if info.label_names else 2
        self._checked = CHECKED in file.attrs
        self._extents: list[tuple[int, int]] = []  # first byte and the byte after the last of each dataset

    def entries(self) -> list[Entry]:
        entries = [self._episode(name) for name in self._file]
        if self._extents:
            begins, ends = np.array(sorted(self._extents), np.int64).T
            if (ends[:-1] > begins[1:]).any():
                raise refusal(self._path, "is damaged: two of its datasets overlap")
        return entries

    def _episode(self, name: str) -> Entry:
        if not _EPISODE.fullmatch(name):
            raise refusal(self._path, f"holds {name!r}, wanted groups named episode_<id>, with ids below {MOST_IDS:,}")
        self._check_link(self._file.id, name.encode(), name)
        group = h5py.h5g.open(self._file.id, name.encode())
        if self._num_signals:
            self._check_link(group, b"infos", f"{name}/infos")
        offsets: list[int] = []
        num_steps = 0
        for field, key, kind in self._fields:
            where = f"{name}/{field.name}"
            self._check_link(group, key, where)
            dataset = h5py.h5d.open(group, key)
            if not offsets and dataset.shape:
                num_steps = dataset.shape[0] - field.extra
            shape = (num_steps + field.extra, *field.tail)
            if dataset.shape != shape or num_steps < 1 or dataset.get_type() != kind:
                raise refusal(
                    self._path,
                    f"holds {where} {_described(dataset)}, wanted {shape} {field.dtype} as metadata.json says",
                )
            offsets.append(self._offset(dataset, where, math.prod(shape) * field.dtype.itemsize))
        entry_id, seed = int(name.removeprefix("episode_")), self._number(group, name, b"seed")
        for key, wanted in ((b"id", entry_id), (b"total_steps", num_steps)):
            if (said := self._number(group, name, key)) not in (None, wanted):
                raise refusal(self._path, f"holds {name} with {key.decode()} {said}, wanted {wanted}")
        return Entry(entry_id, self._path, num_steps, tuple(offsets), seed, self._checksums(group, name))

    def _check_link(self, group: h5py.h5g.GroupID, key: bytes, where: str) -> None:
        """Refuse missing datasets and links: another file's content may change or be private."""
        try:
            kind = group.links.get_info(key).type
        except (KeyError, RuntimeError) as error:
            if not re.search("doesn't exist|not found", str(error)):
                raise
            raise refusal(self._path, f"lacks a dataset ({where})") from error
        if kind != h5py.h5l.TYPE_HARD:
            word = {h5py.h5l.TYPE_EXTERNAL: "an external", h5py.h5l.TYPE_SOFT: "a soft"}.get(kind, "an unknown")
            raise refusal(self._path, f"holds {word} link in place of {where}, but links are not followed")

    def _offset(self, dataset: h5py.h5d.DatasetID, where: str, num_bytes: int) -> int:
        offset = dataset.get_offset()
        if offset is None:
            raise refusal(
                self._path,
                f"holds {where} in chunks, compressed, or in another file, wanted one contiguous, uncompressed dataset",
            )
        if offset + num_bytes > self._size:
            raise refusal(self._path, f"is truncated: {where} ends beyond its {self._size} bytes")
        self._extents.append((offset, offset + num_bytes))
        return offset

    def _number(self, group: h5py.h5g.GroupID, name: str, key: bytes) -> int | None:
        if not h5py.h5a.exists(group, key):
            return None
        found = h5py.h5a.open(group, key)
        if found.shape != () or found.dtype.kind not in "iu":
            raise refusal(self._path, f"holds {name} with a {key.decode()} that is not an integer")
        value = np.empty((), found.dtype)
        found.read(value)
        return int(value)

    def _checksums(self, group: h5py.h5g.GroupID, name: str) -> Checksums | None:
        if not h5py.h5a.exists(group, CHECKSUMS.encode()):
            if self._checked:
                raise refusal(self._path, f"lacks the checksums of {name}: it was damaged or changed")
            return None
        found = h5py.h5a.open(group, CHECKSUMS.encode())
        if found.shape != (self._num_checksums,) or found.dtype != np.uint32:
            count = {2: "two", 3: "three"}[self._num_checksums]
            raise refusal(self._path, f"holds {name} with a {CHECKSUMS} that is not {count} checksums")
        values = np.empty(self._num_checksums, np.uint32)
        found.read(values)
        return Checksums(*values.tolist())


def _described(dataset: h5py.h5d.DatasetID) -> str:
    try:
        return f"{dataset.shape} {dataset.dtype}"
    except (TypeError, ValueError, RuntimeError):
        return f"{dataset.shape} of a type that numpy does not have"


def _one_line(error: Exception) -> str:
    return " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())

"""Temporary files and folders, named after the process that writes them so that leftovers can be recognised.

A killed process leaves `.NAME.PROCESS-THREAD@PLACE.tmp` beside NAME. The next writer of NAME in the folder removes it.
PLACE is the machine or container, since numbers of processes say nothing elsewhere: what another place writes to a
shared folder counts as left behind when it has not changed for an hour.
"""

import os
import platform
import re
import shutil
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_NAME = re.compile(r"\.(?P<target>.+)\.(?P<process>\d+)(?:-\d+)?(?:@(?P<place>[0-9a-f]{8}))?\.tmp", re.DOTALL)
_UNCHANGED = 3600.0  # seconds
_IN_USE: set[str] = set()  # by this process; an earlier process of the same number may have left others


@contextmanager
def name_beside(path: Path) -> Iterator[Path]:
    """A free name beside `path`, reserved for this thread until the block ends."""
    writer = f"{os.getpid()}-{threading.get_ident()}@{_place()}"
    name = path.with_name(f".{path.name}.{writer}.tmp").absolute()
    _IN_USE.add(str(name))
    try:
        yield name
    finally:
        _IN_USE.discard(str(name))


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """A name beside `path` for a file that is removed when the block ends if it still exists."""
    remove_leftovers(path.parent, path.name)
    with name_beside(path) as temporary:
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def leftovers(folder: Path, target: str | None = None, alone: bool = False) -> list[Path]:
    """Leftovers of dead processes in `folder`, from writing `target` or any name.

    `alone`: count those of every other process, because none can be writing there.
    """
    if not folder.is_dir():
        return []
    try:
        there = os.scandir(folder)
    except PermissionError:  # another user's folder, which may be entered but not listed
        return []
    found = []
    with there as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name) if entry.name.startswith(".") else None
            if match and target in (None, match["target"]):
                path = (folder / entry.name).absolute()
                if str(path) not in _IN_USE and (alone or _is_left(path, int(match["process"]), match["place"])):
                    found.append(path)
    return found


def is_temporary(name: str) -> bool:
    """Whether a file name was made by `name_beside`."""
    return _NAME.fullmatch(name) is not None


def remove_leftovers(folder: Path, target: str | None = None, alone: bool = False) -> None:
    """Delete temporary files left by dead processes; folders are left to `finish_replacing`."""
    for path in leftovers(folder, target, alone):
        if not path.is_dir():
            path.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Delete a file, a link or a whole folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@cache
def _place() -> str:
    """Short name of the machine, or the container, in which numbers of processes are unique."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        space = 0
    return f"{zlib.crc32(f'{platform.node()} {space}'.encode()):08x}"


def _is_left(path: Path, process: int, place: str | None) -> bool:
    """Whether the process that wrote `path` is dead. `place` is None in names of earlier versions."""
    if place in (None, _place()):
        return process == os.getpid() or not _is_running(process)
    try:
        changed = max(each.stat().st_mtime for each in (path, *path.rglob("*")))
    except FileNotFoundError:  # it is being written
        return False
    return time.time() - changed > _UNCHANGED


def _is_running(process: int) -> bool:
    if os.name == "nt":  # signal 0 is Ctrl-C there
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True

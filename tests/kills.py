"""Kills at every file operation, one after the other, by injection: after the kill no operation is done."""

import builtins
import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import safetensors.torch
import torch

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class KilledError(BaseException):
    """The process is dead; a BaseException, so that no handler continues."""


class Killer:
    """Counts the file operations of this thread below `root` and dies at number `at`."""

    def __init__(self, root: Path, at: int) -> None:
        self.dead = False
        self._root, self._at = str(root.resolve()) + os.sep, at
        self._thread, self._count = threading.get_ident(), 0

    def strike(self, path: Any) -> None:
        """Die if it is time; what follows in the dead process's cleaning up dies as well."""
        if threading.get_ident() != self._thread or not self._is_below_root(path):
            return
        if self._count == self._at:
            self.dead = True
        if self.dead:
            raise KilledError(f"at operation {self._at}, on {path}")
        self._count += 1

    def _is_below_root(self, path: Any) -> bool:
        if not isinstance(path, str | os.PathLike):
            return False
        # Names beside an open folder's handle (shutil.rmtree) have no path: they count.
        return not os.path.isabs(path) or f"{os.path.abspath(path)}{os.sep}".startswith(self._root)


def _whole(killer: Killer, real: Callable) -> Callable:
    """An operation that is atomic in the system."""

    def operation(path, *arguments, **options):
        killer.strike(path)
        return real(path, *arguments, **options)

    return operation


def _opening(killer: Killer, real: Callable) -> Callable:
    """Opening for writing: a kill before it, and one that leaves an empty file or half a line."""

    def opened(file, mode="r", *arguments, **options):
        if isinstance(file, str | os.PathLike) and set(mode) & set("wax+"):
            killer.strike(file)
            if "a" in mode or "w" in mode:
                try:
                    killer.strike(file)
                except KilledError:
                    with real(file, "ab" if "a" in mode else "wb") as half:
                        half.write(b'{"st')
                    raise
        return real(file, mode, *arguments, **options)

    return opened


def _writing(killer: Killer, real: Callable) -> Callable:
    """A library that writes a file itself: a kill before it, and one that leaves half a file."""

    def write(data, path, *arguments, **options):
        killer.strike(path)
        done = real(data, path, *arguments, **options)
        try:
            killer.strike(path)
        except KilledError:
            os.truncate(path, os.path.getsize(path) // 2)
            raise
        return done

    return write


@contextmanager
def kill(root: Path, at: int) -> Iterator[Killer]:
    """Inside, the operation of number `at` below `root` raises KilledError instead, and so do all after it."""
    killer = Killer(root, at)
    with ExitStack() as patches:
        for name in ("replace", "rename", "unlink", "remove", "mkdir", "rmdir", "link"):
            patches.enter_context(patch.object(os, name, _whole(killer, getattr(os, name))))
        real_open, real_file = os.open, h5py.File

        def low_open(path, flags, *arguments, **options):
            if flags & _WRITES:
                killer.strike(path)
            return real_open(path, flags, *arguments, **options)

        def hdf5_file(path, mode="r", **options):
            if mode != "r":
                killer.strike(path)
            return real_file(path, mode, **options)

        patches.enter_context(patch.object(os, "open", low_open))
        patches.enter_context(patch.object(h5py, "File", hdf5_file))
        opened = _opening(killer, builtins.open)
        patches.enter_context(patch.object(builtins, "open", opened))
        patches.enter_context(patch.object(io, "open", opened))
        save_file = _writing(killer, safetensors.torch.save_file)
        patches.enter_context(patch.object(safetensors.torch, "save_file", save_file))
        from worldmodel.training import encode_store as encoding

        patches.enter_context(patch.object(encoding, "save_file", save_file))
        patches.enter_context(patch.object(torch, "save", _writing(killer, torch.save)))
        yield killer


def kill_everywhere(
    before: Path, root: Path, run: Callable[[Path], Any], first: int = 0, every: int = 1
) -> Iterator[int]:
    """Run on copies of `before` at `root`, killed at one operation after the other until a run gets through.

    Yields the number of the operation, after each kill; what is at `root` then is what a kill there leaves.
    """
    for at in count(first, every):
        shutil.rmtree(root, ignore_errors=True)
        if before.exists():
            shutil.copytree(before, root, symlinks=True)
        with kill(root.parent, at) as killer:
            try:
                run(root)
            except KilledError:
                pass
            else:
                assert not killer.dead, "somebody went on after a kill"
        if not killer.dead:
            return
        yield at


def litter(folder: Path) -> list[str]:
    """Temporary files and folders anywhere below."""
    return [str(path) for path in folder.rglob("*") if path.name.endswith((".tmp", ".unfinished"))]

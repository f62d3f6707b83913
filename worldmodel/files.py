"""Atomic writing of files, by a temporary file and a rename; reading and checking of JSON."""

import errno
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from worldmodel.leftovers import temporary_beside


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; what is written there becomes `path` on success and is removed on any error.

    Readers never see half a file, even after a kill or on a full disk. A symbolic link is kept, and the file it points
    to is replaced. An existing file keeps its permissions. /dev/null, a terminal or a pipe is written to directly.

    Raises:
        PermissionError: the file is read-only.
        OSError: the path is not a file, or it could not be written.
    """
    path = Path(path)
    with naming_failures(path):
        mode = _mode_to_replace(path)
        if mode is not None and not stat.S_ISREG(mode):
            with _written_through(path) as temporary:
                yield temporary
            return
        target = link_target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary_beside(target) as temporary:
            permissions = usual_permissions(temporary) if mode is None else stat.S_IMODE(mode)
            yield temporary
            if stat.S_IMODE(temporary.stat().st_mode) != permissions:  # some libraries write files for the owner alone
                temporary.chmod(permissions)
            flush_to_disk(temporary)
            os.replace(temporary, target)
            flush_to_disk(target.parent)


def check_output(path: str | Path, *, folder: bool = False) -> None:
    """OSError, before long work, if a file (or a folder of files) could not be written at its end; changes nothing."""
    path = Path(path)
    if folder:
        target = path / "file"
    else:
        mode = _mode_to_replace(path)
        if mode is not None and not stat.S_ISREG(mode):  # a device or a pipe
            return
        target = link_target(path)
    there = next(parent for parent in target.absolute().parents if parent.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(there))
    if not os.access(there, os.W_OK):
        raise PermissionError(errno.EACCES, "nothing can be written in this folder; choose another", str(there))


def link_target(path: Path) -> Path:
    """The file that writing to `path` changes: the end of a chain of symbolic links, or `path` itself."""
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink() or not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"a symbolic link whose target {target} cannot be written", str(path))
    return target


def check_writable(path: Path) -> None:
    """PermissionError if a file is read-only, although its folder would allow replacing it."""
    if not path.stat().st_mode & 0o222 or not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "read-only; make it writable or choose another name", str(path))


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a power failure."""
    if path.is_dir():
        if os.name == "nt":  # cannot open folders
            return
        handle = os.open(path, os.O_RDONLY)
    else:
        handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(handle)
    except OSError as error:  # some network file systems do not support this for folders
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _mode_to_replace(path: Path) -> int | None:
    """The mode of an existing `path`, or None; OSError if it must not be written to."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISREG(mode):
        check_writable(path)
    elif stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, wanted the name of a file", str(path))
    elif not (stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)):
        raise OSError(errno.EINVAL, "neither a file nor a stream; choose another name", str(path))
    return mode


@contextmanager
def _written_through(path: Path) -> Iterator[Path]:
    """Yield a temporary file that is then copied to a device or pipe, which cannot be replaced."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "output"
        yield temporary
        with open(temporary, "rb") as source, open(path, "wb") as stream:
            shutil.copyfileobj(source, stream)


def usual_permissions(free: Path) -> int:
    """Permissions of a new file (from the umask, which cannot be read without setting it); `free` is an unused path."""
    with open(free, "xb") as file:
        permissions = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    free.unlink()
    return permissions


@contextmanager
def naming_failures(path: str | Path) -> Iterator[None]:
    """Turn any library's error for a failed write (such as a full disk) into an OSError that names `path`."""
    from safetensors import SafetensorError

    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(path)
        raise
    except (RuntimeError, SafetensorError) as error:  # torch's and safetensors' names for a failed write
        raise OSError(f"{path} could not be written: {error}") from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, data: Any) -> None:
    """Write `data` as indented JSON, atomically."""
    write_text(path, json.dumps(data, indent=2) + "\n")


JsonObject = dict[str, Any]


def read_json(path: str | Path, kind: Any = Any, keys: Sequence[str] = (), *, finite: bool = False) -> Any:
    """Read a JSON file.

    Args:
        kind: the expected type, such as `JsonObject`.
        keys: required in the object, or in each object of a list.
        finite: refuse NaN, infinities and integers beyond 64 bits.

    Raises:
        ValueError: it is not JSON, of another type, or repeats a key; names the file and the position.
    """
    hooks: dict[str, Any] = {"parse_constant": _finite, "parse_float": _finite, "parse_int": _int64} if finite else {}
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_without_repeats, **hooks)
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply. Restore it from a backup or delete it.") from error
    except ValueError as error:  # also bytes that are not text, and integers of thousands of digits
        raise ValueError(f"{path} is not valid JSON ({error}). Restore it from a backup or delete it.") from error
    data = data if kind is Any else _checked(path, data, kind)
    for found in data if keys and isinstance(data, list) else [data]:
        if missing := [key for key in keys if key not in found]:
            raise ValueError(f"{path} lacks {', '.join(missing)}. Restore it from a backup or delete it.")
    return data


def read_json_lines(path: str | Path) -> list[tuple[str, JsonObject | None]]:
    """The lines of a file and the JSON object in each; None for one that a kill, a full disk or an editor damaged."""
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    return [(line, _object_of(line)) for line in text.splitlines()]


def _object_of(line: str) -> JsonObject | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def cut_log(path: str | Path, key: str, last: int) -> None:
    """Drop the lines of a log, such as metrics.jsonl, whose integer under `key` is above `last`, and damaged lines."""
    path = Path(path)
    lines = read_json_lines(path) if path.exists() else []
    steps = [None if record is None else record.get(key) for _, record in lines]
    whole = [step if type(step) is int else None for step in steps]
    if damaged := whole[:-1].count(None):  # a kill cuts the last one short
        print(f"{path}: {damaged} damaged lines are left out; the training itself is not affected")
    kept = [line for (line, _), step in zip(lines, whole, strict=True) if step is not None and step <= last]
    write_text(path, "".join(f"{line}\n" for line in kept))


def _checked(path: str | Path, data: Any, kind: Any) -> Any:
    from worldmodel.settings import from_json

    try:
        return from_json(kind, data)
    except ValueError as error:
        raise ValueError(f"{path} does not fit ({error}). Restore it from a backup or delete it.") from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is repeated")
    return data


def _int64(text: str) -> int:
    if not -(2**63) <= (number := int(text)) < 2**63:
        raise ValueError(f"{text[:40]}… is beyond 64 bits")
    return number


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is not a finite number")
    return number

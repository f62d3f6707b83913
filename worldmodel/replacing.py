"""Atomic writing of folders: written beside the target, then exchanged; completes exchanges cut short by a kill."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worldmodel.files import check_writable, flush_to_disk, usual_permissions
from worldmodel.leftovers import leftovers, name_beside, remove


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield a new folder that replaces `folder` on success; on any error the old one stays.

    A folder cannot be replaced in one move: the old one is moved aside first, and moved back if the second move fails.
    Permissions of the old folder and its files are kept, and if it is the working folder, the new one becomes that.
    After a kill between the two moves, `finish_replacing` makes the second; call it before reading `folder`.

    Raises: PermissionError if the folder or a file in it is read-only.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    finish_replacing(folder)
    if folder.exists():
        for path in (folder, *folder.iterdir()):
            if path.exists():  # not a link to nowhere
                check_writable(path)
    inside = folder.exists() and folder.samefile(".")
    with name_beside(folder) as work:
        fresh, aside = work / "new", work / "old"
        try:
            fresh.mkdir(parents=True)
            yield fresh
            _settle(fresh, folder)
            if folder.exists():
                os.replace(folder, aside)
            os.replace(fresh, folder)
            if inside:  # otherwise relative paths would break
                os.chdir(folder)
            flush_to_disk(folder.parent)
        except BaseException:
            if aside.exists() and not folder.exists():
                os.replace(aside, folder)
            raise
        finally:
            if folder.exists() or not aside.exists():  # otherwise `aside` is the only copy
                remove(work)


def finish_replacing(folder: Path, alone: bool = False) -> None:
    """Complete an exchange that a dead process began, and remove its leftovers.

    `alone`: no other process can be writing `folder` (its run is locked), whatever the process numbers suggest.
    """
    folder = folder.resolve()
    for work in leftovers(folder.parent, folder.name, alone):
        if work.is_dir():
            if (work / "old").exists() and not folder.exists():  # then the new one was complete
                os.replace(work / "new" if (work / "new").exists() else work / "old", folder)
            remove(work)


def _settle(fresh: Path, folder: Path) -> None:
    """Set permissions as before or to the default, and flush everything to disk."""
    default = usual_permissions(fresh / ".permissions")
    for path in fresh.rglob("*"):
        before = folder / path.relative_to(fresh)
        if path.is_file():
            # safetensors writes files for the owner alone
            path.chmod(before.stat().st_mode & 0o777 if before.is_file() else default)
        flush_to_disk(path)
    if folder.exists():
        shutil.copymode(folder, fresh)
    flush_to_disk(fresh)

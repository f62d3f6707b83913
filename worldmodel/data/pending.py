"""Files of episodes that are not yet packed: each holds one episode, or a block with consecutive ids."""

from __future__ import annotations

import re
from pathlib import Path

from worldmodel.data.episode import StoreInfo
from worldmodel.data.layout import Entry
from worldmodel.data.scanning import scan

PATTERN = "episode_*.hdf5"
_NAME = re.compile(r"episode_([0-9]{6,7})(?:_to_([0-9]{6,7}))?\.hdf5")


def pending_name(first_id: int, count: int = 1) -> str:
    """Name of the file of `count` episodes from `first_id`."""
    return (
        f"episode_{first_id:06d}.hdf5" if count == 1 else f"episode_{first_id:06d}_to_{first_id + count - 1:06d}.hdf5"
    )


def ids_of(path: Path) -> range:
    """Ids in the name of a pending file; ValueError if the name has another form."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} must be named like an episode file, such as {pending_name(7)}. Move it elsewhere.")
    return range(int(match[1]), int(match[2] or match[1]) + 1)


def scan_pending(path: Path, info: StoreInfo) -> list[Entry]:
    """Episodes of a pending file; ValueError unless their ids match its name."""
    entries, wanted = scan(path, info), ids_of(path)
    if [entry.id for entry in entries] != list(wanted):
        what = "the one episode" if len(wanted) == 1 else "the episodes"
        raise ValueError(f"{path} must hold {what} given by its name, got ids {[e.id for e in entries]}. Delete it.")
    return entries

"""The journal of an import: one line for each stored range of records of a file."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One line of the journal: a stored range of records of one file."""

    file: str  # for example test/traj_0_to_255.tfrecords
    num_bytes: int  # of that file
    next_record: int  # the first record not read yet
    trajectories: int  # number stored from this range
    broken: list[str] = field(default_factory=list)  # skipped records, and why


def note(block: Block, lines: TextIO) -> None:
    """Append a line and flush it to disk."""
    lines.write(json.dumps(asdict(block)) + "\n")
    lines.flush()
    os.fsync(lines.fileno())


def read_journal(path: Path) -> list[Block]:
    """The lines of the journal; removes a last line that a kill cut short."""
    if not path.exists():
        return []
    text = path.read_bytes().decode("utf-8", "replace")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return [_block(path, number, line) for number, line in enumerate(whole.splitlines(), 1)]


def _block(path: Path, number: int, line: str) -> Block:
    try:
        block = Block(**json.loads(line))
        counts = (block.num_bytes, block.next_record, block.trajectories)
        if not isinstance(block.file, str) or any(type(count) is not int or count < 0 for count in counts):
            raise ValueError("expected a file and three counts")
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path}, line {number}: not a line of an import's journal ({error}). Restore the file from a backup, or "
            f"delete {path.parent} and import again"
        ) from error
    return block


def check_same_files(journal: list[Block], files: dict[str, Path]) -> None:
    """Require the files already read to be unchanged; otherwise episodes would be duplicated or lost."""
    read = {block.file: block.num_bytes for block in journal}
    now = {name: path.stat().st_size for name, path in list(files.items())[: len(read)]}
    if list(read.items()) != list(now.items()):
        raise ValueError(
            f"the import began with the files (bytes) {read}, but now there are {now}. Restore them, or "
            "choose another out"
        )

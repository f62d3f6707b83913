"""SHA256SUMS of a checkpoint folder: written on save, verified on load, and compatible with `sha256sum -c`."""

import hashlib
import re
from pathlib import Path

NAME = "SHA256SUMS"
COVERED = ("config.json", "model.safetensors", "starts.safetensors")  # those that a folder has are listed


def write_sums(folder: Path) -> None:
    """Write the checksums of the files in `folder`."""
    lines = [f"{file_sum(folder / name)}  {name}\n" for name in COVERED if (folder / name).is_file()]
    (folder / NAME).write_text("".join(lines), encoding="ascii")


def file_sum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_sums(folder: Path) -> dict[str, str] | None:
    """File name -> checksum; None for a folder without checksums, such as those saved by older versions.

    Raises: ValueError if SHA256SUMS itself is damaged or lists a file that is missing.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    sums: dict[str, str] = {}
    for line in path.read_bytes().decode("utf-8", "replace").splitlines():
        found = re.fullmatch(r"([0-9a-f]{64}) [ *](\S+)", line)
        if found is None or found[2] not in COVERED or found[2] in sums:
            raise ValueError(f"{path} is damaged at {line[:100]!r}; fetch or save the checkpoint again")
        if not (folder / found[2]).is_file():
            raise ValueError(f"{folder / found[2]} is missing, but {path} lists it; fetch or save the checkpoint again")
        sums[found[2]] = found[1]
    return sums


def check_sums(folder: Path) -> list[str]:
    """Compare all files with SHA256SUMS; returns the names of the compared files.

    Raises: ValueError that names the first file that has changed since it was saved.
    """
    sums = read_sums(folder) or {}
    for name, wanted in sums.items():
        if file_sum(folder / name) != wanted:
            raise ValueError(
                f"{folder / name} has changed since it was saved: its SHA-256 is not the one in {NAME}. Fetch or train "
                f"it again (if you changed it on purpose, delete its line from {NAME})"
            )
    return list(sums)

"""Download BAIR's archive: resumable, verified by its hash, then unpacked.

The data are by Ebert et al. (arXiv:1710.05268), licence CC BY 4.0.
"""

import hashlib
import re
import tarfile
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from worldmodel.data.bair.files import find_files
from worldmodel.errors import OutsideError
from worldmodel.files import atomic_write
from worldmodel.progress import progress

URL = "http://rail.eecs.berkeley.edu/datasets/bair_robot_pushing_dataset_v0.tar"
SIZE = 32_274_964_480  # bytes
SHA256 = "c6f8d164ab2be07174ef597e3e070d7466f3142caddc467b6af119b9458cd9cd"
_MEMBER = re.compile(r"(?:\./)?(softmotion30_44k/(?:train|test)/traj_\d+_to_\d+\.tfrecords)")
_PIECE = 1 << 22


def fetch_bair(folder: str | Path) -> Path:
    """Download the archive into `folder` and unpack it there, unless its record files already exist.

    The archive itself is deleted at the end; until then it takes as much disk space as the unpacked files.

    Returns: the folder.
    Raises:
        OutsideError: the download failed; call again to resume it.
        ValueError: the download is not the published archive; it is deleted.
    """
    folder = Path(folder)
    archive = folder / URL.rpartition("/")[2]
    if not archive.exists():
        if _is_unpacked(folder):
            return folder
        _download(archive)
    _unpack(archive, folder)
    archive.unlink()
    return folder


def _is_unpacked(folder: Path) -> bool:
    try:
        return bool(find_files(folder, "train") and find_files(folder, "test"))
    except FileNotFoundError:
        return False


def _download(archive: Path) -> None:
    part = archive.with_name(f"{archive.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    if not part.exists() or part.stat().st_size < SIZE:
        try:
            _append(part)
        except (OSError, HTTPException) as error:  # urllib's errors are OSErrors
            raise OutsideError(
                f"{URL} could not be downloaded: {error}. Run the command again to resume from {part}"
            ) from error
    found, size = _sha256(part), part.stat().st_size
    if size < SIZE:
        raise OutsideError(f"the download ended after {size:,} of {SIZE:,} bytes. Run the command again to resume")
    if found != SHA256:
        part.unlink()
        raise ValueError(
            f"{URL} gave {size:,} bytes with sha256 {found}, wanted {SIZE:,} bytes with {SHA256}. The file was "
            "deleted; try again later, or unpack an archive from elsewhere and omit --download"
        )
    part.rename(archive)


def _append(part: Path) -> None:
    """Download the missing rest of the file."""
    here = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(URL, headers={"Range": f"bytes={here}-"} if here else {})
    with urllib.request.urlopen(request, timeout=60) as answer:
        resumes = here > 0 and getattr(answer, "status", None) == 206
        here = here if resumes else 0
        with open(part, "ab" if resumes else "wb") as file, progress(SIZE, "B", "download", initial=here) as bar:
            while piece := answer.read(_PIECE):
                file.write(piece)
                bar.update(len(piece))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file, progress(path.stat().st_size, "B", "check") as bar:
        while piece := file.read(_PIECE):
            digest.update(piece)
            bar.update(len(piece))
    return digest.hexdigest()


def _unpack(archive: Path, folder: Path) -> None:
    """Write each record file whole or not at all; keep those that are already there."""
    with tarfile.open(archive) as tar, progress(archive.stat().st_size, "B", "unpack") as bar:
        for member in tar:
            match = _MEMBER.fullmatch(member.name)
            content = tar.extractfile(member) if match and member.isfile() else None
            if match is None or content is None:
                continue
            target = folder / match[1]
            if not (target.exists() and target.stat().st_size == member.size):
                with atomic_write(target) as temporary, open(temporary, "wb") as file:
                    while piece := content.read(_PIECE):
                        file.write(piece)
            bar.update(member.size)

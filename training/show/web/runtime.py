"""What the page computes with: onnxruntime-web for the graphs and gifenc for GIFs, from npm or from a folder."""

import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gymnasium.error import DependencyNotInstalled

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
PLAIN = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")  # script and WebAssembly, for every browser
WEBGPU = ("ort.jspi.bundle.min.mjs", "ort-wasm-simd-threaded.jspi.wasm")  # for those with WebGPU and JSPI
ABOUT = ("README.md", "package.json")  # name, version and licence, which go along
GIF_PACKAGE, GIF_VERSION = "gifenc", "1.0.3"
GIF = "gifenc.esm.js"  # makes GIFs; a folder without it makes a page without them
_GIF_FILES = {f"dist/{GIF}": GIF, "LICENSE.md": "gifenc-LICENSE.md"}  # in the package -> beside the runtime


def copy_runtime(target: Path, names: Sequence[str], folder: str | Path | None = None) -> None:
    """Copy these files of onnxruntime-web, and gifenc, to `target`, from a folder or, without one, from npm.

    Raises:
        FileNotFoundError: the folder lacks a file, or npm cannot fetch the package.
        DependencyNotInstalled: there is no npm.
        ValueError: the folder holds another version.
    """
    target.mkdir()
    if folder is None:
        _fetch(target, names)
        return
    top, scripts = _places(Path(folder))
    for name in names:
        if not (scripts / name).is_file():
            raise FileNotFoundError(
                f"{scripts} holds no {name}: give the unpacked {PACKAGE}@{VERSION} (npm pack {PACKAGE}@{VERSION}), or "
                "the folder runtime of an earlier export with the same options"
            )
        shutil.copyfile(scripts / name, target / name)
    for name in ABOUT:
        if (top / name).is_file():
            shutil.copyfile(top / name, target / name)
    for name in _GIF_FILES.values():
        found = next((place / name for place in (Path(folder), scripts) if (place / name).is_file()), None)
        if found is not None:
            shutil.copyfile(found, target / name)


def _places(folder: Path) -> tuple[Path, Path]:
    """Where a user's folder holds the package's own files, and where its scripts."""
    tops = [top for top in (folder, folder / "package", folder.parent) if (top / "package.json").is_file()]
    if not tops:
        return folder, folder
    found = json.loads((tops[0] / "package.json").read_text(encoding="utf-8")).get("version")
    if found != VERSION:
        raise ValueError(f"{folder} holds version {found} of {PACKAGE}; the page is written for {VERSION}")
    dist = tops[0] / "dist"
    return tops[0], dist if dist.is_dir() else folder


def _fetch(target: Path, names: Sequence[str]) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise DependencyNotInstalled(
            f"{PACKAGE} comes from npm, which is not installed (apt-get install npm). Or fetch {PACKAGE}@{VERSION} "
            "elsewhere, unpack it, and give its folder: --runtime FOLDER"
        )
    packages = {
        f"{PACKAGE}-{VERSION}.tgz": {f"dist/{name}": name for name in names} | {name: name for name in ABOUT},
        f"{GIF_PACKAGE}-{GIF_VERSION}.tgz": _GIF_FILES,
    }
    wanted = [f"{PACKAGE}@{VERSION}", f"{GIF_PACKAGE}@{GIF_VERSION}"]
    with tempfile.TemporaryDirectory(prefix="videogen-npm-") as folder:
        command = [npm, "pack", "--silent", "--prefer-offline", *wanted, "--pack-destination", folder]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode or any(not (Path(folder) / name).is_file() for name in packages):
            raise FileNotFoundError(
                f"npm could not fetch {' and '.join(wanted)}: {done.stderr.strip() or done.stdout.strip()}. Without a "
                "network fetch it elsewhere, unpack it, and give its folder: --runtime FOLDER"
            )
        for name, members in packages.items():
            with tarfile.open(Path(folder) / name) as archive:
                for member in archive:
                    to = members.get(member.name.removeprefix("package/"))
                    content = None if to is None else archive.extractfile(member)
                    if to is not None and content is not None:
                        with (target / to).open("wb") as file:
                            shutil.copyfileobj(content, file)

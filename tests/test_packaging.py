"""The package installs completely, imports lightly, and its pinned versions fit its ranges."""

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import worldmodel

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TOP_FOLDERS = ("worldmodel", "envs", "agents", "training")
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")

# Imports every module named on the command line and prints where it came from, one line each.
PRINT_ORIGINS = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    print(importlib.import_module(name).__file__)
"""

# The processor's time, which other programs on the machine do not stretch.
TIME_IMPORT = """
import sys, time
start = time.process_time()
import worldmodel
print(time.process_time() - start, *(name for name in sys.argv[1:] if name in sys.modules))
"""
PRINT_IDS = """
import gymnasium
print(*gymnasium.registry)
"""
REGISTERED = {"VideoGenDream-Doom", "VideoGenDream/Doom-v0", "VideoGenReal-Doom", "VideoGenReal/Doom-v0"} | {
    f"VideoGenReal{mark}" for mark in ("-Push", "/Push-v0", "-PushGoal", "/PushGoal-v0")
}


# What pip does, without starting it.
BUILD = f"""
import sys
from {PYPROJECT["build-system"]["build-backend"]} import build_wheel
build_wheel(sys.argv[1])
"""


def run_python(*arguments: str, cwd: Path) -> str:
    """Output of an isolated interpreter: no PYTHONPATH, the working folder not importable."""
    done = subprocess.run([sys.executable, "-I", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the source, because building leaves files behind."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in TOP_FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run_python("-c", BUILD, str(folder), cwd=checkout)
    (built,) = folder.glob("*.whl")
    return built


def wheel_paths(checkout: Path, folder: str) -> set[str]:
    """Where the files of a top folder are in the wheel."""
    prefix = "" if folder == "worldmodel" else "worldmodel/"
    return {prefix + path.relative_to(checkout).as_posix() for path in (checkout / folder).rglob("*") if path.is_file()}


def test_importing_worldmodel_is_light(tmp_path):
    heavy = ("torch", "ray", "vizdoom", "pybullet", "stable_baselines3", "moviepy", "minari", "pandas", "matplotlib")
    runs = [run_python("-c", TIME_IMPORT, *heavy, cwd=tmp_path).split() for _ in range(2)]
    assert [loaded for _, *loaded in runs] == [[], []]
    assert min(float(seconds) for seconds, *_ in runs) < 0.5


def test_the_wheel_holds_every_source_file_and_every_shipped_checkpoint(wheel, checkout):
    wanted = set().union(*(wheel_paths(checkout, folder) for folder in TOP_FOLDERS))
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == wanted


def metadata(wheel: Path) -> str:
    return zipfile.ZipFile(wheel).read(f"videogen_dream-{worldmodel.__version__}.dist-info/METADATA").decode()


def test_the_wheel_carries_version_licence_and_command(wheel):
    archive = zipfile.ZipFile(wheel)
    info = f"videogen_dream-{worldmodel.__version__}.dist-info"
    assert f"{info}/licenses/LICENSE" in archive.namelist()
    assert "videogen-dream = worldmodel.training.cli.main:main" in archive.read(f"{info}/entry_points.txt").decode()


def install(wheel: Path, target: Path) -> None:
    run_python(*PIP, "install", "--no-deps", "--no-compile", "--target", str(target), str(wheel), cwd=target.parent)


def test_the_wheel_stays_below_60_megabytes(wheel):
    assert wheel.stat().st_size < 60e6


def test_the_package_page_has_no_link_that_leads_nowhere_there(wheel):
    page = Parser().parsestr(metadata(wheel)).get_payload()
    assert "# VideoGenDream" in page and "pip install ." in page and "[arXiv:2104.10157](https://" in page
    outside_code = re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"\]\((?!https?://)[^)]*\)", outside_code) == [] and "![" not in outside_code
    assert "everything in the picture" not in page  # its caption
    assert "result" in page and "All results](" not in page  # the text of links stays


def test_twine_finds_nothing_wrong_with_the_package_page(wheel, tmp_path):
    pytest.importorskip("twine", reason="extra dev")
    assert "PASSED" in run_python("-m", "twine", "check", "--strict", str(wheel), cwd=tmp_path)


# What a user writes; the second call is wrong.
USER_CODE = """
from worldmodel import EpisodeStorage
from worldmodel.hub import fetch
reveal_type(EpisodeStorage.open("runs/data"))
fetch("me/toy", local_files_only="yes")
"""


@pytest.mark.slow
def test_a_type_checker_sees_the_types_of_the_installed_wheel(wheel, tmp_path):
    pytest.importorskip("mypy", reason="extra dev")
    run_python("-m", "venv", "--without-pip", str(tmp_path / "user"), cwd=tmp_path)
    (site,) = (tmp_path / "user").glob("lib/python*/site-packages")
    install(wheel, site)
    (tmp_path / "mine.py").write_text(USER_CODE)
    options = ("--python-executable", str(tmp_path / "user" / "bin" / "python"), "--follow-imports", "silent")
    command = [sys.executable, "-m", "mypy", *options, "mine.py"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280).stdout
    assert 'mine.py:4: note: Revealed type is "worldmodel.data.storage.EpisodeStorage"' in said, said
    assert 'mine.py:5: error: Argument "local_files_only"' in said
    assert said.strip().endswith("Found 1 error in 1 file (checked 1 source file)")


def test_the_installed_wheel_works_from_another_folder(wheel, tmp_path):
    target = tmp_path / "site"
    install(wheel, target)
    packages = PYPROJECT["tool"]["setuptools"]["packages"]
    told = run_python("-c", PRINT_ORIGINS + PRINT_IDS, str(target), *packages, cwd=tmp_path).split()
    origins, registered = told[: len(packages)], told[len(packages) :]
    assert origins == [str(target.joinpath(*package.split("."), "__init__.py")) for package in packages]
    assert REGISTERED.issubset(registered)


def test_a_bare_checkout_works_without_installation(checkout, tmp_path):
    names = ["worldmodel", "worldmodel.data", "worldmodel.envs", "worldmodel.agents", "worldmodel.training"]
    origins = run_python("-c", PRINT_ORIGINS, str(checkout), *names, cwd=tmp_path).split()
    folders = ["worldmodel", "worldmodel/data", "envs", "agents", "training"]
    assert origins == [str(checkout / folder / "__init__.py") for folder in folders]


@pytest.mark.parametrize("name", ["envs", "agents", "training"])
def test_a_bare_import_is_refused_with_the_right_name(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    with pytest.raises(ImportError, match=f"worldmodel.{name}"):
        importlib.import_module(name)


def test_every_package_folder_is_listed_in_pyproject():
    folders = {path.parent for top in TOP_FOLDERS for path in (ROOT / top).rglob("__init__.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    dotted = {name if name.split(".")[0] == "worldmodel" else f"worldmodel.{name}" for name in names}
    assert dotted == set(PYPROJECT["tool"]["setuptools"]["packages"])


def pins() -> dict[str, list[Requirement]]:
    """The lines of constraints.txt by canonical name."""
    by_name: dict[str, list[Requirement]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            by_name.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return by_name


def test_every_constraint_is_one_exact_public_version():
    for requirement in (pin for group in pins().values() for pin in group):
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        assert "+" not in specifier.version and "*" not in specifier.version, requirement


def test_every_range_in_pyproject_admits_its_pins():
    project = PYPROJECT["project"]
    ranges = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    pinned = pins()
    for requirement in map(Requirement, ranges):
        if requirement.name == project["name"]:
            continue  # the extra that names the others
        candidates = pinned.get(canonicalize_name(requirement.name), [])
        assert candidates, f"{requirement.name} has no pin in constraints.txt"
        for pin in candidates:
            (specifier,) = pin.specifier
            assert specifier.version in requirement.specifier, f"{pin} is outside {requirement}"


def test_one_extra_names_everything_optional():
    extras = dict(PYPROJECT["project"]["optional-dependencies"])
    (everything,) = map(Requirement, extras.pop("all"))
    assert everything.name == PYPROJECT["project"]["name"]
    assert everything.extras == extras.keys() - {"docs", "test", "dev"}  # for work on the project itself


def test_every_python_that_is_claimed_is_in_the_matrix():
    claimed = {line.split(" :: ")[2] for line in PYPROJECT["project"]["classifiers"] if "Python :: 3." in line}
    assert claimed and claimed <= set(PYPROJECT["tool"]["tox"]["env_list"])


def test_torch_is_pinned_exactly_and_ranged_loosely():
    (pin,) = pins()["torch"]
    assert str(pin) == "torch==2.13.0"
    assert "torch>=2.8" in PYPROJECT["project"]["dependencies"]

"""The battle2 map: only the known file is ever installed, and its absence says what to do."""

import hashlib
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from worldmodel.envs.vizdoom import battle2
from worldmodel.envs.vizdoom.battle2 import battle2_wad, data_dir, fetch_battle2
from worldmodel.errors import OutsideError


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch) -> Path:
    """An empty data folder."""
    monkeypatch.setenv("VIDEOGEN_DREAM_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def pip_that_brings(monkeypatch, members: dict[str, bytes] | None) -> None:
    """Replace pip by one that leaves a wheel with these members, or fails without any."""

    def run(command, **_):
        if members is None:
            return SimpleNamespace(returncode=1, stderr="no network here")
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "sample_factory-2.1.1-py3-none-any.whl", "w") as wheel:
            for name, content in members.items():
                wheel.writestr(name, content)
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(battle2.subprocess, "run", run)


def wheel_members(wad: bytes) -> dict[str, bytes]:
    return {battle2._WAD_MEMBER: wad, battle2._LICENSE_MEMBER: b"MIT"}


def test_a_map_with_another_hash_is_refused_and_nothing_is_written(monkeypatch, data_folder):
    pip_that_brings(monkeypatch, wheel_members(b"not the map"))
    with pytest.raises(ValueError, match=f"sha256 {hashlib.sha256(b'not the map').hexdigest()}, wanted 0851ae"):
        fetch_battle2()
    assert not data_folder.exists()


def test_a_wheel_without_the_map_is_refused(monkeypatch, data_folder):
    pip_that_brings(monkeypatch, {"README": b""})
    with pytest.raises(ValueError, match=r"sample_factory-2.1.1-py3-none-any.whl is not the wheel of sample-factory"):
        fetch_battle2()
    assert not data_folder.exists()


def test_a_failed_download_quotes_pip(monkeypatch):
    pip_that_brings(monkeypatch, None)
    with pytest.raises(OutsideError, match=r"Check the network.*\n.*no network here"):
        fetch_battle2()


def test_the_map_and_its_licence_land_where_the_env_looks(monkeypatch, data_folder):
    monkeypatch.setattr(battle2, "WAD_SHA256", hashlib.sha256(b"the map").hexdigest())
    pip_that_brings(monkeypatch, wheel_members(b"the map"))
    path = fetch_battle2()
    assert path == battle2_wad() == data_folder / "battle2" / "battle2.wad"
    assert path.read_bytes() == b"the map"
    assert (path.parent / "LICENSE").read_bytes() == b"MIT"
    assert len(list(path.parent.iterdir())) == 2


def test_a_chosen_folder_gets_the_map(monkeypatch, tmp_path):
    monkeypatch.setattr(battle2, "WAD_SHA256", hashlib.sha256(b"the map").hexdigest())
    pip_that_brings(monkeypatch, wheel_members(b"the map"))
    assert fetch_battle2(tmp_path / "here").read_bytes() == b"the map"
    assert (tmp_path / "here" / "battle2.wad").is_file()
    monkeypatch.setenv("VIDEOGEN_DREAM_DATA", str(tmp_path / "here"))
    assert battle2_wad() == tmp_path / "here" / "battle2.wad"


def test_a_missing_map_names_the_command_that_fetches_it():
    with pytest.raises(FileNotFoundError, match="videogen-dream fetch-battle2"):
        battle2_wad()


def test_the_env_without_the_map_names_the_command_that_fetches_it():
    from worldmodel.envs import VizdoomEnv

    with pytest.raises(FileNotFoundError, match="videogen-dream fetch-battle2"):
        VizdoomEnv("battle2")


@pytest.mark.skipif(sys.platform != "linux", reason="each system has its own place for user data")
def test_user_data_follows_the_desktop_standard(monkeypatch, tmp_path):
    monkeypatch.delenv("VIDEOGEN_DREAM_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert data_dir() == tmp_path / "videogen-dream"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_dir() == tmp_path / ".local" / "share" / "videogen-dream"


@pytest.mark.network
@pytest.mark.vizdoom
def test_the_published_map_can_be_fetched_and_played():
    from worldmodel.envs import VizdoomEnv

    assert hashlib.sha256(fetch_battle2().read_bytes()).hexdigest() == battle2.WAD_SHA256
    env = VizdoomEnv("battle2")
    first, info = env.reset(seed=3)
    assert info["HEALTH"] == 100
    assert info["AMMO2"] == 20
    for action in range(env.action_space.n):
        env.step(action)
    again, _ = env.reset(seed=3)
    assert (first == again).all()  # this start looks at a slit in the map, which showed what was drawn before
    env.close()

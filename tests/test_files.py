"""Tests for worldmodel/files.py."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from worldmodel.files import JsonObject, atomic_write, check_output, read_json, write_json
from worldmodel.leftovers import remove_leftovers


def test_a_file_appears_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists() and temporary.parent == path.parent
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_writing_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_writer_killed_halfway_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    program = (
        "import os, signal, sys\n"
        "from worldmodel.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("PytorchStreamWriter failed writing file"), r"file\.txt could not be written: Pytorch"),
        (OSError(28, "No space left on device"), r"No space left on device: '.*file\.txt'"),
    ],
)
def test_a_full_disk_is_told_with_the_files_name(tmp_path, error, message):
    with pytest.raises(OSError, match=message), atomic_write(tmp_path / "file.txt"):
        raise error


def test_json_is_read_back_as_written(tmp_path):
    data = {"name": "Gesundheit – ü", "list": [1, 2.5, None], "nested": {"yes": True}}
    write_json(tmp_path / "data.json", data)
    assert read_json(tmp_path / "data.json") == data


def test_data_that_json_cannot_hold_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "data.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "data.json", {"a": object()})
    assert read_json(tmp_path / "data.json") == {"a": 1}
    assert os.listdir(tmp_path) == ["data.json"]


@pytest.mark.parametrize("content", [b'{"a": 1', b"\xff\xfe", b"", b"7" * 5000])
def test_broken_json_is_refused_with_the_files_name(tmp_path, content):
    (tmp_path / "data.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.json is not valid JSON"):
        read_json(tmp_path / "data.json")


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000])
def test_deeply_nested_json_is_refused_with_the_files_name(tmp_path, content):
    (tmp_path / "data.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.json is nested too deeply\. Restore") as error:
        read_json(tmp_path / "data.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "keys", "data", "wrong"),
    [
        (JsonObject, (), [1, 2], "does not fit"),
        (JsonObject, (), None, "does not fit"),
        (JsonObject, ("a", "b"), {"a": 1}, "lacks b"),
        (list[JsonObject], ("a",), [{"a": 1}, {}], "lacks a"),
        (list[JsonObject], (), [{"a": 1}, 3], "does not fit ..1. must be an object, got 3"),
    ],
)
def test_json_of_another_kind_is_refused_with_the_files_name(tmp_path, kind, keys, data, wrong):
    write_json(tmp_path / "data.json", data)
    with pytest.raises(ValueError, match=rf"data\.json {wrong}") as error:
        read_json(tmp_path / "data.json", kind, keys)
    assert "\n" not in str(error.value)


def test_threads_that_write_one_file_do_not_mix(tmp_path):
    path, both = tmp_path / "file.txt", threading.Barrier(2, timeout=20)

    def write(text):
        with atomic_write(path) as temporary:
            both.wait()
            temporary.write_text(text)
            both.wait()

    threads = [threading.Thread(target=write, args=(letter * 1000,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in ("a" * 1000, "b" * 1000) and os.listdir(tmp_path) == ["file.txt"]


# What is there already


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path):
    target, link = tmp_path / "disk" / "real.json", tmp_path / "link.json"
    target.parent.mkdir()
    link.symlink_to("disk/real.json")
    for number in (1, 2):  # at first the link points to nothing
        write_json(link, number)
        assert link.is_symlink() and read_json(target) == number
    assert os.listdir(target.parent) == ["real.json"] and sorted(os.listdir(tmp_path)) == ["disk", "link.json"]


@pytest.mark.parametrize("target", ["missing/real.json", "link.json"])
def test_a_link_to_nowhere_is_refused_by_name(tmp_path, target):
    (tmp_path / "link.json").symlink_to(target)
    with pytest.raises(OSError, match=r"link\.json"):
        write_json(tmp_path / "link.json", 1)
    assert os.listdir(tmp_path) == ["link.json"]


def test_a_device_stays_one_and_gets_the_bytes():
    before = os.stat("/dev/null")
    write_json("/dev/null", 1)
    after = os.stat("/dev/null")
    assert (before.st_ino, before.st_rdev) == (after.st_ino, after.st_rdev) and stat.S_ISCHR(after.st_mode)


def test_a_pipe_gets_the_bytes(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_json(tmp_path / "pipe", [1])
    reader.join(20)
    assert json.loads(got[0]) == [1] and os.listdir(tmp_path) == ["pipe"]


def test_a_folder_and_a_socket_are_refused_by_name(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match=r"a folder, wanted the name of a file.*folder'"):
        write_json(tmp_path / "folder", 1)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match="neither a file nor a stream"):
            write_json(tmp_path / "socket", 1)


def test_what_cannot_be_written_is_known_before_long_work(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "new" / "film.mp4", tmp_path / "file", Path(os.devnull), Path("here.txt")):
        check_output(path)
    for path in (tmp_path / "new", tmp_path / "folder", Path(".")):
        check_output(path, folder=True)
    with pytest.raises(IsADirectoryError, match="a folder, wanted the name of a file"):
        check_output(tmp_path / "folder")
    for path, folder in ((tmp_path / "file" / "film.mp4", False), (tmp_path / "file", True)):
        with pytest.raises(NotADirectoryError, match="file"):
            check_output(path, folder=folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_folder_without_the_right_to_write_is_known_before_long_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="nothing can be written in this folder"):
        check_output(tmp_path / "film.mp4")
    check_output(os.devnull)


def test_a_read_only_file_is_refused_and_stays(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, 1)
    path.chmod(0o444)
    with pytest.raises(PermissionError, match=r"read-only.*file\.json"):
        write_json(path, 2)
    assert read_json(path) == 1 and os.listdir(tmp_path) == ["file.json"]


def test_permissions_are_kept_and_new_files_get_the_usual_ones(tmp_path):
    path, usual = tmp_path / "file", tmp_path / "usual"
    usual.touch()
    for wanted in (stat.S_IMODE(usual.stat().st_mode), 0o640):
        with atomic_write(path) as temporary:
            temporary.touch(0o600)  # as safetensors makes its files
        assert stat.S_IMODE(path.stat().st_mode) == wanted
        path.chmod(0o640)


# What killed writers left


def test_the_next_writer_of_a_name_removes_what_dead_ones_left(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, own = (tmp_path / f".a.json.{process}-1.tmp" for process in (gone.pid, os.getpid()))
    alive, other = tmp_path / f".a.json.{os.getppid()}-1.tmp", tmp_path / f".b.json.{gone.pid}-1.tmp"
    for path in (dead, own, alive, other):
        path.touch()
    with atomic_write(tmp_path / "a.json") as outer:
        outer.write_text("1")
        write_json(tmp_path / "c.json", 1)
        remove_leftovers(tmp_path, "a.json")
        assert outer.exists()
    assert set(tmp_path.iterdir()) == {tmp_path / "a.json", tmp_path / "c.json", alive, other}

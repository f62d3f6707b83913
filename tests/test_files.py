"""Tests for worldmodel/files.py."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from worldmodel.files import atomic_write, read_json, write_json


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


@pytest.mark.parametrize("content", [b'{"a": 1', b"\xff\xfe"])
def test_broken_json_is_refused_with_the_files_name(tmp_path, content):
    (tmp_path / "data.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.json is not valid JSON"):
        read_json(tmp_path / "data.json")


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

"""Tests for worldmodel/data/episode_files.py: many writers at once, and writing that stops midway."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout

from tests.data.makers import INFO, assert_holds, files_of, make_episode, make_store
from worldmodel.data import EpisodeStorage, episode_files, layout
from worldmodel.files import atomic_write


def start_python(program: str, root: Path) -> subprocess.Popen:
    """Run a program that has the makers at hand, and `root`."""
    header = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom tests.data.makers import *\n"
        "from worldmodel.data import episode_files\nroot = Path(sys.argv[1])\n"
    )
    here = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen([sys.executable, "-c", header + program, str(root)], env=os.environ | {"PYTHONPATH": here})


# Several processes


def test_workers_write_different_ids_at_the_same_time(tmp_path):
    store = EpisodeStorage.create(tmp_path / "toy", INFO)
    assert store.lengths == []
    program = (
        "store = EpisodeStorage.open(root)\n"
        "for episode_id in range({}, 12, 2):\n"
        "    store.write_pending(make_episode(episode_id + 1, episode_id), episode_id)\n"
    )
    workers = [start_python(program.format(first), tmp_path / "toy") for first in (0, 1)]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert_holds(EpisodeStorage.open(tmp_path / "toy"), range(1, 13))
    store.flush()
    assert_holds(store, range(1, 13))
    assert_holds(EpisodeStorage.open(tmp_path / "toy"), range(1, 13))


def test_episodes_packed_by_another_process_can_still_be_read(tmp_path):
    store = EpisodeStorage.create(tmp_path / "toy", INFO)
    for episode_id, length in enumerate((6, 3)):
        store.write_pending(make_episode(length, episode_id), episode_id)
    other = EpisodeStorage.open(tmp_path / "toy")
    read = EpisodeStorage.open(tmp_path / "toy")
    assert_holds(read, (6, 3))  # its tables are in memory, its frames are not
    store.write_pending(make_episode(8, 2), 2)
    store.flush()
    for early in (other, read):
        assert_holds(early, (6, 3))  # and not the one that came later


def test_one_scan_finds_all_episodes_packed_by_another_process(tmp_path, monkeypatch):
    store = EpisodeStorage.create(tmp_path / "toy", INFO)
    for episode_id in range(5):
        store.write_pending(make_episode(4, episode_id), episode_id)
    other = EpisodeStorage.open(tmp_path / "toy")
    store.flush()
    looks, look = [], EpisodeStorage._find_episodes
    monkeypatch.setattr(EpisodeStorage, "_find_episodes", lambda self: (looks.append(self), look(self)))
    assert_holds(other, (4, 4, 4, 4, 4))
    assert len(looks) == 1


def test_episodes_discarded_by_another_process_are_named_and_indices_stay(tmp_path):
    store = EpisodeStorage.create(tmp_path / "toy", INFO)
    for episode_id, length in enumerate((6, 3, 8, 5)):
        store.write_pending(make_episode(length, episode_id), episode_id)
    other = EpisodeStorage.open(tmp_path / "toy")
    store.discard([1])
    store.flush()  # packs episode 0
    for episode in (0, 2, 3):
        np.testing.assert_array_equal(other.frames(episode), make_episode((6, 3, 8, 5)[episode], episode).frames)
    with pytest.raises(FileNotFoundError, match=r"episode 1 .* deleted by another process"):
        other.frames(1)


def test_one_process_packs_at_a_time(tmp_path, monkeypatch):
    store = make_store(tmp_path / "toy", (6, 3))
    store.append(make_episode(8, seed=2))
    pack = episode_files.append_episodes

    def pack_while_another_tries(*arguments):
        with pytest.raises(Timeout):
            FileLock(store.root / "data" / ".lock").acquire(timeout=0)
        pack(*arguments)

    monkeypatch.setattr(episode_files, "append_episodes", pack_while_another_tries)
    store.flush()
    assert_holds(store, (6, 3, 8))


def test_opening_while_another_process_packs_misses_nothing(tmp_path, monkeypatch):
    packer = make_store(tmp_path / "toy", (6, 3))
    packer.append(make_episode(8, seed=2))
    packer.append(make_episode(5, seed=3))
    look = episode_files.scan

    def look_just_too_late(path, info):
        monkeypatch.setattr(episode_files, "scan", look)
        packer.flush()
        return look(path, info)

    monkeypatch.setattr(episode_files, "scan", look_just_too_late)
    assert_holds(EpisodeStorage.open(tmp_path / "toy"), (6, 3, 8, 5))


def test_flush_leaves_temporary_files_of_running_writers_alone(tmp_path):
    store = make_store(tmp_path / "toy", (6, 3))
    pending = tmp_path / "toy" / "data" / "pending"
    other = pending / f".episode_000003.hdf5.{os.getppid()}-1.tmp"
    with atomic_write(pending / "episode_000002.hdf5") as half:
        for file in (half, other):
            file.write_bytes(b"half")
        store.flush()
        assert half.exists() and other.exists()


# Interrupted writes


def test_an_error_in_the_with_block_keeps_what_was_appended(tmp_path):
    with pytest.raises(KeyboardInterrupt), EpisodeStorage.create(tmp_path / "toy", INFO) as store:
        store.append(make_episode(6, seed=0))
        raise KeyboardInterrupt
    assert_holds(EpisodeStorage.open(tmp_path / "toy"), (6,))


def test_a_killed_writer_loses_only_the_episode_in_flight(tmp_path):
    program = (
        "store = EpisodeStorage.create(root, INFO)\n"
        "real = episode_files.write_episodes\n"
        "def write(path, episodes, first_id, info):\n"
        "    real(path, episodes, first_id, info)\n"
        "    if first_id == 3:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "episode_files.write_episodes = write\n"
        "for seed in range(9):\n"
        "    store.append(make_episode(seed + 1, seed))\n"
    )
    assert start_python(program, tmp_path / "toy").wait(60) == -signal.SIGKILL
    store = EpisodeStorage.open(tmp_path / "toy")
    assert_holds(store, (1, 2, 3))
    assert any(name.endswith(".tmp") for name in files_of(tmp_path / "toy"))
    assert store.append(make_episode(4, seed=3)) == 3
    store.flush()
    assert_holds(EpisodeStorage.open(tmp_path / "toy"), (1, 2, 3, 4))
    assert files_of(tmp_path / "toy") == [".lock", "main_data.hdf5", "metadata.json"]


def test_a_writer_killed_at_any_moment_leaves_whole_episodes_only(tmp_path):
    program = (
        "store = EpisodeStorage.create(root, INFO)\n"
        "for seed in range(100000):\n"
        "    store.append(make_episode(40, seed))\n"
        "    if seed % 4 == 3:\n"
        "        store.flush()\n"
    )
    process = start_python(program, tmp_path / "toy")
    metadata = tmp_path / "toy" / "data" / "metadata.json"
    deadline = time.monotonic() + 120
    while not (metadata.exists() and json.loads(metadata.read_text())["total_episodes"] >= 12):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.wait()
    store = EpisodeStorage.open(tmp_path / "toy")
    assert len(store) >= 12
    assert_holds(store, [40] * len(store))
    store.flush()
    assert_holds(store, [40] * len(store))


@pytest.mark.parametrize("step", ["append_episodes", "os.replace", "write_json", "_remove_leftovers"])
def test_an_interrupted_flush_loses_and_doubles_nothing(tmp_path, monkeypatch, step):
    store = make_store(tmp_path / "toy", (6, 3))
    store.append(make_episode(8, seed=2))

    def interrupt(*_):
        raise KeyboardInterrupt

    owner = {"os.replace": os, "_remove_leftovers": EpisodeStorage}.get(step, episode_files)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, step.removeprefix("os."), interrupt)
        store.flush()
    again = EpisodeStorage.open(tmp_path / "toy")
    assert_holds(again, (6, 3, 8))
    assert again.append(make_episode(5, seed=3)) == 3
    again.flush()
    assert_holds(EpisodeStorage.open(tmp_path / "toy"), (6, 3, 8, 5))
    assert files_of(tmp_path / "toy") == [".lock", "main_data.hdf5", "metadata.json"]
    assert json.loads((tmp_path / "toy" / "data" / "metadata.json").read_text())["total_steps"] == 22


def test_the_half_written_file_of_a_killed_packer_is_removed_by_the_next(tmp_path):
    make_store(tmp_path / "toy", (6, 3)).append(make_episode(8, seed=2))
    program = (
        "episode_files.append_episodes = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "EpisodeStorage.open(root).flush()\n"
    )
    assert start_python(program, tmp_path / "toy").wait(60) == -signal.SIGKILL
    assert any(name.startswith(".main_data") for name in files_of(tmp_path / "toy"))
    store = EpisodeStorage.open(tmp_path / "toy")
    assert_holds(store, (6, 3, 8))
    store.flush()
    assert files_of(tmp_path / "toy") == [".lock", "main_data.hdf5", "metadata.json"]


def test_a_full_disk_leaves_the_last_complete_state(tmp_path):
    # A limit on the size of files stands in for the full disk.
    program = (
        "import resource\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "store = make_store(root, [40] * 3)\n"
        "store.append(make_episode(40, 3))\n"
        "size = os.path.getsize(root / 'data' / 'main_data.hdf5')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5000, size + 5000))\n"
        "for write in (store.flush, lambda: store.append(make_episode(4000, 4))):\n"
        "    try:\n"
        "        write()\n"
        "    except OSError:\n"
        "        pass\n"
        "    else:\n"
        "        sys.exit('no error')\n"
        "assert_holds(store, [40] * 4)\n"
    )
    assert start_python(program, tmp_path / "toy").wait(60) == 0
    with EpisodeStorage.open(tmp_path / "toy") as store:
        assert_holds(store, [40] * 4)
    assert files_of(tmp_path / "toy") == [".lock", "main_data.hdf5", "metadata.json"]


# Several handles


def test_a_stale_handle_uses_no_id_twice(tmp_path):
    info = INFO
    first = EpisodeStorage.create(tmp_path / "toy", info)
    second = EpisodeStorage.open(tmp_path / "toy")
    with first:
        first.append(make_episode(4, 0, info))  # and packed
    with second:
        assert second.append(make_episode(5, 1, info)) == 1
    assert_holds(EpisodeStorage.open(tmp_path / "toy"), (4, 5))


@pytest.mark.parametrize("behind", ["read", "pickled"])
def test_a_handle_that_shows_fewer_episodes_uses_no_id_twice(tmp_path, behind):
    first = make_store(tmp_path / "toy", (4,))
    if behind == "read":
        first = EpisodeStorage.create(tmp_path / "new", INFO)
        first.append(make_episode(4, 0, INFO))
    other = EpisodeStorage.open(first.root)
    pickled = pickle.dumps(first)
    with other:
        other.append(make_episode(5, 1, INFO))
    if behind == "read":
        first.episode(0)  # which another handle has packed
    else:
        first = pickle.loads(pickled)
    assert len(first) == 1
    with first:
        assert first.append(make_episode(6, 2, INFO)) == 2
    assert_holds(EpisodeStorage.open(first.root), (4, 5, 6))


def test_an_append_scans_only_its_own_file(tmp_path, monkeypatch):
    looked, real = [], episode_files.scan_pending
    monkeypatch.setattr(episode_files, "scan_pending", lambda path, info: looked.append(path.name) or real(path, info))
    store = EpisodeStorage.create(tmp_path / "toy", INFO)
    for seed in range(5):
        store.append(make_episode(3, seed))
    assert looked == [f"episode_{i:06d}.hdf5" for i in range(5)]
    other = pickle.loads(pickle.dumps(store))
    looked.clear()
    other.append(make_episode(3, 5))
    other.append(make_episode(3, 6))
    assert len(looked) == 5 + 2  # a handle that may show fewer episodes scans everything once


def test_a_pending_file_that_differs_from_the_packed_episode_is_never_deleted(tmp_path):
    store = make_store(tmp_path / "toy", (4, 5))
    other = make_store(tmp_path / "other", (6,))
    late = tmp_path / "toy" / "data" / "pending" / "episode_000001.hdf5"
    late.parent.mkdir(exist_ok=True)
    episode_files.write_episodes(late, [other.episode(0)], 1, INFO)  # past all checks, as in a race
    with pytest.raises(ValueError, match="differs from the packed episodes with the same ids"):
        store.flush()
    assert late.exists()
    late.unlink()
    episode_files.write_episodes(late, [store.episode(1)], 1, INFO)  # as a kill between packing and deleting leaves it
    store.flush()
    assert not late.exists()
    assert_holds(EpisodeStorage.open(tmp_path / "toy"), (4, 5))


def test_a_store_is_opened_while_another_process_packs(tmp_path, monkeypatch):
    with EpisodeStorage.create(tmp_path / "toy", INFO) as writer:
        writer.append(make_episode(4, 0, INFO))
    real, packed = episode_files.scan, []

    def packing_meanwhile(path, info):
        """Replace the main file after it was read."""
        found = real(path, info)
        if not packed:
            packed.append(True)
            writer.append(make_episode(5, 1, INFO))
            writer.flush()
        return found

    monkeypatch.setattr(episode_files, "scan", packing_meanwhile)
    EpisodeStorage.open(tmp_path / "toy")
    assert_holds(EpisodeStorage.open(tmp_path / "toy"), (4, 5))


def test_a_pending_file_that_disappears_while_being_opened_is_not_called_damaged(tmp_path, monkeypatch):
    store = EpisodeStorage.create(tmp_path / "toy", INFO)
    store.append(make_episode(4, 0, INFO))
    real = layout.h5py.File

    def gone(path, mode):
        if Path(path).parent.name == "pending":
            Path(path).unlink()
            raise OSError("can't read")  # HDF5's message
        return real(path, mode)

    monkeypatch.setattr(layout.h5py, "File", gone)
    assert len(EpisodeStorage.open(tmp_path / "toy")) == 0


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    make_store(tmp_path / "toy")

    def forbidden(path, mode):
        raise PermissionError(13, "no rights")

    monkeypatch.setattr(layout.h5py, "File", forbidden)
    with pytest.raises(PermissionError, match=r"main_data\.hdf5"):
        EpisodeStorage.open(tmp_path / "toy")

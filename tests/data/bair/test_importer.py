"""Importing BAIR's archive: published splits, interruptions, broken records, and refusals."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.bair_records import (
    REAL_CLIP,
    make_trajectory,
    tfds_example,
    tfds_features,
    write_archive,
    write_file,
    write_tfds,
)
from worldmodel.data import EpisodeStorage
from worldmodel.data.bair import importer as module
from worldmodel.data.bair.importer import import_bair
from worldmodel.data.bair.records import to_features
from worldmodel.data.bair.tfrecord import make_example, write_records
from worldmodel.training.cli.main import main

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of two trajectories, so that a small archive has several."""
    monkeypatch.setattr(module, "BLOCK", 2)


def seeds_of(store, camera="aux1", count=12):
    """Seeds of `make_trajectory` that the episodes show."""
    known = {make_trajectory(seed)[0][camera][0].tobytes(): seed for seed in range(count)}
    return [known[store.frames(i)[0, 0].tobytes()] for i in range(len(store))]


def spoil(path, at=300_000):
    """Change one byte of the first record."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_the_published_test_trajectories_are_the_test_split(tmp_path, small_blocks):
    stats = import_bair(write_archive(tmp_path / "raw"), tmp_path / "store")
    store = EpisodeStorage.open(tmp_path / "store")
    assert seeds_of(store) == list(range(12))
    assert store.split("test").tolist() == [0, 1, 2] and store.info.test_episodes == 3
    assert len(store.split("train")) + len(store.split("validation")) == 9
    assert (stats.episodes, stats.new_trajectories, stats.broken) == (12, 12, [])
    assert stats.splits["test"] == 3
    assert not list((store.root / "data" / "pending").iterdir())  # everything is packed, so Minari can read it


def test_an_episode_holds_what_was_recorded(tmp_path):
    import_bair(write_archive(tmp_path / "raw"), tmp_path / "store", camera="main")
    episode = EpisodeStorage.open(tmp_path / "store").episode(4)
    cameras, actions, positions = make_trajectory(4)
    frames = episode.frames[1:].reshape(-1, 64, 64, 3)
    np.testing.assert_array_equal(frames[:29], cameras["main"][1:])
    np.testing.assert_array_equal(episode.actions.reshape(-1, 4)[:29], actions[:29])
    np.testing.assert_array_equal(episode.signals[1], positions[2])


def test_both_cameras_give_two_episodes_in_one_split(tmp_path, small_blocks):
    import_bair(write_archive(tmp_path / "raw"), tmp_path / "store", camera="both")
    store = EpisodeStorage.open(tmp_path / "store")
    assert len(store) == 24 and store.split("test").tolist() == list(range(6))
    for place in range(24):
        shown = make_trajectory(place // 2)[0][("aux1", "main")[place % 2]]
        np.testing.assert_array_equal(store.frames(place)[0, 0], shown[0])
    for name in ("train", "validation"):
        part = store.split(name)
        assert (part[::2] + 1 == part[1::2]).all()


def test_the_limit_is_of_training_trajectories_and_can_be_raised(tmp_path, small_blocks):
    raw, out = write_archive(tmp_path / "raw"), tmp_path / "store"
    assert import_bair(raw, out, limit=3).episodes == 6
    assert import_bair(raw, out, limit=3).new_trajectories == 0
    assert import_bair(raw, out, limit=6).new_trajectories == 3
    assert import_bair(raw, out).episodes == 12
    store = EpisodeStorage.open(out)
    assert seeds_of(store) == list(range(12)) and len(store.split("test")) == 3


def test_the_real_clip_goes_into_a_store(tmp_path):
    clip = np.load(REAL_CLIP)
    path = tmp_path / "raw" / "test" / "traj_0_to_0.tfrecords"
    path.parent.mkdir(parents=True)
    features = to_features({"aux1": clip["aux1"], "main": clip["main"]}, clip["actions"], np.zeros((30, 3)))
    write_records(path, [make_example(features)])
    import_bair(tmp_path / "raw", tmp_path / "store")
    store = EpisodeStorage.open(tmp_path / "store")
    assert store.lengths == [15] and store.split("test").tolist() == [0]
    np.testing.assert_array_equal(store.frames(0).reshape(-1, 64, 64, 3)[1:31], clip["aux1"])
    np.testing.assert_array_equal(store.actions(0).reshape(-1, 4)[:29], clip["actions"][:29].astype(np.float32))


# Other published forms of the files


@pytest.mark.parametrize("name", ["test/traj_0_to_255.tfrecords", "bair_test_traj_0_to_255.tfrecords"])
def test_the_published_test_file_alone_is_the_test_split_and_the_rest_may_follow(tmp_path, name):
    raw = write_archive(tmp_path / "raw", test=256 // 64)
    published = raw / "softmotion30_44k" / "test"
    [given] = published.iterdir()
    alone = tmp_path / "alone" / name
    alone.parent.mkdir(parents=True)
    shutil.copy(given, alone)
    given.rename(published / "traj_0_to_255.tfrecords")
    with pytest.raises(ValueError, match="record 4: the file ends here, after 4 of 256 trajectories"):
        import_bair(alone, tmp_path / "store")
    stats = import_bair(alone, tmp_path / "store", skip_bad=True)
    assert stats.splits == {"train": 0, "validation": 0, "test": 4}
    assert "all episodes are in the test split, which only measures" in str(stats)
    assert "import the folder of both into the same store" in str(stats)
    stats = import_bair(raw, tmp_path / "store", skip_bad=True)
    assert stats.new_trajectories == 9 and stats.splits["test"] == 4 and "all episodes" not in str(stats)
    assert seeds_of(EpisodeStorage.open(tmp_path / "store"), count=13) == list(range(13))


@pytest.mark.parametrize("camera", ["main", "both"])
def test_files_of_tfds_give_the_same_store_as_the_archive(tmp_path, camera):
    folder = write_tfds(tmp_path / "tfds")
    import_bair(write_archive(tmp_path / "raw", test=2, train=(2, 1)), tmp_path / "wanted", camera=camera)
    stats = import_bair(folder.parent.parent, tmp_path / "found", camera=camera)
    wanted, found = EpisodeStorage.open(tmp_path / "wanted"), EpisodeStorage.open(tmp_path / "found")
    assert len(found) == len(wanted) == (10 if camera == "both" else 5) and stats.splits["test"] == len(found) * 2 // 5
    assert found.info == wanted.info and found.split("test").tolist() == wanted.split("test").tolist()
    for i in range(len(found)):
        np.testing.assert_array_equal(found.frames(i), wanted.frames(i))
        np.testing.assert_array_equal(found.actions(i), wanted.actions(i))
        np.testing.assert_array_equal(found.signals(i), wanted.signals(i))


def test_an_import_of_tfds_takes_a_limit_and_resumes(tmp_path, small_blocks):
    folder, out = write_tfds(tmp_path), tmp_path / "store"
    assert import_bair(folder, out, limit=1).episodes == 3
    (folder / "dataset_info.json").unlink()  # it may be missing
    assert import_bair(folder, out, limit=2).new_trajectories == 1
    assert import_bair(folder, out).new_trajectories == 1
    assert seeds_of(EpisodeStorage.open(out)) == [0, 1, 2, 3, 4]
    alone = import_bair(next(folder.glob("*-test*")), tmp_path / "alone")
    assert alone.splits == {"train": 0, "validation": 0, "test": 2}


def test_the_real_clip_comes_out_of_a_record_of_tfds(tmp_path):
    clip = np.load(REAL_CLIP)
    path = tmp_path / "bair_robot_pushing_small-test.tfrecord-00000-of-00001"
    features = tfds_features({"main": clip["main"], "aux1": clip["aux1"]}, clip["actions"], np.zeros((30, 3)))
    write_records(path, [tfds_example(features)])
    import_bair(path, tmp_path / "store", camera="both")
    store = EpisodeStorage.open(tmp_path / "store")
    for episode, camera in enumerate(("aux1", "main")):
        np.testing.assert_array_equal(store.frames(episode).reshape(-1, 64, 64, 3)[1:31], clip[camera])
    np.testing.assert_array_equal(store.actions(0).reshape(-1, 4)[:29], clip["actions"][:29].astype(np.float32))


def test_content_decides_how_a_file_is_read(tmp_path):
    [renamed] = write_tfds(tmp_path / "tfds", test=(0,), train=()).glob("*-test*")
    path = tmp_path / "test" / "traj_0_to_0.tfrecords"
    path.parent.mkdir()
    renamed.rename(path)
    import_bair(path, tmp_path / "store")
    assert seeds_of(EpisodeStorage.open(tmp_path / "store")) == [0]


# Interruptions


@pytest.mark.parametrize("step", ["write_block", "note", "flush"])
def test_an_interrupted_import_resumes_without_duplicates(tmp_path, small_blocks, monkeypatch, step):
    raw, out = write_archive(tmp_path / "raw"), tmp_path / "store"
    owner = module if step == "note" else EpisodeStorage
    real, calls = getattr(owner, step), []

    def interrupted(*arguments):
        calls.append(step)
        if step == "flush" or len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, step, interrupted)
        import_bair(raw, out)
    assert (out / "data" / "metadata.json").exists()
    import_bair(raw, out)
    assert seeds_of(EpisodeStorage.open(out)) == list(range(12))


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_killed_import_resumes(tmp_path):
    raw, out = write_archive(tmp_path / "raw"), tmp_path / "store"
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from worldmodel.data.bair import importer as module
module.BLOCK = 1
count = []
def killing(*arguments, real=module.note):
    count.append(1)
    if len(count) == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*arguments)
module.note = killing
module.import_bair(sys.argv[1], sys.argv[2])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(raw), str(out)], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert len(EpisodeStorage.open(out)) == 7  # the journal has no line for the last one
    import_bair(raw, out)
    assert seeds_of(EpisodeStorage.open(out)) == list(range(12))


def test_a_line_of_the_journal_cut_short_is_read_again(tmp_path, small_blocks):
    raw, out = write_archive(tmp_path / "raw"), tmp_path / "store"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(EpisodeStorage, "flush", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        import_bair(raw, out)
    journal = out / "imported.jsonl"
    journal.write_text(journal.read_text()[:-20])
    assert import_bair(raw, out).new_trajectories == 1
    assert seeds_of(EpisodeStorage.open(out)) == list(range(12))


# Broken records


def test_a_broken_record_is_named_and_earlier_records_stay(tmp_path, small_blocks):
    raw, out = write_archive(tmp_path / "raw"), tmp_path / "store"
    spoil(raw / "softmotion30_44k" / "train" / "traj_4_to_8.tfrecords")
    with pytest.raises(ValueError, match=r"traj_4_to_8\.tfrecords, record 0: wrong CRC.*--skip-bad"):
        import_bair(raw, out)
    stats = import_bair(raw, out, skip_bad=True)
    assert seeds_of(EpisodeStorage.open(out)) == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11]
    assert len(stats.broken) == 1 and "1 broken record skipped" in str(stats) and "record 0: wrong CRC" in str(stats)
    assert import_bair(raw, out).broken == stats.broken  # known from the journal


def test_broken_test_records_leave_the_others_in_the_test_split(tmp_path):
    raw = write_archive(tmp_path / "raw")
    spoil(raw / "softmotion30_44k" / "test" / "traj_0_to_2.tfrecords")
    with pytest.raises(ValueError, match="record 0: wrong CRC"):
        import_bair(raw, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    import_bair(raw, tmp_path / "store", skip_bad=True)
    store = EpisodeStorage.open(tmp_path / "store")
    assert store.split("test").tolist() == [0, 1] and seeds_of(store)[:3] == [1, 2, 3]


def test_a_file_cut_short_gives_the_records_before_the_cut(tmp_path):
    raw = write_archive(tmp_path / "raw")
    path = raw / "softmotion30_44k" / "train" / "traj_0_to_3.tfrecords"
    path.write_bytes(path.read_bytes()[: int(2.5 * path.stat().st_size / 4)])
    with pytest.raises(ValueError, match=r"traj_0_to_3\.tfrecords, record 2: the file ends within the record"):
        import_bair(raw, tmp_path / "store")
    import_bair(raw, tmp_path / "store", skip_bad=True)
    assert seeds_of(EpisodeStorage.open(tmp_path / "store")) == [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("5/action", None, "record 1: the key '5/action' is missing"),
        ("5/action", np.full(4, np.nan, np.float32), r"record 1: '5/action' must be finite numbers, got \[nan"),
        ("7/endeffector_pos", np.full(3, np.inf, np.float32), "record 1: '7/endeffector_pos' must be finite"),
        ("9/image_main/encoded", b"\xff", "record 1: '9/image_main/encoded' must have 12288 bytes, got 1"),
    ],
)
def test_a_record_of_wrong_content_is_named_by_its_key(tmp_path, key, value, message):
    def change(features, seed):
        rest = {k: v for k, v in features.items() if k != key}
        return features if seed != 1 else rest if value is None else features | {key: value}

    raw = write_archive(tmp_path / "raw", change=change)
    with pytest.raises(ValueError, match=message):
        import_bair(raw, tmp_path / "store", camera="both")
    assert import_bair(raw, tmp_path / "store", camera="both", skip_bad=True).episodes == 22


def test_an_action_outside_the_bounds_is_never_skipped_or_clipped(tmp_path):
    wild = np.array([0.7, 0, 0, 1], np.float32)
    raw = write_archive(tmp_path / "raw", change=lambda f, seed: f | {"3/action": wild} if seed == 5 else f)
    for skip_bad in (False, True):
        with pytest.raises(
            ValueError, match=r"traj_0_to_3\.tfrecords, record 2: '3/action' is \[0\.7 .*--action-limit"
        ):
            import_bair(raw, tmp_path / f"store{skip_bad}", skip_bad=skip_bad)
    import_bair(raw, tmp_path / "wide", action_limit=(1.0, 0.5, 4.0, 4.0))
    store = EpisodeStorage.open(tmp_path / "wide")
    np.testing.assert_array_equal(store.actions(5)[1, 4:], wild)
    assert store.info.action.high == (1.0, 0.5, 4.0, 4.0) * 2


# What is refused


def test_other_settings_are_refused(tmp_path):
    raw, out = write_archive(tmp_path / "raw"), tmp_path / "store"
    import_bair(raw, out, limit=1)
    for changes in ({"camera": "main"}, {"frames_per_step": 1}, {"action_limit": (1.0, 1.0, 4.0, 4.0)}):
        with pytest.raises(ValueError, match=f"was made with {next(iter(changes))}="):
            import_bair(raw, out, **changes)


def test_files_that_changed_or_came_in_between_are_refused(tmp_path):
    raw, out = write_archive(tmp_path / "raw"), tmp_path / "store"
    import_bair(raw, out)
    train = raw / "softmotion30_44k" / "train"
    os.rename(train / "traj_0_to_3.tfrecords", train / "traj_9_to_12.tfrecords")
    with pytest.raises(ValueError, match="import began with the files"):
        import_bair(raw, out)


def test_a_store_without_its_episodes_is_refused(tmp_path):
    raw, out = write_archive(tmp_path / "raw", train=(2,)), tmp_path / "store"
    import_bair(raw, out)
    shutil.rmtree(out / "data")
    with pytest.raises(ValueError, match=r"holds 0 episodes where imported\.jsonl in it says 5"):
        import_bair(raw, out)


def test_without_test_files_the_hash_decides(tmp_path):
    write_file(tmp_path / "raw" / "train" / "traj_0_to_3.tfrecords", range(4))
    import_bair(tmp_path / "raw", tmp_path / "store")
    store = EpisodeStorage.open(tmp_path / "store")
    assert store.info.test_episodes == 0 and store.split("test").tolist() == [2]


def test_the_command_imports_and_reports_mistakes_in_one_line(tmp_path, capsys):
    raw = write_archive(tmp_path / "raw", train=(2,))
    assert main(["import-bair", str(raw), "--out", str(tmp_path / "store"), "--camera", "both"]) == 0
    assert "10 episodes: " in capsys.readouterr().out
    assert main(["import-bair", str(tmp_path / "none"), "--out", str(tmp_path / "other")]) == 2
    assert "no traj_A_to_B.tfrecords" in capsys.readouterr().err
    assert main(["import-bair", str(raw), "--out", str(tmp_path / "other"), "--limit", "0"]) == 2
    assert "limit and frames_per_step at least 1" in capsys.readouterr().err


def test_reading_keeps_the_promised_rate(tmp_path):
    # 1,500 trajectories per second on an idle core; below a tenth of that a slow path is used, whatever else runs.
    path = write_file(tmp_path / "traj_0_to_63.tfrecords", range(64))
    reader = module._Reader(("aux1",), 2, (0.5, 0.5, 4.0, 4.0), False)
    list(reader.read(path))
    start = time.process_time()
    assert len(list(reader.read(path))) == 64
    assert 64 / (time.process_time() - start) > 150


WRONG_KINDS = '{"file": 3, "num_bytes": 1, "next_record": 1, "trajectories": 1}'


@pytest.mark.parametrize("line", ["{", "[]", "{}", "[" * 100_000, WRONG_KINDS])
def test_a_damaged_journal_is_refused_with_its_line(tmp_path, line):
    raw = write_archive(tmp_path / "raw")
    import_bair(raw, tmp_path / "store", limit=1)
    journal = tmp_path / "store" / "imported.jsonl"
    journal.write_text(journal.read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"imported\.jsonl, line 3: not a line of an import's journal .*import again"):
        import_bair(raw, tmp_path / "store", limit=1)

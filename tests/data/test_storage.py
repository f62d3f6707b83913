"""Tests for worldmodel/data: storage.py, episode_files.py, splits.py and layout.py."""

import fcntl
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.makers import INFO, PUSHES, TURNS, assert_equal, assert_holds, make_episode, make_store
from worldmodel.data import Episode, EpisodeStorage, Segment, SegmentId, StoreInfo, episode_files
from worldmodel.data.splits import split_of


def files_of(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root / "data")) for path in root.rglob("*") if path.is_file())


def start_python(program: str, root: Path) -> subprocess.Popen:
    """Run a program that has the makers at hand, and `root`."""
    header = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom tests.data.makers import *\n"
        "from worldmodel.data import episode_files\nroot = Path(sys.argv[1])\n"
    )
    here = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen([sys.executable, "-c", header + program, str(root)], env=os.environ | {"PYTHONPATH": here})


# Round trips


def test_episodes_are_read_back_bit_exact_before_and_after_packing(tmp_path):
    lengths = (6, 1, 8)
    store = EpisodeStorage.create(tmp_path / "toy", INFO)
    assert [store.append(make_episode(length, seed)) for seed, length in enumerate(lengths)] == [0, 1, 2]
    assert_holds(store, lengths)
    assert_holds(EpisodeStorage.open(tmp_path / "toy"), lengths)
    store.flush()
    assert_holds(store, lengths)
    assert_holds(EpisodeStorage.open(tmp_path / "toy"), lengths)
    assert files_of(tmp_path / "toy") == [".lock", "main_data.hdf5", "metadata.json"]


def test_a_store_says_what_it_holds(tmp_path):
    store = make_store(tmp_path / "toy", (6, 3))
    store.append(make_episode(4, seed=2))
    for shown in (store, EpisodeStorage.open(tmp_path / "toy")):
        assert (len(shown), shown.num_steps, shown.lengths) == (3, 13, [6, 3, 4])
        assert shown.info == INFO and shown.ids.tolist() == [0, 1, 2]
        assert [shown.ended(place) for place in range(3)] == [(True, False), (False, True), (False, False)]
    wanted = make_episode(3, seed=1)
    for name in ("frames", "actions", "rewards", "signals"):
        np.testing.assert_array_equal(getattr(store, name)(1), getattr(wanted, name))


def test_frames_are_a_read_only_window_on_the_file(tmp_path):
    frames = make_store(tmp_path / "toy").frames(1)
    assert not frames.flags.owndata and not frames.flags.writeable


def test_packing_twice_keeps_the_earlier_episodes(tmp_path):
    make_store(tmp_path / "toy", (6, 3))
    with EpisodeStorage.open(tmp_path / "toy") as store:
        store.append(make_episode(8, seed=2))
    store.flush()
    assert_holds(EpisodeStorage.open(tmp_path / "toy"), (6, 3, 8))


def test_an_object_shows_what_it_wrote_at_every_stage(tmp_path):
    store = EpisodeStorage.create(tmp_path / "toy", INFO)
    for seed, length in enumerate((6, 3, 8)):
        store.append(make_episode(length, seed))
        assert_holds(store, (6, 3, 8)[: seed + 1])
        store.flush()
        assert_holds(store, (6, 3, 8)[: seed + 1])


def test_an_empty_store_can_be_opened_and_flushed(tmp_path):
    store = EpisodeStorage.create(tmp_path / "toy", INFO)
    store.flush()
    assert len(EpisodeStorage.open(tmp_path / "toy")) == 0
    assert store.num_steps == 0 and store.starts(2, "all").shape == (0, 2)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    shape=st.tuples(*[st.integers(1, 3)] * 4),
    action=st.sampled_from([TURNS, PUSHES]),
    num_signals=st.integers(0, 2),
    packed=st.integers(0, 4),
)
def test_any_episodes_survive_the_store(lengths, shape, action, num_signals, packed):
    names = ("HEALTH", "ÄMMO 2")[:num_signals]
    info = StoreInfo(
        env_id="Toy",
        frames_per_step=shape[0],
        height=shape[1],
        width=shape[2],
        channels=shape[3],
        action=action,
        signal_names=names,
        reward="health",
    )
    with tempfile.TemporaryDirectory() as folder:
        store = EpisodeStorage.create(folder, info)
        for seed, length in enumerate(lengths):
            if seed == packed:
                store.flush()
            store.append(make_episode(length, seed, info))
        assert_holds(store, lengths)
        again = EpisodeStorage.open(folder)
        assert again.info == info
        assert_holds(again, lengths)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:minari", "ignore::UserWarning:gymnasium.spaces.box")
@pytest.mark.parametrize("action", [TURNS, PUSHES])
def test_minari_reads_the_store_back_bit_exact(tmp_path, monkeypatch, action):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    info = replace(INFO, action=action)
    lengths = (6, 3, 8)
    with EpisodeStorage.create(tmp_path / "toy" / "random-v0", info, "toy/random-v0") as store:
        for seed, length in enumerate(lengths):
            store.append(make_episode(length, seed, info))

    dataset = minari.load_dataset("toy/random-v0")
    assert list(minari.list_local_datasets()) == ["toy/random-v0"]
    assert (dataset.total_episodes, dataset.total_steps) == (3, 17)
    assert dataset.filter_episodes(lambda episode: len(episode) > 3).total_steps == 14
    assert dataset.spec.action_space == action.to_gym()
    assert dataset.spec.observation_space.shape == info.frame_shape
    for seed, (length, theirs) in enumerate(zip(lengths, dataset.iterate_episodes(), strict=True)):
        wanted = make_episode(length, seed, info)
        np.testing.assert_array_equal(theirs.observations, wanted.frames)
        np.testing.assert_array_equal(theirs.actions, wanted.actions)
        np.testing.assert_array_equal(theirs.rewards, wanted.rewards)
        np.testing.assert_array_equal(theirs.terminations, [False] * (length - 1) + [wanted.terminated])
        np.testing.assert_array_equal(theirs.truncations, [False] * (length - 1) + [wanted.truncated])
        for column, name in enumerate(info.signal_names):
            np.testing.assert_array_equal(theirs.infos[name], wanted.signals[:, column])
        assert dataset.observation_space.contains(theirs.observations[0])
        assert dataset.action_space.contains(theirs.actions[0])
    assert [data["seed"] for data in dataset.storage.get_episode_metadata(range(3))] == [0, 1, 2]


def test_a_store_without_a_dataset_id_is_named_after_its_folder(tmp_path):
    for folder, name in {"random-v3": "random-v3", "my data": "my-data-v0"}.items():
        EpisodeStorage.create(tmp_path / folder, INFO)
        assert json.loads((tmp_path / folder / "data" / "metadata.json").read_text())["dataset_id"] == name


def test_a_pickled_store_shows_the_same_episodes_whatever_happened_since(tmp_path):
    store = make_store(tmp_path / "toy", (6, 3))
    frozen = pickle.dumps(store)
    assert len(frozen) < 2000  # the files are opened again, not sent
    store.append(make_episode(8, seed=2))
    assert_holds(pickle.loads(frozen), (6, 3))
    assert_holds(pickle.loads(pickle.dumps(store)), (6, 3, 8))


# Splits and sampling


def test_splits_share_out_all_episodes_8_to_1_to_1(tmp_path):
    places = np.arange(1000)
    splits = split_of(places)
    assert np.bincount(splits).tolist() == [800, 100, 100]
    store = make_store(tmp_path / "toy", [1] * 20)
    parts = [store.split(name).tolist() for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [16, 2, 2]
    assert sorted(parts[0] + parts[1] + parts[2]) == store.split("all").tolist() == list(range(20))


def test_an_episode_keeps_its_split_for_ever(tmp_path):
    # Written down once: a change would let validation episodes of old runs slip into training.
    splits = split_of(np.arange(40))
    assert np.flatnonzero(splits == 1).tolist() == [1, 16, 22, 33]
    assert np.flatnonzero(splits == 2).tolist() == [2, 13, 21, 30]
    store = make_store(tmp_path / "toy", [1] * 12)
    before = {name: store.split(name).tolist() for name in ("train", "validation", "test")}
    store.append(make_episode(1, seed=12))
    store.write_pending(make_episode(1, seed=90), 90)
    for name, episodes in before.items():
        assert store.split(name)[: len(episodes)].tolist() == episodes


def test_three_episodes_are_enough_for_all_three_splits(tmp_path):
    store = make_store(tmp_path / "toy", (6, 3, 8))
    assert [len(store.split(name)) for name in ("train", "validation", "test")] == [1, 1, 1]


def test_an_empty_split_is_refused_on_sampling_only(tmp_path):
    store = make_store(tmp_path / "toy", (6, 3))
    assert store.split("test").size == 0 and store.starts(2, "test").shape == (0, 2)
    with pytest.raises(ValueError, match=r"split 'test'.*holds 2 episodes, 0 of them in this split.*Collect more"):
        store.sample_ids(1, 2, np.random.default_rng(0), "test")


def test_segments_longer_than_every_episode_are_refused_on_sampling(tmp_path):
    store = make_store(tmp_path / "toy")
    with pytest.raises(ValueError, match=r"no segment of 9 steps.*4 of them.*longest of these has 8 steps"):
        store.sample_ids(1, 9, np.random.default_rng(0), "all")
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        store.sample_ids(1, 0, np.random.default_rng(0))


def test_an_unknown_split_is_refused_with_the_nearest_name(tmp_path):
    with pytest.raises(ValueError, match=r"'valid'.*Did you mean 'validation'"):
        make_store(tmp_path / "toy").split("valid")


@pytest.mark.parametrize("num_steps", [1, 3, 5, 8])
def test_starts_are_exactly_those_from_which_the_segment_fits(tmp_path, num_steps):
    lengths = (6, 3, 8, 5)
    store = make_store(tmp_path / "toy", lengths)
    wanted = [[e, start] for e, length in enumerate(lengths) for start in range(length) if start + num_steps <= length]
    assert store.starts(num_steps, "all").tolist() == wanted


def test_sampling_reaches_every_start_evenly_and_nothing_else(tmp_path):
    store = make_store(tmp_path / "toy")
    ids = store.sample_ids(14 * 500, 3, np.random.default_rng(0), "all")
    drawn, counts = np.unique(np.array(ids), axis=0, return_counts=True)
    assert drawn[:, :2].tolist() == store.starts(3, "all").tolist()  # the last start of every episode is among them
    assert (drawn[:, 2] - drawn[:, 1] == 3).all()
    assert counts.min() > 400 and counts.max() < 600


def test_sampling_stays_within_the_split_and_repeats_with_the_seed(tmp_path):
    store = make_store(tmp_path / "toy", [4] * 20)
    ids = store.sample_ids(300, 2, np.random.default_rng(1), "validation")
    assert {segment_id.episode for segment_id in ids} == set(store.split("validation").tolist())
    assert ids == store.sample_ids(300, 2, np.random.default_rng(1), "validation")
    assert ids != store.sample_ids(300, 2, np.random.default_rng(2), "validation")


# Segments and batches


def slow_segment(episode: Episode, start: int, stop: int, num_steps: int) -> Segment:
    """One step after the other, as the documentation of Segment says."""
    steps = [t if t < stop else None for t in range(start, start + num_steps)]
    last = [t == episode.num_steps - 1 for t in steps]
    zero = np.zeros_like(episode.actions[0])
    return Segment(
        frames=np.stack([episode.frames[min(t, stop)] for t in range(start, start + num_steps + 1)]),
        actions=np.stack([zero if t is None else episode.actions[t] for t in steps]),
        rewards=np.array([0 if t is None else episode.rewards[t] for t in steps], np.float32),
        terminated=np.array([is_last and episode.terminated for is_last in last]),
        truncated=np.array([is_last and episode.truncated for is_last in last]),
        signals=np.stack([episode.signals[min(t, stop)] for t in range(start, start + num_steps + 1)]),
        padding_mask=np.array([t is not None for t in steps]),
    )


@pytest.mark.parametrize("action", [TURNS, PUSHES])
@pytest.mark.parametrize("packed", [True, False])
def test_every_segment_equals_its_slow_cut(tmp_path, action, packed):
    info = replace(INFO, action=action)
    lengths = (3, 1, 4)
    store = EpisodeStorage.create(tmp_path / "toy", info)
    for seed, length in enumerate(lengths):
        store.append(make_episode(length, seed, info))
    if packed:
        store.flush()
    for place, length in enumerate(lengths):
        episode = make_episode(length, place, info)
        for start in range(length):
            for stop in range(start + 1, length + 1):
                for padding in (0, 2):
                    num_steps = stop - start + padding
                    segment = store.segment(SegmentId(place, start, stop), num_steps)
                    wanted = slow_segment(episode, start, stop, num_steps)
                    for field in fields(Segment):
                        ours, theirs = getattr(segment, field.name), getattr(wanted, field.name)
                        np.testing.assert_array_equal(ours, theirs, err_msg=field.name)
                        assert ours.dtype == theirs.dtype


def test_a_batch_stacks_segments_padded_to_the_longest(tmp_path):
    store = make_store(tmp_path / "toy")
    ids = [SegmentId(0, 4, 6), SegmentId(3, 0, 5), SegmentId(1, 0, 3), SegmentId(0, 4, 6)]
    batch = store.batch(ids)
    segments = [store.segment(segment_id, 5) for segment_id in ids]
    for field in fields(Segment):
        wanted = torch.from_numpy(np.stack([getattr(segment, field.name) for segment in segments]))
        assert torch.equal(getattr(batch, field.name), wanted), field.name
        assert getattr(batch, field.name).dtype == wanted.dtype


def test_a_batch_is_the_callers_to_change(tmp_path):
    store = make_store(tmp_path / "toy")
    before = store.batch([SegmentId(0, 0, 6)])
    for field in fields(Segment):
        getattr(before, field.name).zero_()
    assert_holds(store, (6, 3, 8, 5))


@pytest.mark.parametrize(
    ("segment_id", "error", "message"),
    [
        ((0, 0, 7), ValueError, r"stop <= 6.*got SegmentId\(episode=0, start=0, stop=7\)"),
        ((1, -1, 2), ValueError, r"0 <= start.*start=-1"),
        ((1, 2, 2), ValueError, "start < stop"),
        ((4, 0, 1), IndexError, r"episode must be 0 to 3.*got 4"),
        ((-1, 0, 1), IndexError, r"got -1"),
    ],
)
def test_a_segment_outside_its_episode_is_refused(tmp_path, segment_id, error, message):
    store = make_store(tmp_path / "toy")
    with pytest.raises(error, match=message):
        store.batch([SegmentId(0, 0, 1), SegmentId(*segment_id)])


def test_an_empty_batch_and_too_short_a_padding_are_refused(tmp_path):
    store = make_store(tmp_path / "toy")
    with pytest.raises(ValueError, match="at least one segment id"):
        store.batch([])
    with pytest.raises(ValueError, match="at least the segment's 4 steps, got 3"):
        store.segment(SegmentId(0, 1, 5), 3)


@pytest.mark.parametrize("read", ["frames", "actions", "rewards", "signals", "ended", "episode"])
def test_an_episode_that_is_not_there_is_refused(tmp_path, read):
    store = make_store(tmp_path / "toy")
    for place in (4, -1):
        with pytest.raises(IndexError, match=f"got {place}"):
            getattr(store, read)(place)


# Bad episodes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"frames": np.zeros((7, 2, 5, 4, 3), np.uint8)},
            r"frames must be .* 2, 4, 5, 3\) uint8, got \(7, 2, 5, 4, 3\)",
        ),
        ({"frames": np.zeros((7, 1, 4, 5, 3), np.uint8)}, r"frames must be"),
        ({"actions": np.full(6, 3)}, "action 3 at step 0"),
        ({"actions": np.zeros((6, 2), np.float32)}, r"actions must be \(N,\) int64"),
        ({"signals": np.zeros((7, 3), np.float32)}, r"signals must be \(N\+1, 2\), one column for each of \('HEALTH'"),
    ],
)
def test_an_episode_of_another_kind_is_refused_and_nothing_is_written(tmp_path, changes, message):
    store = make_store(tmp_path / "toy", (6, 3))
    before = files_of(tmp_path / "toy")
    with pytest.raises(ValueError, match=message):
        store.append(make_episode(6, **changes))
    assert files_of(tmp_path / "toy") == before and len(store) == 2


def test_an_id_is_given_once(tmp_path):
    store = make_store(tmp_path / "toy", (6, 3))
    store.append(make_episode(8, seed=2))
    for episode_id in (0, 2, -1):
        with pytest.raises(ValueError, match=rf"new and at least 0, got {episode_id}"):
            store.write_pending(make_episode(), episode_id)
    assert_holds(store, (6, 3, 8))


def test_create_refuses_a_folder_that_holds_a_store_or_its_remains(tmp_path):
    make_store(tmp_path / "toy")
    with pytest.raises(FileExistsError, match=r"toy.*EpisodeStorage\.open"):
        EpisodeStorage.create(tmp_path / "toy", INFO)
    (tmp_path / "toy" / "data" / "metadata.json").unlink()
    with pytest.raises(FileExistsError, match=r"main_data\.hdf5"):
        EpisodeStorage.create(tmp_path / "toy", INFO)


@pytest.mark.parametrize("name", ["toy", "toy/random", "/toy-v0", "a b-v0", ""])
def test_a_dataset_id_that_minari_cannot_read_is_refused(tmp_path, name):
    if name:
        with pytest.raises(ValueError, match="dataset_id must look like"):
            EpisodeStorage.create(tmp_path / "store", INFO, name)
    assert not (tmp_path / "store").exists()


# Parallel writers, gaps, kills


def test_a_gap_keeps_later_episodes_pending_until_it_is_filled(tmp_path):
    store = EpisodeStorage.create(tmp_path / "toy", INFO)
    for episode_id in (4, 0, 1, 3):
        store.write_pending(make_episode(episode_id + 1, seed=episode_id), episode_id)
    store.flush()
    for shown in (store, EpisodeStorage.open(tmp_path / "toy")):
        assert shown.ids.tolist() == [0, 1, 3, 4] and shown.lengths == [1, 2, 4, 5]
        assert shown.missing_ids(7) == [2, 5, 6]
        assert_equal(shown.episode(2), make_episode(4, seed=3))
        assert shown.batch([SegmentId(3, 2, 5)]).rewards[0].tolist() == make_episode(5, seed=4).rewards[2:].tolist()
    assert files_of(tmp_path / "toy")[-2:] == ["pending/episode_000003.hdf5", "pending/episode_000004.hdf5"]
    assert store.append(make_episode(6, seed=5)) == 5
    store.write_pending(make_episode(3, seed=2), 2)
    store.flush()
    assert_holds(EpisodeStorage.open(tmp_path / "toy"), (1, 2, 3, 4, 5, 6))
    assert files_of(tmp_path / "toy") == [".lock", "main_data.hdf5", "metadata.json"]


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


def test_discarded_episodes_are_gone_for_good(tmp_path):
    store = make_store(tmp_path / "toy", (6, 3))
    for length, episode_id in ((8, 2), (5, 4), (4, 7)):
        store.write_pending(make_episode(length, seed=episode_id), episode_id)
    store.discard([7, 2])
    for shown in (store, EpisodeStorage.open(tmp_path / "toy")):
        assert shown.ids.tolist() == [0, 1, 4] and shown.lengths == [6, 3, 5]
        np.testing.assert_array_equal(shown.rewards(2), make_episode(5, seed=4).rewards)
    store.write_pending(make_episode(9, seed=2), 2)  # the id is free again
    assert store.lengths == [6, 3, 9, 5]


@pytest.mark.parametrize("wrong", [0, 3])
def test_what_is_packed_or_unknown_cannot_be_discarded(tmp_path, wrong):
    store = make_store(tmp_path / "toy", (6, 3))
    store.append(make_episode(8, seed=2))
    with pytest.raises(
        ValueError, match=rf"only pending episodes can be discarded, got \[{wrong}\]; pending are \[2\]"
    ):
        store.discard([2, wrong])
    assert_holds(EpisodeStorage.open(tmp_path / "toy"), (6, 3, 8))


def test_a_killed_writer_loses_only_the_episode_in_flight(tmp_path):
    program = (
        "store = EpisodeStorage.create(root, INFO)\n"
        "real = episode_files.write_episode\n"
        "def write(path, episode, episode_id, info):\n"
        "    real(path, episode, episode_id, info)\n"
        "    if episode_id == 3:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "episode_files.write_episode = write\n"
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


def test_a_packer_that_was_killed_leaves_its_half_file_to_the_next_one(tmp_path):
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


def test_flush_leaves_the_half_files_of_running_writers_alone(tmp_path):
    store = make_store(tmp_path / "toy", (6, 3))
    half = tmp_path / "toy" / "data" / "pending" / f".episode_000002.hdf5.{os.getpid()}.tmp"
    half.write_bytes(b"half")
    store.flush()
    assert half.exists()


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


def test_one_process_packs_at_a_time(tmp_path, monkeypatch):
    store = make_store(tmp_path / "toy", (6, 3))
    store.append(make_episode(8, seed=2))
    pack = episode_files.append_episodes

    def pack_while_another_tries(*arguments):
        with open(store.root / "data" / ".lock") as handle, pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
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


def test_an_error_in_the_with_block_keeps_what_was_appended(tmp_path):
    with pytest.raises(KeyboardInterrupt), EpisodeStorage.create(tmp_path / "toy", INFO) as store:
        store.append(make_episode(6, seed=0))
        raise KeyboardInterrupt
    assert_holds(EpisodeStorage.open(tmp_path / "toy"), (6,))


# Damaged and foreign files


def change_metadata(root: Path, **changes) -> None:
    path = root / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_without_metadata_is_no_store(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metadata\.json is missing.*videogen-dream collect"):
        EpisodeStorage.open(tmp_path / "nothing")
    make_store(tmp_path / "toy")
    (tmp_path / "toy" / "data" / "metadata.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"toy/data/metadata\.json is missing"):
        EpisodeStorage.open(tmp_path / "toy")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("pending", [True, False])
def test_a_truncated_file_is_refused_with_its_name(tmp_path, share, pending):
    store = make_store(tmp_path / "toy")
    name = "main_data.hdf5"
    if pending:
        store.append(make_episode(6, seed=4))
        name = "pending/episode_000004.hdf5"
    path = tmp_path / "toy" / "data" / name
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(ValueError, match=rf"{name} is truncated.*collect") as error:
        EpisodeStorage.open(tmp_path / "toy")
    assert ("that episode again" in str(error.value)) == pending


def test_a_file_shorter_than_its_offsets_say_is_refused(tmp_path, monkeypatch):
    # HDF5 itself notices a file cut at its end; this is the check behind it.
    store = make_store(tmp_path / "toy")
    real = Path.stat

    class Short:
        st_size = real(tmp_path / "toy" / "data" / "main_data.hdf5").st_size - 5000
        st_mode = 0o100644

    monkeypatch.setattr(Path, "stat", lambda self, **k: Short() if self.name == "main_data.hdf5" else real(self, **k))
    with pytest.raises(ValueError, match=r"main_data\.hdf5 is truncated: episode_\d/\w+ ends beyond its \d+ bytes"):
        EpisodeStorage.open(store.root)


@pytest.mark.parametrize("content", [b"not HDF5 at all", b""])
def test_a_foreign_file_is_refused_with_its_name(tmp_path, content):
    store = make_store(tmp_path / "toy")
    (store.root / "data" / "main_data.hdf5").write_bytes(content)
    with pytest.raises(ValueError, match=r"main_data\.hdf5 is truncated, damaged or no HDF5 file.*backup"):
        EpisodeStorage.open(store.root)


def write_main(root: Path, name: str, **datasets) -> None:
    """A main file of one episode in which some datasets are replaced."""
    with h5py.File(root / "data" / "main_data.hdf5", "w") as file:
        group = file.create_group(name)
        episode = make_episode(6)
        parts = {
            "observations": episode.frames,
            "actions": episode.actions,
            "rewards": episode.rewards,
            "terminations": np.zeros(6, bool),
            "truncations": np.zeros(6, bool),
            "infos/HEALTH": episode.signals[:, 0],
            "infos/AMMO": episode.signals[:, 1],
        }
        for key, value in (parts | datasets).items():
            if isinstance(value, dict):
                group.create_dataset(key, **value)
            elif value is not None:
                group[key] = value


@pytest.mark.parametrize(
    ("name", "datasets", "message"),
    [
        ("episode_0", {}, None),
        ("trajectory_0", {}, r"holds 'trajectory_0', wanted groups named episode_<id>"),
        ("episode_0", {"rewards": None}, r"lacks a dataset .*rewards"),
        ("episode_0", {"infos/AMMO": None}, r"lacks a dataset .*AMMO"),
        (
            "episode_0",
            {"observations": np.zeros((7, 2, 8, 8, 3), np.uint8)},
            r"observations \(7, 2, 8, 8, 3\) uint8, wanted \(7, 2, 4, 5, 3\) uint8",
        ),
        ("episode_0", {"observations": np.zeros((1, 2, 4, 5, 3), np.uint8)}, r"observations \(1, 2, 4, 5, 3\)"),
        ("episode_0", {"observations": np.float32(1)}, r"observations \(\) float32"),
        ("episode_0", {"rewards": np.zeros(7, np.float32)}, r"rewards \(7,\) float32, wanted \(6,\) float32"),
        ("episode_0", {"rewards": np.zeros(6)}, r"rewards \(6,\) float64, wanted \(6,\) float32"),
        ("episode_0", {"terminations": np.zeros(6, np.uint8)}, r"terminations \(6,\) uint8, wanted \(6,\) bool"),
        ("episode_0", {"infos/AMMO": np.zeros(6, np.float32)}, r"infos/AMMO \(6,\) float32, wanted \(7,\)"),
        ("episode_0", {"rewards": {"data": np.zeros(6, np.float32), "chunks": (3,)}}, r"rewards in chunks"),
        ("episode_1", {}, r"holds 1 episodes where metadata.json beside it says 1, numbered from 0"),
    ],
)
def test_a_file_of_another_layout_is_refused_with_what_is_wrong(tmp_path, name, datasets, message):
    store = make_store(tmp_path / "toy", (6,))
    write_main(store.root, name, **datasets)
    if message is None:
        assert len(EpisodeStorage.open(store.root)) == 1
    else:
        with pytest.raises(ValueError, match=r"main_data\.hdf5 .*" + message):
            EpisodeStorage.open(store.root)


def test_a_lost_main_file_is_noticed(tmp_path):
    store = make_store(tmp_path / "toy")
    (store.root / "data" / "main_data.hdf5").unlink()
    with pytest.raises(ValueError, match=r"main_data\.hdf5 holds 0 episodes where metadata\.json beside it says 4"):
        EpisodeStorage.open(store.root)


def test_a_pending_file_must_hold_the_episode_it_is_named_after(tmp_path):
    store = make_store(tmp_path / "toy", (6, 3))
    store.append(make_episode(8, seed=2))
    pending = store.root / "data" / "pending"
    (pending / "episode_000002.hdf5").rename(pending / "episode_000007.hdf5")
    with pytest.raises(ValueError, match=r"episode_000007\.hdf5 must hold the one episode.*got ids \[2\]"):
        EpisodeStorage.open(store.root)


def test_metadata_of_other_programs_versions_and_kinds_is_refused(tmp_path):
    root = make_store(tmp_path / "toy").root
    good = {"format_version": 1, "info": asdict(INFO)}
    for ours, message in [
        (None, r"metadata\.json has no 'videogen_dream' entry: another program"),
        ("theirs", r"metadata\.json has no 'videogen_dream' entry: another program"),
        (good | {"format_version": 99}, r"format version 99, this program reads 1"),
        ({"format_version": 1}, r"describes no store"),
        (good | {"info": asdict(INFO) | {"colour": "red"}}, r"describes no store .*colour"),
        (good | {"info": asdict(INFO) | {"height": 0}}, r"describes no store .*height must be at least 1"),
    ]:
        change_metadata(root, videogen_dream=ours)
        with pytest.raises(ValueError, match=message):
            EpisodeStorage.open(root)
    change_metadata(root, videogen_dream=good)
    assert len(EpisodeStorage.open(root)) == 4


def test_frames_of_another_size_than_the_metadata_says_are_refused(tmp_path):
    root = make_store(tmp_path / "toy").root
    change_metadata(root, videogen_dream={"format_version": 1, "info": asdict(INFO) | {"height": 8}})
    with pytest.raises(ValueError, match=r"main_data\.hdf5 holds episode_0/observations \(7, 2, 4, 5, 3\).*wanted"):
        EpisodeStorage.open(root)

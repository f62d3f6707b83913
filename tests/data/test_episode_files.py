"""Tests for worldmodel/data/episode_files.py: episodes are read back unchanged, and ids are unique."""

import pickle
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.makers import INFO, PUSHES, TURNS, assert_equal, assert_holds, files_of, make_episode, make_store
from worldmodel.data import EpisodeStorage, SegmentId, StoreInfo

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


def test_a_pickled_store_shows_the_same_episodes_whatever_happened_since(tmp_path):
    store = make_store(tmp_path / "toy", (6, 3))
    frozen = pickle.dumps(store)
    assert len(frozen) < 2000  # the files are opened again, not sent
    store.append(make_episode(8, seed=2))
    assert_holds(pickle.loads(frozen), (6, 3))
    assert_holds(pickle.loads(pickle.dumps(store)), (6, 3, 8))


# Ids


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


def test_an_id_is_used_once(tmp_path):
    store = make_store(tmp_path / "toy", (6, 3))
    store.append(make_episode(8, seed=2))
    for episode_id in (0, 2, -1):
        with pytest.raises(ValueError, match=rf"new and at least 0, got {episode_id}"):
            store.write_pending(make_episode(), episode_id)
    assert_holds(store, (6, 3, 8))


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
def test_packed_or_unknown_episodes_cannot_be_discarded(tmp_path, wrong):
    store = make_store(tmp_path / "toy", (6, 3))
    store.append(make_episode(8, seed=2))
    with pytest.raises(
        ValueError, match=rf"only pending episodes can be discarded, got \[{wrong}\]; pending are \[2\]"
    ):
        store.discard([2, wrong])
    assert_holds(EpisodeStorage.open(tmp_path / "toy"), (6, 3, 8))


# What is refused


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


def test_create_refuses_a_folder_that_holds_a_store_or_its_remains(tmp_path):
    make_store(tmp_path / "toy")
    with pytest.raises(FileExistsError, match=r"toy.*EpisodeStorage\.open"):
        EpisodeStorage.create(tmp_path / "toy", INFO)
    (tmp_path / "toy" / "data" / "metadata.json").unlink()
    with pytest.raises(FileExistsError, match=r"main_data\.hdf5"):
        EpisodeStorage.create(tmp_path / "toy", INFO)


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


# Blocks


def test_a_block_equals_single_episodes(tmp_path):
    store = EpisodeStorage.create(tmp_path / "toy", INFO)
    lengths = (6, 3, 8, 5, 4)
    episodes = [make_episode(length, seed) for seed, length in enumerate(lengths)]
    store.write_block(episodes[2:], 2)
    assert files_of(store.root) == ["metadata.json", "pending/episode_000002_to_000004.hdf5"]
    assert EpisodeStorage.open(store.root).missing_ids(5) == [0, 1]
    store.flush()  # a gap: the block stays
    store.write_block(episodes[:2], 0)
    assert_holds(store, lengths)
    assert_holds(EpisodeStorage.open(store.root), lengths)
    store.flush()
    assert_holds(EpisodeStorage.open(store.root), lengths)
    assert files_of(store.root) == [".lock", "main_data.hdf5", "metadata.json"]


def test_a_block_is_stored_whole_or_not_at_all(tmp_path):
    store = make_store(tmp_path / "toy", (6, 3))
    for episodes, first in (([make_episode(1), make_episode(1, actions=np.array([9]))], 2), ([make_episode(1)] * 3, 1)):
        with pytest.raises(ValueError, match=r"action 9 at step 0|must be new and at least 0, got 1"):
            store.write_block(episodes, first)
    assert files_of(store.root) == [".lock", "main_data.hdf5", "metadata.json"] and len(store) == 2


def test_an_empty_block_is_refused_and_leaves_no_file(tmp_path):
    store = make_store(tmp_path / "toy", (6, 3))
    with pytest.raises(ValueError, match="at least one episode, got none"):
        store.write_block([], 2)
    assert files_of(store.root) == [".lock", "main_data.hdf5", "metadata.json"] and len(store) == 2


def test_a_block_is_discarded_as_a_whole(tmp_path):
    store = make_store(tmp_path / "toy", (6, 3))
    store.write_block([make_episode(length, seed) for seed, length in ((2, 8), (3, 5))], 2)
    with pytest.raises(ValueError, match=r"discarded together; \['episode_000002_to_000003\.hdf5'\]"):
        store.discard([3])
    assert_holds(store, (6, 3, 8, 5))
    store.discard([2, 3])
    assert_holds(EpisodeStorage.open(store.root), (6, 3))

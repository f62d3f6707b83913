"""Tests for worldmodel/data/joined.py: several stores joined."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.makers import INFO, assert_equal, files_of, make_episode, make_store
from worldmodel.data import EpisodeStorage, JoinedStorage, SegmentId, open_stores

LENGTHS = ((6, 3, 8, 5), (4, 7, 2))


@pytest.fixture
def stores(tmp_path):
    """Two stores; the second has an episode that is not packed."""
    first, second = (make_store(tmp_path / str(part), lengths) for part, lengths in enumerate(LENGTHS))
    second.append(make_episode(9, seed=50))
    return first, second


def test_the_first_episodes_of_each_store_are_read_one_store_after_the_other(stores):
    joined = JoinedStorage(stores, [3, 4])
    assert joined.lengths == [6, 3, 8, 4, 7, 2, 9] and len(joined) == 7 and joined.num_steps == 39
    assert joined.info == INFO
    wanted = [make_episode(length, seed) for seed, length in enumerate(LENGTHS[0][:3])]
    wanted += [make_episode(length, seed) for seed, length in enumerate(LENGTHS[1])] + [make_episode(9, seed=50)]
    for place, episode in enumerate(wanted):
        assert_equal(joined.episode(place), episode)


def test_a_store_may_be_left_out(stores):
    assert JoinedStorage(stores, [0, 2]).lengths == [4, 7]
    assert JoinedStorage(stores).lengths == [6, 3, 8, 5, 4, 7, 2, 9]


def test_segments_are_cut_as_from_the_stores_themselves(stores):
    joined = JoinedStorage(stores, [2, 4])
    cut = joined.batch([SegmentId(0, 1, 4), SegmentId(5, 6, 9)])
    alone = (stores[0].batch([SegmentId(0, 1, 4)]), stores[1].batch([SegmentId(3, 6, 9)]))
    for name in ("frames", "actions", "rewards", "terminated", "truncated", "signals"):
        assert torch.equal(getattr(cut, name), torch.cat([getattr(batch, name) for batch in alone])), name


def test_an_episode_keeps_the_split_it_has_in_its_own_store(tmp_path):
    stores = [make_store(tmp_path / str(part), (2,) * 20) for part in range(2)]
    joined = JoinedStorage(stores, [7, 20])
    for name in ("train", "validation", "test"):
        own = stores[0].split(name)
        assert joined.split(name).tolist() == [*own[own < 7], *(own + 7)], name


def test_a_store_keeps_its_own_test_split(tmp_path):
    hashed = make_store(tmp_path / "hashed", (2,) * 12)
    published = make_store(tmp_path / "published", (2,) * 12, replace(INFO, test_episodes=5))
    joined = JoinedStorage([hashed, published], [6, 12])
    for again in (joined, pickle.loads(pickle.dumps(joined)), JoinedStorage([joined])):
        for name in ("train", "validation", "test"):
            own = hashed.split(name)
            assert again.split(name).tolist() == [*own[own < 6], *(published.split(name) + 6)], name


def test_views_of_a_recording_count_as_one_play_and_those_of_different_stores_do_not(tmp_path):
    info = replace(INFO, views=2)
    stores = [make_store(tmp_path / str(part), (2,) * 6, info) for part in range(2)]
    single = make_store(tmp_path / "single", (2,) * 2)
    joined = JoinedStorage([*stores, single], [4, 6, 2])
    for again in (joined, pickle.loads(pickle.dumps(joined)), JoinedStorage([joined])):
        plays = again.plays.tolist()
        assert plays[:4] == [0, 0, 1, 1] and plays[4::2] == [*plays[5:10:2], plays[10]]
        assert len(set(plays)) == 2 + 3 + 2


def test_another_choice_of_episodes_has_another_fingerprint(stores):
    names = {JoinedStorage(stores, counts).fingerprint() for counts in ([4, 4], [3, 4], [4, 3], [0, 4])}
    assert len(names) == 4
    assert JoinedStorage(stores, [3, 4]).fingerprint() == JoinedStorage(stores, [3, 4]).fingerprint()


def test_pickling_keeps_what_is_shown(stores):
    again = pickle.loads(pickle.dumps(JoinedStorage(stores, [1, 4])))
    assert again.lengths == [6, 4, 7, 2, 9]
    np.testing.assert_array_equal(again.frames(4), stores[1].frames(3))


def test_it_names_every_folder_it_is_read_from(stores):
    folders = [str(store.root) for store in stores]
    assert JoinedStorage(stores).folders == folders and stores[1].folders == folders[1:]
    assert JoinedStorage([JoinedStorage(stores), stores[0]]).folders == [*folders, folders[0]]


def test_episodes_that_wait_to_be_packed_are_those_of_all_stores(stores):
    joined = JoinedStorage(stores)
    assert joined.pending_ids == stores[1].pending_ids != set()
    stores[0].write_pending(make_episode(), 40)
    assert joined.pending_ids == {40} | stores[1].pending_ids


def test_nothing_can_be_written(stores):
    before = [files_of(store.root) for store in stores]
    joined = JoinedStorage(stores)
    for write in (lambda: joined.append(make_episode()), lambda: joined.discard([3]), joined.flush):
        with pytest.raises(TypeError, match=r"joined stores are read-only; open one of them: .*0, .*1"):
            write()
    assert [files_of(store.root) for store in stores] == before


def test_stores_that_cannot_be_joined_are_refused(stores, tmp_path):
    other = EpisodeStorage.create(tmp_path / "other", replace(INFO, env_id="Other"))
    with pytest.raises(ValueError, match="only stores of one game"):
        JoinedStorage([stores[0], other])
    with pytest.raises(ValueError, match="has 4 episodes, asked for the first 5"):
        JoinedStorage(stores, [5, 1])
    with pytest.raises(ValueError, match="at least one store is needed"):
        JoinedStorage([])


def test_folders_are_opened_as_one_store(stores):
    first, second = (store.root for store in stores)
    assert open_stores([first, second]).lengths == JoinedStorage(stores).lengths
    assert type(open_stores([second])) is EpisodeStorage
    with pytest.raises(FileNotFoundError):
        open_stores([first, first / "none"])


def test_stores_of_different_speeds_are_of_one_game(tmp_path):
    stores = [make_store(tmp_path / str(n), (2, 3), replace(INFO, steps_per_second=n)) for n in (5.0, 0.0)]
    assert JoinedStorage(stores).info.steps_per_second == 5.0


def test_stores_of_two_known_speeds_are_joined_with_a_warning(tmp_path):
    stores = [make_store(tmp_path / str(n), (2, 3), replace(INFO, steps_per_second=n)) for n in (8.75, 4.375)]
    with pytest.warns(
        UserWarning, match=r"8\.75 has 8\.75 steps per second and .*4\.375 4\.375: a step means different"
    ):
        JoinedStorage(stores)


def test_the_property_in_which_two_games_differ_is_named(tmp_path):
    stores = [make_store(tmp_path / str(n), (2,), replace(INFO, env_id=n)) for n in "ab"]
    with pytest.raises(ValueError, match=r"env_id is a in .* and b in "):
        JoinedStorage(stores)


def test_a_store_given_twice_is_refused_however_it_is_written(stores, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(stores[0].root, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    for again in (stores[0].root, "0", "link"):
        with pytest.raises(ValueError, match="is given twice, so that its episodes would count twice"):
            open_stores([stores[0].root, stores[1].root, again])

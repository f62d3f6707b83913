"""Tests for worldmodel/data/splits.py, and the splits of a store."""

from dataclasses import replace

import numpy as np
import pytest

from tests.data.makers import INFO, make_episode, make_store
from worldmodel.data import EpisodeStorage
from worldmodel.data.splits import split_of


def test_splits_divide_all_episodes_8_to_1_to_1(tmp_path):
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


def test_a_published_test_split_is_exactly_the_test_split(tmp_path):
    info = replace(INFO, test_episodes=7)
    store = make_store(tmp_path / "toy", [1] * 120, info)
    train, validation, test = (store.split(name) for name in ("train", "validation", "test"))
    assert test.tolist() == list(range(7))
    by_hash = np.flatnonzero(split_of(np.arange(120)) == 1)
    assert validation.tolist() == by_hash[by_hash >= 7].tolist()
    assert sorted([*train, *validation, *test]) == list(range(120))
    assert EpisodeStorage.open(store.root).split("test").tolist() == test.tolist()


def test_all_views_of_an_episode_are_in_one_split():
    splits = split_of(np.arange(600), test_episodes=40, views=2)
    assert (splits[::2] == splits[1::2]).all()
    assert (splits[:40] == 2).all() and (splits[40:] != 2).all()
    assert (splits[40:] == 1).sum() == 2 * 28
    assert split_of(np.arange(40), views=2)[::2].tolist() == split_of(np.arange(20)).tolist()


def test_an_impossible_test_split_is_refused():
    with pytest.raises(ValueError, match=r"test_episodes must be a multiple of views \(2\), got 3"):
        replace(INFO, test_episodes=3, views=2)
    with pytest.raises(ValueError, match="test_episodes must be at least 0, got -1"):
        replace(INFO, test_episodes=-1)

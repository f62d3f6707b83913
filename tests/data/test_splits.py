"""Tests for worldmodel/data/splits.py, and the splits of a store."""

import numpy as np

from tests.data.makers import make_episode, make_store
from worldmodel.data.splits import split_of


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

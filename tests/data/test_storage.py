"""Tests for worldmodel/data/storage.py: reading, sampling, segments and batches."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from tests.data.makers import INFO, PUSHES, TURNS, assert_holds, make_episode, make_store
from worldmodel.data import Episode, EpisodeStorage, Segment, SegmentId

# Whole episodes


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


@pytest.mark.parametrize(
    "changes",
    [
        {"terminated": False},
        {"terminated": False, "truncated": True},
        {"actions": np.zeros(6, np.int64)},
        {"rewards": np.zeros(6, np.float32)},
        {"frames": np.zeros((7, 2, 4, 5, 3), np.uint8)},
        {"signals": np.zeros((7, 2), np.float32)},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_different_episodes_have_different_fingerprints(tmp_path, changes):
    stores = [make_store(tmp_path / name, ()) for name in "abc"]
    for store, episode in zip(stores, (make_episode(), make_episode(), make_episode(**changes)), strict=True):
        store.append(episode)
    same, again, other = (store.fingerprint() for store in stores)
    assert same == again != other


@pytest.mark.parametrize("read", ["frames", "actions", "rewards", "signals", "ended", "episode"])
def test_a_missing_episode_index_is_refused(tmp_path, read):
    store = make_store(tmp_path / "toy")
    for place in (4, -1):
        with pytest.raises(IndexError, match=f"got {place}"):
            getattr(store, read)(place)


# Sampling


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
    """Cut a segment step by step, as documented in Segment."""
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


def test_changing_a_batch_does_not_change_the_store(tmp_path):
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

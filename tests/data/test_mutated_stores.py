"""Mutated stores either load like intact ones or are refused in one line that names the file."""

import contextlib
import io
from dataclasses import replace

import pytest

from tests.data.makers import INFO, PUSHES, make_episode, make_store
from tests.data.store_mutations import change_info, mutate_old_store, mutate_store
from tests.mutations import check, check_unvouched, run_trial
from worldmodel.data import EpisodeStorage, SegmentId

pytestmark = pytest.mark.slow


def by_use(root):
    """Read like a training: the first use verifies everything but the frames, so frames are not compared."""
    store = EpisodeStorage.open(root)
    episodes = range(len(store))
    found = [repr(store.info), store.lengths, store.ids.tolist(), store.plays.tolist()]
    for i in episodes:
        parts = store.actions(i), store.rewards(i), store.signals(i)
        found += [store.ended(i), *(part.tobytes() for part in parts), store.frames(i).shape]
    batch = store.batch([SegmentId(i, 0, 2) for i in episodes])
    found += [value.numpy().tobytes() for value in (batch.actions, batch.rewards, batch.signals, batch.terminated)]
    found += [tuple(batch.frames.shape), store.starts(2, "all").tobytes(), store.split("train").tobytes()]
    return found


def by_check(root):
    """Read like `inspect --verify`, and read whole episodes."""
    from worldmodel.training.reports.inspect_store import inspect_store, verify_store

    with contextlib.redirect_stderr(io.StringIO()):
        found = [verify_store(root), repr(inspect_store(root))]
    store = EpisodeStorage.open(root)
    for i in range(len(store)):
        episode = store.episode(i)
        found += [episode.frames.tobytes(), episode.actions.tobytes(), episode.seed, episode.terminated]
    found.append(store.batch([SegmentId(i, 0, 2) for i in range(len(store))]).frames.numpy().tobytes())
    return found


@pytest.fixture(params=["discrete", "box"])
def store(request, tmp_path):
    """Two packed episodes, one in its own file, and a block of two."""
    info = INFO if request.param == "discrete" else replace(INFO, action=PUSHES)
    store = make_store(tmp_path / "whole" / "pushes_and_turns", (6, 3), info)
    store.write_pending(make_episode(4, 2, info), 2)
    store.write_block([make_episode(3, 3, info), make_episode(5, 4, info)], 3)
    return store.root


@pytest.mark.parametrize("load", [by_use, by_check])
def test_a_mutated_store_loads_intact_or_is_refused(store, load, tmp_path):
    check(run_trial(store, load, mutate_store, 300, 11, tmp_path), 300)


@pytest.mark.parametrize("mutate", [change_info, mutate_old_store])
def test_mutated_stores_without_checksums_raise_only_one_line_errors(store, mutate, tmp_path):
    """Without checksums the values cannot be verified; everything else is."""
    check_unvouched(run_trial(store, by_check, mutate, 150, 12, tmp_path))

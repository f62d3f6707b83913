import numpy as np
import pytest
import torch

from tests.training.recorded import recorded_store
from worldmodel.training.pick_starts import pick_starts


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store in which few episodes are long."""
    return recorded_store(tmp_path_factory.mktemp("store"), lengths=(40, 9, 3, 17) * 4)


def marks_of(starts):
    """(K, T): 100 times the episode and the step within it."""
    return starts.codes[:, :, 0, 0, 0]


def test_start_segments_are_real_episodes(codes):
    starts = pick_starts(codes, count=20, steps=3)
    marks = marks_of(starts)
    assert starts.actions.shape == (10, 2) and starts.signals.shape == (10, 3, 1)
    assert (marks.diff(dim=1) == 1).all() and (marks[:, 0] // 100 == marks[:, -1] // 100).all()


@pytest.mark.parametrize("steps", [1, 2])
def test_the_other_half_are_the_first_steps_of_different_episodes(codes, steps):
    first = pick_starts(codes, count=12, steps=3, first_steps=steps).first
    marks = marks_of(first)
    assert (marks % 100 == torch.arange(steps)).all()
    assert first.actions.shape == (len(first.codes), steps - 1)
    assert len(set((marks[:, 0] // 100).tolist())) == len(first.codes) == min(6, len(codes.lengths))


def test_each_tenth_of_the_time_has_equally_many_starts_although_few_episodes_last_long(codes):
    starts = (marks_of(pick_starts(codes, count=40, steps=3))[:, 0] % 100).numpy()
    longest = codes.lengths.max() - 3
    shares = np.bincount(starts * 10 // (longest + 1), minlength=10)
    assert shares.tolist() == [2] * 10
    assert (codes.lengths > 20).mean() < 0.5


def test_no_start_is_repeated_even_if_more_are_requested_than_exist(codes):
    starts = pick_starts(codes, count=5000, steps=3)
    assert len(starts.first.codes) == len(codes.lengths)
    assert len(set(marks_of(starts)[:, 0].tolist())) == len(starts.codes) == np.maximum(codes.lengths - 2, 0).sum()


def test_one_start_is_one_of_each_kind(codes):
    starts = pick_starts(codes, count=1, steps=3)
    assert len(starts.codes) == len(starts.first.codes) == 1


@pytest.mark.parametrize("sizes", [{"steps": 99}, {"steps": 2, "first_steps": 99}])
def test_starts_longer_than_every_episode_are_refused(codes, sizes):
    with pytest.raises(ValueError, match="no episode has the 99 steps"):
        pick_starts(codes, count=4, **sizes)

"""Probes of coming hits: what counts as one, and episodes in which the predictability is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.clips import clip_world
from tests.training.recorded import ACTIONS, game
from worldmodel.data import Episode, EpisodeStorage
from worldmodel.evaluation import danger_probe as probes
from worldmodel.evaluation.danger_probe import (
    auroc_half_width,
    danger_probe,
    dangers,
    future_steps,
    logistic_regression,
)

HIT = 9  # steps from the start to the first hit, and between hits


def play_with_hits(root, warning, episodes=30, steps=20, info=None):
    """Gray frames with a hit every `HIT` steps; they brighten `warning` steps before one. 0: never."""
    rng = np.random.default_rng(0)
    store = EpisodeStorage.create(root, info or game(ACTIONS))
    for _ in range(episodes):
        first = int(rng.integers(HIT))
        until = (first - np.arange(steps + 1)) % HIT  # steps from a state to the next hit, HIT - 1 after one
        frames = rng.integers(60, 90, (steps + 1, 2, 16, 16, 3), np.uint8)
        frames[until < warning] += 60
        health = 100 - np.cumsum([0, *(until[:-1] == 0)]).astype(np.float32)
        store.append(
            Episode(
                frames=frames,
                actions=rng.integers(3, size=steps),
                rewards=np.zeros(steps, np.float32),
                terminated=False,
                truncated=True,
                signals=health[:, None],
            )
        )
    store.flush()
    return store


@pytest.fixture(scope="module")
def warned(tmp_path_factory):
    """Frames that announce a hit within three steps."""
    return play_with_hits(tmp_path_factory.mktemp("warned"), 3)


@pytest.fixture(scope="module")
def found(world, warned):
    return danger_probe(world.tokenizer, warned)


# Labels


def test_a_state_is_in_near_danger_or_in_far_danger_or_in_none():
    falls = np.zeros(12, bool)
    falls[[6, 7]] = True
    states, near, far = dangers(falls, True, (2, 5))
    assert states.tolist() == list(range(1, 12))
    assert states[near].tolist() == [5, 6, 7]  # the next two steps are 5 and 6, 6 and 7, 7 and 8
    assert states[far].tolist() == [2, 3, 4]


def test_the_future_is_unknown_after_a_cut_and_empty_after_an_end():
    falls = np.zeros(9, bool)
    falls[-1] = True
    assert dangers(falls, False, (2, 5))[0].tolist() == [1, 2, 3, 4]
    states, near, far = dangers(falls, True, (2, 5))
    assert (
        states.tolist() == list(range(1, 9)) and states[near].tolist() == [7, 8] and states[far].tolist() == [4, 5, 6]
    )
    assert dangers(falls[:3], False, (2, 5))[0].tolist() == []


@pytest.mark.parametrize(
    ("speed", "steps"), [(35 / 4, (3, 10)), (0.0, (3, 10)), (35.0, (12, 40)), (35 / 8, (2, 5)), (0.5, (1, 2))]
)
def test_the_future_is_measured_in_tics_of_the_game(speed, steps):
    assert future_steps(speed) == steps


# Scores


def test_a_warning_in_the_picture_is_found_in_codes_and_in_pixels(found):
    assert found["steps"] == [3, 10] and found["states"]["train"] > found["states"]["test"] > 0
    assert found["near"]["hits"] == pytest.approx(3 / HIT, abs=0.07)
    for look in ("codes", "pixels"):
        assert found["near"][look] > 0.98, look
        assert 0.0 <= found["near"][f"{look}_half_width"] < 0.05


def test_episodes_without_a_warning_are_unpredictable(world, tmp_path):
    found = danger_probe(world.tokenizer, play_with_hits(tmp_path, 0))
    for look in ("codes", "pixels"):
        assert abs(found["near"][look] - 0.5) < 0.2, look


def test_far_danger_is_predicted_for_states_without_near_danger(found):
    near = found["near"]
    assert found["far"]["states"] == round(near["states"] * (1 - near["hits"]))
    # Hits come every nine steps, so all the others are in far danger and there is nothing to distinguish.
    assert found["far"]["hits"] == 1.0 and found["far"]["codes"] is None and found["far"]["pixels_half_width"] is None


def test_the_probe_sees_two_steps_and_not_the_future(world, warned, monkeypatch):
    def inputs(tokenizer, frames):
        marks = torch.arange(len(frames), dtype=torch.float32)[:, None]
        return marks, marks

    monkeypatch.setattr(probes, "_inputs", inputs)
    states = probes._states(world.tokenizer, warned, "test", 10, (3, 10), 0)
    assert states.codes.tolist() == [[step - 1, step] for step in range(1, 11)]  # the future of later states is unknown
    assert len(set(states.plays.tolist())) == 1


def test_the_requested_steps_are_taken_in_whole_episodes(world, warned, found):
    assert found["states"] == {"train": 240, "validation": 30, "test": 30}
    fewer = danger_probe(world.tokenizer, warned, num_steps=60)
    assert fewer["states"] == {"train": 60, "validation": 20, "test": 20}


def test_small_pictures_are_the_last_frames(world, warned):
    frames = warned.frames(0)
    codes, pixels = probes._inputs(world.tokenizer, frames)
    assert pixels.shape == (21, 16 * 16 * 3)  # not enlarged
    np.testing.assert_allclose(pixels[5].numpy(), frames[5, -1].ravel() / 255, rtol=1e-6)
    vectors = world.tokenizer.lookup(world.tokenizer.encode(torch.from_numpy(frames[5:6, None].copy())))
    torch.testing.assert_close(codes[5], vectors.flatten())


def test_what_cannot_be_probed_is_absent(world, warned, tmp_path):
    assert danger_probe(clip_world().tokenizer, warned) == {"absent": "the tokenizer does not encode single steps"}
    nameless = play_with_hits(tmp_path / "a", 3, episodes=3, info=replace(game(ACTIONS), signal_names=("AMMO2",)))
    assert danger_probe(world.tokenizer, nameless) == {"absent": "the episodes have no signal HEALTH"}
    short = play_with_hits(tmp_path / "b", 3, episodes=10, steps=8)
    assert danger_probe(world.tokenizer, short) == {"absent": "split 'train' has no episode with 10 known future steps"}


# Methods


def test_logistic_regression_finds_the_maximum_likelihood():
    generator = torch.Generator().manual_seed(0)
    seen = torch.randn(4000, 3, generator=generator)
    truth = torch.rand(4000, generator=generator) < torch.sigmoid(2 * seen[:, 0] - seen[:, 1] - 1)
    weights, bias = logistic_regression(seen, truth, 1e-6)
    torch.testing.assert_close(weights, torch.tensor([2.0, -1.0, 0.0]), atol=0.2, rtol=0)
    assert float(bias) == pytest.approx(-1, abs=0.2)
    shrunk, _ = logistic_regression(seen, truth, 1.0)
    off = torch.sigmoid(seen @ shrunk + logistic_regression(seen, truth, 1.0)[1]) - truth.float()
    torch.testing.assert_close(seen.T @ off / 4000, -shrunk, atol=1e-3, rtol=0)  # where the slope is 0


def test_the_interval_resamples_episodes_and_not_states():
    scores, truth = torch.rand(400, generator=torch.Generator().manual_seed(0)), torch.arange(400) % 2 == 0
    scores[truth] += 0.3
    alone, together = (auroc_half_width(scores, truth, np.arange(400) // size, 0) for size in (2, 100))
    assert 0.02 < alone < 0.1 and together is not None
    assert auroc_half_width(scores, truth, np.zeros(400, np.int64), 0) is None
    twice = auroc_half_width(scores.repeat(4), truth.repeat(4), np.tile(np.arange(400) // 2, 4), 0)
    assert twice == pytest.approx(alone, rel=0.15)  # repeated states add no information

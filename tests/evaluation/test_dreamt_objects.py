"""Objects in dreams relative to the game, on dreams with known content."""

import numpy as np
import pytest
import torch

from tests.clips import clip_world
from tests.tiny import tiny_world
from tests.training.labelled_store import COLOURS, WALL, labelled_store
from worldmodel.evaluation import dreamt_objects as measure
from worldmodel.evaluation.dreamt_objects import dreamt_objects, share_ratio, step_ranges


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return labelled_store(tmp_path_factory.mktemp("labelled"), steps=14)


def judge(monkeypatch, world, store, dream, horizon=10):
    """Scores of a model with a lossless tokenizer, whose dreams are dream(real frames)."""
    real = measure.open_loop

    def open_loop(*arguments):
        dreams = real(*arguments)
        dreamt = dreams.real.clone()
        dreamt[:, dreams.context_steps :] = dream(dreamt[:, dreams.context_steps :])
        return dreams._replace(reconstruction=dreams.real, dream=dreamt)

    monkeypatch.setattr(measure, "open_loop", open_loop)
    monkeypatch.setattr(measure, "encode_decode", lambda tokenizer, frames, device: (None, frames))
    return dreamt_objects(world, store, "all", 40, 3, horizon)


def ratios(scores, kind="pixels"):
    return {step: part["ratio"] for step, part in scores[kind].items()}


def test_a_perfect_dream_keeps_all_objects(monkeypatch, world, store):
    found = judge(monkeypatch, world, store, lambda frames: frames)
    assert (found["dreams"], found["episodes"], found["context_steps"], found["horizon"]) == (40, 20, 3, 10)
    assert [*found["classes"]] == ["ball", "block"]
    ball = found["classes"]["ball"]
    assert ball["precision"] == ball["recall"] == 1.0
    assert ratios(ball) == ratios(ball, "pictures") == dict.fromkeys(["0", "1", "2", "3-4", "5-8"], 1.0)
    assert ball["pixels"]["1"]["game"] == pytest.approx(21 / 256) and ball["pixels"]["1"]["half_width"] == 0.0
    assert ball["pictures"]["1"]["game"] == 1.0
    assert ratios(ball, "kept") == ratios(ball)
    assert ball["appeared"]["1"] == {"game": 0.0, "dream": 0.0, "ratio": None, "half_width": None}  # of no dream


def test_a_model_of_clips_keeps_objects_to_the_end_of_one(monkeypatch, store):
    world = tiny_world(net="subscale", subscale=(1, 2, 2), clip_frames=10, kernel=(1, 3, 3))
    found = judge(monkeypatch, world, store, lambda frames: frames)
    assert (found["context_steps"], found["horizon"]) == (3, 2)
    assert [*ratios(found["classes"]["ball"])] == ["0", "1", "2"]


def test_the_scores_show_when_a_dream_loses_balls(monkeypatch, world, store):
    def forget(frames):
        late = frames[:, 2:]
        late[(late == torch.tensor(COLOURS[1])).all(-1)] = WALL
        return frames

    classes = judge(monkeypatch, world, store, forget)["classes"]
    assert ratios(classes["ball"]) == {"0": 1.0, "1": 1.0, "2": 1.0, "3-4": 0.0, "5-8": 0.0}
    assert set(ratios(classes["block"]).values()) == {1.0}


def test_the_scores_show_invented_blocks(monkeypatch, world, store):
    def invent(frames):
        frames[..., -1, :, :] = torch.tensor(COLOURS[2], dtype=torch.uint8)  # the last row, which is wall
        return frames

    block = judge(monkeypatch, world, store, invent)["classes"]["block"]
    assert ratios(block)["5-8"] == pytest.approx((9 + 16) / 9)
    assert ratios(block, "pictures")["5-8"] == 1.0


def test_a_picture_shows_a_class_from_two_pixels_on(monkeypatch, world, store):
    def dot(frames):
        frames[...] = WALL
        frames[:, 0, :, 0, 0] = torch.tensor(COLOURS[1], dtype=torch.uint8)
        frames[:, 1, :, 0, :2] = torch.tensor(COLOURS[1], dtype=torch.uint8)
        return frames

    ball = judge(monkeypatch, world, store, dot)["classes"]["ball"]
    assert ratios(ball, "pictures") == {"0": 1.0, "1": 0.0, "2": 1.0, "3-4": 0.0, "5-8": 0.0}
    assert ratios(ball)["1"] == pytest.approx(1 / 21)


def test_objects_that_stay_and_that_appear_are_counted_apart(monkeypatch, world, store):
    """In the game balls vanish from every second dream's context; the dreams keep what they see and invent nothing."""
    real = measure.open_loop

    def open_loop(*arguments):
        dreams = real(*arguments)
        game = dreams.real.clone()
        early = game[::2, : dreams.context_steps]
        early[(early == torch.tensor(COLOURS[1])).all(-1)] = WALL
        dreamt = game.clone()
        dreamt[::2] = dreamt[::2, dreams.context_steps - 1 : dreams.context_steps]
        return dreams._replace(reconstruction=game, dream=dreamt)

    monkeypatch.setattr(measure, "open_loop", open_loop)
    monkeypatch.setattr(measure, "encode_decode", lambda tokenizer, frames, device: (None, frames))
    ball = dreamt_objects(world, store, "all", 40, 3, 4)["classes"]["ball"]
    assert ratios(ball, "kept") == dict.fromkeys(["0", "1", "2", "3-4"], 1.0)
    assert ratios(ball, "appeared") == {"0": None, "1": 0.0, "2": 0.0, "3-4": 0.0}
    assert ratios(ball, "pictures") == {"0": 1.0, "1": 0.5, "2": 0.5, "3-4": 0.5}
    assert ball["appeared"]["1"]["game"] == 1.0


def test_the_horizon_is_cut_to_the_episodes(monkeypatch, world, store):
    found = judge(monkeypatch, world, store, lambda frames: frames, horizon=64)
    assert found["horizon"] == 12  # of 15 states three are context
    assert dreamt_objects(world, store, "all", 2, 15) == {
        "absent": "no episode of split 'all' continues after 15 context steps"
    }


def test_a_model_that_cannot_start_from_context_has_no_such_dreams(store):
    assert dreamt_objects(clip_world(), store, "all", 2) == {"absent": "the model cannot start from context steps"}


def test_dreams_and_the_game_are_both_decoded_by_the_tokenizer(world, store):
    found = dreamt_objects(world, store, "all", 4, 3, 4)
    for scores in found["classes"].values():
        assert scores["pixels"]["0"]["ratio"] in (1.0, None)  # the context step, decoded in both


def test_step_ranges_end_at_powers_of_two():
    begins, ends = [0, 1, 2, 3, 5, 9, 17, 33], [0, 1, 2, 4, 8, 16, 32, 64]
    assert [(steps[0], steps[-1]) for steps in step_ranges(64)] == list(zip(begins, ends, strict=True))
    assert step_ranges(63)[-1] == range(17, 33) and step_ranges(0) == [range(0, 1)]


def test_the_ratio_of_shares_has_an_interval_over_episodes():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        game = rng.uniform(0, 2, 40)
        dream = 0.5 * game + rng.normal(0, 0.2, 40)
        found = share_ratio(game, dream, np.arange(40))
        covered += abs(found["ratio"] - 0.5) <= found["half_width"]
    assert 180 <= covered <= 199
    assert share_ratio(np.zeros(3), np.ones(3), np.arange(3))["ratio"] is None

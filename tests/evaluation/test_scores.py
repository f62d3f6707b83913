"""Scores of stand-ins with known results, and of the toy model; training and reports share them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.clips import clip_world
from tests.tiny import tiny_world
from tests.training.stand_ins import Foresees, KnowsTheActions, PixelTokenizer, known_batch, steps_batch
from worldmodel.data.clips import sample_frames
from worldmodel.evaluation import scores
from worldmodel.evaluation.held_out import dynamics_scores, encode_segments, real_codes, tokenizer_scores
from worldmodel.evaluation.scores import code_scores, code_use, encode_decode, head_scores, mean_losses
from worldmodel.model import CodeBatch
from worldmodel.training.train_dynamics import score_dynamics
from worldmodel.training.train_tokenizer import score_tokenizer

# --- tokenizer


def test_frames_come_back_in_order_for_any_piece_size(store, monkeypatch):
    frames = torch.from_numpy(store.frames(0)[:7].copy())[:, None]
    for chunk in (3, 32):
        monkeypatch.setattr(scores, "CHUNK", chunk)
        codes, seen = encode_decode(PixelTokenizer(error=10), frames, "cpu")
        assert codes[:, 0, 0, 0, 0].tolist() == [0, 2, 4, 6, 8, 10, 12]
        assert torch.equal(seen, frames + 10)


def test_a_video_is_encoded_clip_by_clip_and_no_step_twice(store):
    coder = clip_world().tokenizer
    frames = torch.from_numpy(np.stack([store.frames(e)[:10] for e in range(2)]))
    codes, seen = encode_decode(coder, frames, "cpu")
    for steps, clip in ((slice(0, 4), slice(0, 4)), (slice(4, 8), slice(4, 8)), (slice(8, 10), slice(6, 10))):
        whole = coder.encode(frames[:, clip])
        new = steps.start - clip.start
        assert torch.equal(codes[:, steps], whole[:, new:])
        assert torch.equal(seen[:, steps], coder.decode(whole)[:, new:])
    assert codes.shape[1] == seen.shape[1] == 10


def test_code_use_counts_each_slice_and_skips_masked_steps():
    batch = steps_batch([0.0] * 4)
    codes = torch.tensor([[9, 9], [0, 5], [1, 5], [2, 5], [3, 7]])  # (T + 1, M); the first is context
    batch = replace(batch, codes=codes.view(1, 5, 1, 1, 2))
    batch.padding_mask[0, 3] = False
    use = code_use(real_codes(batch), num_codes=16)
    assert use["num_codes"] == 16
    assert use["codes_in_use"] == [3, 1]
    assert use["perplexity"] == pytest.approx([3.0, 1.0])


def test_training_reports_the_tokenizers_scores_as_the_report_does(store, world):
    frames = sample_frames(store, 40, np.random.default_rng(0), "test")
    trained = score_tokenizer(world.tokenizer, frames)
    reported = tokenizer_scores(world, store, "test", 40)
    assert (trained["nmse"], trained["psnr"]) == (reported["nmse"], reported["psnr_db"])
    assert trained["codes_in_use"] + trained["dead_codes"] == 16


# --- dynamics


def test_shuffled_actions_cost_a_model_that_uses_them(store):
    batch = known_batch(store)
    scores = code_scores(KnowsTheActions(), batch, mean_losses(KnowsTheActions(), batch)["codes"])
    mask = batch.padding_mask
    swapped = float((batch.actions.roll(1, 0) != batch.actions)[mask].float().mean())
    assert scores["bits_per_code"] == pytest.approx(1 / math.log(2))
    assert swapped > 0.3
    assert scores["shuffled_action_ratio"] == pytest.approx(1 + swapped, abs=1e-5)


def test_padded_actions_are_not_used_as_shuffled_actions():
    actions = torch.tensor([[1, 2, 2, 1], [2, 1, 0, 0], [1, 0, 0, 0]])  # 0 is padding
    batch = replace(
        steps_batch([0.0] * 4),
        codes=torch.zeros(3, 5, 1, 1, 1, dtype=torch.int64),
        actions=actions,
        rewards=torch.zeros(3, 4),
        terminated=torch.zeros(3, 4, dtype=torch.bool),
        signals=torch.zeros(3, 5, 0),
        padding_mask=actions > 0,
    )
    batch.padding_mask[0, 0] = False  # played, but counted by another segment
    scored = []

    class Listens(KnowsTheActions):
        def loss(self, batch):
            scored.append(batch.actions)
            return super().loss(batch)

    code_scores(Listens(), batch, nats=1.0)
    assert scored[0].tolist() == [[1, 1, 1, 1], [1, 2, 2, 1], [2, 1, 2, 1]]


def test_a_single_segment_has_no_shuffled_actions():
    assert "shuffled_action_ratio" not in code_scores(KnowsTheActions(), steps_batch([0.0, 0.0]), nats=1.0)


def test_a_loss_of_zero_has_no_ratio(store):
    batch = steps_batch([0.0, 0.0])
    several = CodeBatch.join([batch, batch])
    assert code_scores(KnowsTheActions(), several, nats=0.0) == {"bits_per_code": 0.0}


@pytest.mark.parametrize("order", ["block", "raster", "drawn ends"])  # raster also predicts first steps
def test_the_chunked_loss_equals_the_whole_loss(store, order, monkeypatch):
    world = tiny_world(heads={"ends": "drawn"}) if order == "drawn ends" else tiny_world(order=order)
    batch = encode_segments(world, store, "all", 7)
    batch.terminated[:2] = batch.padding_mask[:2]
    assert batch.padding_mask.sum(1).unique().numel() > 1  # otherwise the weights of the pieces would not matter
    with torch.inference_mode():
        at_once = {name: float(value) for name, value in world.loss(batch)._asdict().items()}
    monkeypatch.setattr(scores, "CHUNK", 3)
    assert mean_losses(world, batch) == pytest.approx(at_once, rel=1e-6)


def test_training_reports_the_models_scores_as_the_report_does(store, world):
    batch = encode_segments(world, store, "all", 20)
    trained, reported, heads = (
        score_dynamics(world, batch),
        dynamics_scores(world, batch, batch),
        head_scores(world, batch, None),
    )
    assert {trained[name] - reported[name] for name in ("bits_per_code", "shuffled_action_ratio")} == {0.0}
    assert trained["reward_auroc"] == heads["positive_reward"]["auroc"]
    assert trained["termination_auroc"] == heads["termination"]["auroc"]
    assert trained["total"] > trained["codes"] > 0


# --- heads


def test_heads_that_predict_perfectly_score_one():
    batch = steps_batch([0.0, 2.0, -1.0, 0.5], [False, False, False, True])
    scores = head_scores(Foresees(), batch, validation=batch)
    assert scores["positive_reward"] == {"events": 2, "steps": 4, "auroc": 1.0, "threshold": 0.5, "f1": 1.0}
    assert scores["termination"] == {"events": 1, "steps": 4, "auroc": 1.0, "threshold": 0.5, "f1": 1.0}


def test_the_reward_threshold_comes_from_validation_and_not_from_the_tested_steps():
    tested = steps_batch([0.0, 2.0, 2.0, 1.0])
    scores = head_scores(Foresees(), tested, validation=steps_batch([0.0, 2.0]))
    assert scores["positive_reward"]["threshold"] == 2.0
    assert scores["positive_reward"]["f1"] == pytest.approx(2 * 2 / (2 + 3))
    assert "f1" not in head_scores(Foresees(), tested, validation=None)["positive_reward"]


def test_the_termination_threshold_is_the_models_own():
    batch = steps_batch([0.0] * 4, [False, True, False, True])
    scores = head_scores(Foresees(probability=[0.1, 0.2, 0.3, 0.4], threshold=0.15), batch, validation=None)
    assert scores["termination"]["f1"] == pytest.approx(2 * 2 / (3 + 2))
    assert scores["termination"]["auroc"] == pytest.approx(3 / 4)


def test_masked_steps_do_not_count():
    batch = steps_batch([0.0, 2.0, 2.0], [False, True, False])
    batch.padding_mask[0, 2] = False
    scores = head_scores(Foresees(), batch, validation=None)
    assert scores["positive_reward"]["events"] == 1 and scores["positive_reward"]["steps"] == 2


def test_events_that_never_or_always_happen_have_no_scores():
    assert head_scores(Foresees(), steps_batch([0.0, -1.0]), validation=None) == {}
    assert head_scores(Foresees(), steps_batch([1.0, 1.0]), validation=None) == {}

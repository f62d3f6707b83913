"""Open-loop dreams: their context, their baselines, and how long they are usable."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.clips import clip_world
from tests.dynamics.worlds import make_world
from tests.tiny import tiny_world
from tests.training.recorded import recorded_store
from tests.training.stand_ins import PixelTokenizer
from worldmodel.data import SegmentId
from worldmodel.dynamics import Video
from worldmodel.evaluation import scores
from worldmodel.evaluation.metrics import psnr, ssim
from worldmodel.evaluation.open_loop import (
    by_step,
    eventful_segments,
    given_steps,
    open_loop,
    open_loop_scores,
    psnr_sureness,
    swapped_actions,
    usable_horizon,
)
from worldmodel.statistics import grouped_mean_with_interval


class Clairvoyant:
    """Predicts the future: brightness goes up by 2 per step. Checks that it gets the right actions."""

    device = "cpu"
    tokenizer = PixelTokenizer(error=10)
    config = SimpleNamespace(dynamics=SimpleNamespace(action_condition="step"))

    def sample(self, n, steps, first_frames, actions, temperature, seeds):
        assert temperature == 0.5 and len(set(seeds)) == len(first_frames) == n
        given = first_frames.shape[1]
        first = first_frames[:, 0, 0, 0, 0, 0].long() // 2
        time = first[:, None] + torch.arange(steps)
        assert torch.equal(first_frames[:, :, 0, 0, 0, 0].long() // 2, time[:, :given])
        assert torch.equal(actions, time[:, :-1] % 3)
        video = (2 * time)[:, :, None, None, None, None].to(torch.uint8).expand(*time.shape, 2, 16, 16, 3).clone()
        video[:, :given] += 10
        return Video(video, None)


def test_open_loop_uses_the_recorded_actions_and_scores_the_steps_they_lead_to(store):
    dreams = open_loop(Clairvoyant(), store, "all", 6, 5, temperature=0.5)
    real, reconstruction, dream = dreams.real, dreams.reconstruction, dreams.dream
    assert real.shape == reconstruction.shape == dream.shape == (6, 5 + 16, 2, 16, 16, 3)
    assert torch.equal(dream[:, 5:], real[:, 5:])
    assert torch.equal(dream[:, :5], reconstruction[:, :5])
    curves = open_loop_scores(dreams, store.plays)["psnr_db"]
    assert curves["dream"] == pytest.approx([58.92] * 16, abs=0.01)  # the highest value there is
    # The world is 2 levels brighter after each step, and the stand-in's reconstruction 10 levels too bright.
    assert curves["copy"] == pytest.approx([20 * math.log10(255 / (2 * n)) for n in range(1, 17)], abs=0.01)
    assert curves["reconstruction"] == pytest.approx([20 * math.log10(25.5)] * 16, abs=0.01)


def test_open_loop_reports_if_no_episode_is_long_enough(tmp_path, world):
    store = recorded_store(tmp_path, lengths=(20,))
    with pytest.raises(ValueError, match="23 steps"):
        open_loop(world, store, "all", 4, 8, temperature=1.0)


def test_a_dream_does_not_depend_on_the_other_rows(store, world, monkeypatch):
    at_once = open_loop(world, store, "all", 5, 3, temperature=1.0, num_steps=4)
    monkeypatch.setattr(scores, "CHUNK", 2)
    in_pieces = open_loop(world, store, "all", 5, 3, temperature=1.0, num_steps=4)
    assert torch.equal(at_once.dream, in_pieces.dream)
    assert not torch.equal(at_once.dream[0, 3:], at_once.dream[1, 3:])


def test_every_step_is_scored_by_any_metric_and_a_perfect_dream_beats_copying(store):
    dreams = open_loop(Clairvoyant(), store, "all", 6, 5, temperature=0.5, num_steps=7)
    curves = by_step(dreams, ssim)
    assert curves["dream"] == pytest.approx([1.0] * 7)
    assert max(curves["copy"]) < 1.0 and curves["copy"] == sorted(curves["copy"], reverse=True)
    assert curves["reconstruction"] == pytest.approx(
        [ssim(dreams.real[:, step], dreams.reconstruction[:, step]) for step in range(5, 12)]
    )
    assert usable_horizon(by_step(dreams, psnr)) == 7


def test_the_uncertainty_of_psnr_depends_on_the_number_of_episodes(store, world):
    dreams = open_loop(world, store, "all", 12, 5, temperature=1.0, num_steps=3)
    sure, curves = psnr_sureness(dreams, store.plays), by_step(dreams, psnr)
    gains = np.subtract(curves["dream"], curves["copy"])
    assert sure["gain"] == pytest.approx(gains.tolist(), abs=1e-4)
    groups = [segment.episode for segment in dreams.segments]
    assert len(set(groups)) < 12
    each = [psnr(truth, dream) for truth, dream in zip(dreams.real[:, 6], dreams.dream[:, 6], strict=True)]
    assert sure["half_width"][1] == pytest.approx(grouped_mean_with_interval(each, groups)[1])
    copied = [psnr(row[6], row[4, -1:].expand_as(row[6])) for row in dreams.real]
    wanted = grouped_mean_with_interval(np.subtract(each, copied), groups)[1]
    assert sure["gain_half_width"][1] == pytest.approx(wanted)


def test_the_usable_horizon_is_the_number_of_first_steps_that_beat_copying():
    assert usable_horizon({"dream": [3.0, 3.0, 1.0, 3.0], "copy": [2.0, 2.0, 2.0, 2.0]}) == 2
    assert usable_horizon({"dream": [1.0, 3.0, 3.0, 3.0], "copy": [2.0, 2.0, 2.0, 2.0]}) == 0
    assert usable_horizon({"dream": [3.0, 3.0], "copy": [2.0, 2.0]}) == 2
    assert usable_horizon({"dream": [2.0, 2.0], "copy": [2.0, 2.0]}) == 0


def test_swapped_actions_are_those_of_another_row_from_the_last_context_step_on(store):
    batch = open_loop(Clairvoyant(), store, "all", 4, 3, temperature=0.5, num_steps=2).batch
    swapped = swapped_actions(batch, 3)
    assert torch.equal(swapped[:, :2], batch.actions[:, :2])
    assert torch.equal(swapped[1:, 2:], batch.actions[:-1, 2:]) and torch.equal(swapped[0, 2:], batch.actions[-1, 2:])
    assert torch.equal(swapped_actions(batch, 0), batch.actions.roll(1, dims=0))


@pytest.mark.parametrize(
    ("make", "given"),
    [
        (tiny_world, 5),
        (lambda: make_world("block", condition="frames-and-step"), 5),
        (lambda: clip_world(), 0),
        (lambda: clip_world(frame_condition=2), 2),
        (lambda: clip_world("causal"), 5),
    ],
)
def test_clip_models_get_the_context_they_need_and_others_what_is_requested(make, given):
    assert given_steps(make(), 5) == given


def test_a_model_gets_at_least_the_context_it_needs():
    assert given_steps(make_world("block", condition="frames-and-step"), 1) == 2


class Played:
    """Episodes with rewards only: one episode of 60 steps per list of rewarded steps."""

    def __init__(self, *rewarded):
        self.rewarded, self.lengths = rewarded, [60] * len(rewarded)

    def split(self, name):
        assert name == "test"
        return np.arange(len(self.rewarded))

    def rewards(self, episode):
        return np.isin(np.arange(60), self.rewarded[episode]) * 3.0 - 1.0

    def sample_ids(self, count, num_steps, rng, split):
        return [SegmentId(0, 0, num_steps)] * count


def test_a_video_starts_where_a_rare_reward_follows():
    store = Played([30], [0, 45], [])
    for seed in range(20):
        segments = eventful_segments(store, "test", 2, context_steps=8, seed=seed)
        assert {segment.episode for segment in segments} == {0, 1}
        for episode, start, stop in segments:
            assert start >= 0 and stop - start == 8 + 16 - 1 and stop <= 60
            action = {0: 30, 1: 45}[episode]
            step = action + 1 - (start + 8 - 1)  # the reward of an action belongs to the step after it
            assert 4 <= step <= 14
    assert eventful_segments(store, "test", 2, 8, seed=3) == eventful_segments(store, "test", 2, 8, seed=3)
    assert len({segments[0] for segments in ([*eventful_segments(store, "test", 1, 8, seed=s)] for s in range(20))}) > 5


@pytest.mark.parametrize("rewarded", [[], range(60), [1, 2]])
def test_without_rare_rewards_a_video_starts_anywhere(rewarded):
    assert eventful_segments(Played(rewarded), "test", 2, context_steps=8) == [SegmentId(0, 0, 23)] * 2

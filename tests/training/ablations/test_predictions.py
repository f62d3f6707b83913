import math

import pytest
import torch

from worldmodel.data import ActionSpec
from worldmodel.training.ablations import predictions
from worldmodel.training.ablations.predictions import action_scores, baseline_bits, copied, frame_scores


def clips(*values, frames_per_step=2):
    """One clip whose frames have these brightnesses, (1, T, F, 4, 4, 3) uint8."""
    frames = torch.tensor(values, dtype=torch.uint8).view(1, -1, frames_per_step, 1, 1, 1)
    return frames.expand(-1, -1, -1, 4, 4, 3).contiguous()


def test_copying_repeats_the_last_given_frame_even_within_a_step():
    real = clips(1, 2, 3, 4, 5, 6)
    assert copied(real, 3).flatten().unique().tolist() == [1, 2, 3]
    assert torch.equal(copied(real, 3), clips(1, 2, 3, 3, 3, 3)) and torch.equal(real, clips(1, 2, 3, 4, 5, 6))


def test_frames_beat_copying_until_the_first_that_does_not():
    real = clips(0, 0, 100, 200, 100, 200)
    scores = frame_scores(real, clips(9, 9, 90, 180, 0, 200), 2)
    assert scores["copy_beaten_frames"] == 2
    assert frame_scores(real, real, 2)["copy_beaten_frames"] == 4
    assert frame_scores(real, copied(real, 2), 2)["copy_beaten_frames"] == 0


def test_psnr_is_that_of_each_predicted_frame():
    real, made = clips(0, 0, 100, 200, 50, 60), clips(9, 9, 110, 200 - 20, 50, 60)
    curve = frame_scores(real, made, 2)["psnr_by_frame"]
    assert curve[:2] == pytest.approx([20 * math.log10(255 / 10), 20 * math.log10(255 / 20)]) and len(curve) == 4
    assert curve[2:] == pytest.approx([58.92] * 2, abs=0.01)  # the same picture


def test_given_frames_do_not_count_in_the_scores():
    real, made = clips(0, 0, 100, 200), clips(255, 255, 100, 200)
    assert frame_scores(real, made, 2)["predicted_psnr_db"] == pytest.approx(58.92, abs=0.01)
    assert frame_scores(real, made, 1)["predicted_psnr_db"] < 50


def test_frozen_samples_change_no_pixel():
    real = clips(0, 0, 100, 200, 100, 200)
    assert frame_scores(real, real, 2)["changed_share"] == 1
    assert frame_scores(real, copied(real, 2), 2)["changed_share"] == 0
    assert "changed_share" not in frame_scores(clips(7, 7, 7, 7), real[:, :2], 2)  # real frames stand still


class Judge:
    """Recognises the brightness of the later step, modulo 3, as the action."""

    action = ActionSpec(kind="discrete", n=3)


@pytest.fixture
def judge(monkeypatch):
    def read(_, frames):
        seen = frames[:, 1:, -1, 0, 0, 0].long().flatten() % 3
        return torch.nn.functional.one_hot(seen, 3).float(), None

    monkeypatch.setattr(predictions, "read", read)
    return Judge()


def test_actions_are_recognised_in_predicted_steps_alone(judge):
    real, actions = clips(0, 0, 1, 1, 2, 2, 3, 3), torch.tensor([[1, 2, 0]])
    made = clips(0, 0, 0, 0, 2, 2, 3, 3)  # wrong in the first step after the first
    assert action_scores(judge, real, made, actions, 2) == pytest.approx(
        {"action_score": 2 / 3, "action_score_real": 1.0}
    )
    assert action_scores(judge, real, made, actions, 4) == {"action_score": 1.0, "action_score_real": 1.0}
    judge.action = ActionSpec(kind="discrete", n=1)
    assert action_scores(judge, real, made, actions, 4) == {}


def test_baselines_are_the_entropy_and_the_best_mixture_with_copying():
    codes = torch.tensor([0, 1, 2, 3] * 8).view(1, 32, 1, 1, 1)
    bits = baseline_bits(torch.cat((codes[:, :1], codes), dim=1), 4)  # 33 steps, of which 32 are predicted
    assert bits["unigram_bits"] == pytest.approx(2.0)
    assert bits["copy_bits"] == pytest.approx(2.0, abs=0.1)  # copying is nearly always wrong
    still = codes.repeat_interleave(4, dim=1)
    bits = baseline_bits(still, 4)
    share = 96 / 127  # of the steps whose code stays; a change is spread over all four
    best = min(
        -share * math.log2(p + (1 - p) / 4) - (1 - share) * math.log2((1 - p) / 4) for p in torch.linspace(0.5, 0.9, 99)
    )
    assert bits["copy_bits"] == pytest.approx(best, abs=0.01) and bits["copy_bits"] < bits["unigram_bits"] - 0.5


def test_baselines_are_means_over_slices():
    changing, still = torch.arange(64).view(1, 64, 1, 1, 1) % 4, torch.zeros(1, 64, 1, 1, 1, dtype=torch.int64)
    one, both = baseline_bits(changing, 4), baseline_bits(torch.cat((changing, still), dim=-1), 4)
    assert both["unigram_bits"] == pytest.approx(one["unigram_bits"] / 2, abs=1e-6)

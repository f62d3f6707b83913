"""Calibration of predictions whose errors are known."""

import numpy as np
import pytest
import torch

from worldmodel.evaluation.calibration import (
    calibration_bins,
    calibration_error,
    platt_scaling,
    reward_calibration,
    termination_calibration,
)
from worldmodel.statistics import grouped_mean_with_interval, grouped_share_interval


def no_interval(values, plays):
    return 0.0, 0.0


def alone(values):
    """Every step is a recording of its own."""
    return np.arange(len(values))


def test_bins_hold_means_of_predicted_and_actual_values():
    predicted, actual = np.array([-5.0, 0.1, 0.3, 0.5, 9.0]), np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    bins = calibration_bins(predicted, actual, alone(actual), [0.0, 0.5, 1.0], no_interval)
    assert [(b["low"], b["high"], b["count"]) for b in bins] == [(-5.0, 0.3, 3), (0.5, 9.0, 2)]  # the outer are open
    assert [(b["predicted"], b["actual"]) for b in bins] == [(pytest.approx(-4.6 / 3), 1.0), (4.75, 3.5)]
    # Distances 1 + 4.6 / 3 and 1.25, weighted by 3 and 2 steps.
    assert calibration_error(bins) == pytest.approx((3 + 4.6 + 2.5) / 5)


def test_empty_bins_are_left_out():
    bins = calibration_bins(
        np.array([0.05, 0.95]), np.array([0.0, 1.0]), np.arange(2), np.linspace(0, 1, 11), no_interval
    )
    assert [part["count"] for part in bins] == [1, 1]


def test_predictions_and_values_must_have_equal_shapes():
    with pytest.raises(ValueError, match=r"got \(2,\), \(2,\) and \(3,\)"):
        calibration_bins(np.zeros(2), np.zeros(3), np.zeros(2), [0, 1], no_interval)
    with pytest.raises(ValueError, match=r"got \(2,\), \(3,\) and \(2,\)"):
        calibration_bins(np.zeros(2), np.zeros(2), np.zeros(3), [0, 1], no_interval)


def test_perfect_rewards_have_no_error():
    rewards = np.random.default_rng(0).choice([-0.5, 0.0, 2.5], size=500)
    found = reward_calibration(rewards, rewards, alone(rewards))
    assert found["calibration_error"] == found["mean_absolute_error"] == 0.0 and found["explained"] == 1.0
    assert [part["actual"] for part in found["bins"]] == [-0.5, 0.0, 2.5] and found["steps"] == 500


def test_rewards_that_are_too_high_by_a_constant_have_that_error():
    rewards = np.random.default_rng(0).choice([0.0, 1.0], size=400)
    found = reward_calibration(rewards + 0.25, rewards, alone(rewards))
    assert found["calibration_error"] == pytest.approx(0.25) == found["mean_absolute_error"]
    assert found["predicted_mean"] - found["actual_mean"] == pytest.approx(0.25)


def test_the_mean_reward_is_calibrated_and_explains_nothing():
    rewards = np.random.default_rng(0).choice([0.0, 1.0], size=400)
    found = reward_calibration(np.full(400, rewards.mean()), rewards, alone(rewards))
    assert found["calibration_error"] == pytest.approx(0.0, abs=1e-12)
    assert found["explained"] == pytest.approx(0.0, abs=1e-12)


def test_one_stray_prediction_does_not_change_the_other_bins():
    rewards = np.tile([0.0, 1.0], 1000)
    stray = rewards.copy()
    stray[0] = 1000.0
    assert [part["count"] for part in reward_calibration(stray, rewards, alone(rewards))["bins"]] == [999, 1001]


def test_rewards_that_never_vary_have_nothing_to_explain():
    found = reward_calibration(np.zeros(50), np.zeros(50), np.arange(50))
    assert found["explained"] is None and found["calibration_error"] == 0.0


def test_calibrated_probabilities_have_the_expected_brier_score():
    # 200 steps at 0.05 of which 10 end, 100 at 0.5 of which 50 end.
    probability = np.repeat([0.05, 0.5], [200, 100])
    ended = np.concatenate((np.arange(200) < 10, np.arange(100) < 50))
    found = termination_calibration(probability, ended, alone(ended), threshold=0.4)
    assert found["calibration_error"] == pytest.approx(0.0, abs=1e-12)
    assert found["brier"] == pytest.approx((200 * 0.05 * 0.95 + 100 * 0.25) / 300)
    assert found["brier_constant"] == pytest.approx(0.2 * 0.8) and found["actual_share"] == found["predicted_share"]
    assert found["skill"] == pytest.approx(1 - found["brier"] / 0.16)
    assert (found["announced"], found["precision"], found["recall"]) == (100, 0.5, 50 / 60)
    assert found["bins"][0]["interval"] == list(grouped_share_interval(ended[:200], np.arange(200)))


def test_intervals_are_over_recordings_whose_steps_resemble_each_other():
    rng = np.random.default_rng(0)
    plays = np.repeat(np.arange(10), 50)
    rewards = rng.normal(size=10)[plays] + 0.1 * rng.normal(size=500)
    (part,) = reward_calibration(np.zeros(500), rewards, plays)["bins"]
    mean, half_width = grouped_mean_with_interval(rewards, plays)
    assert part["interval"] == pytest.approx([mean - half_width, mean + half_width])
    (apart,) = reward_calibration(np.zeros(500), rewards, alone(rewards))["bins"]
    assert np.diff(part["interval"]) > 4 * np.diff(apart["interval"])
    ended = rng.random(500) < np.where(plays < 5, 0.05, 0.75)
    (part,) = termination_calibration(np.full(500, 0.42), ended, plays, 0.5)["bins"]
    (apart,) = termination_calibration(np.full(500, 0.42), ended, alone(ended), 0.5)["bins"]
    assert np.diff(part["interval"]) > 4 * np.diff(apart["interval"])


def test_certain_and_always_wrong_predictions_have_the_worst_scores():
    ended = np.arange(10) < 5
    found = termination_calibration((~ended).astype(float), ended, alone(ended), threshold=0.5)
    assert found["brier"] == found["calibration_error"] == 1.0 and found["auroc"] == 0.0
    assert found["precision"] == found["recall"] == 0.0


def test_rare_ends_get_narrow_bins():
    found = termination_calibration(
        np.array([0.0004, 0.004, 0.04, 0.4]), np.zeros(4, bool), np.arange(4), threshold=0.5
    )
    assert [part["count"] for part in found["bins"]] == [1, 1, 1, 1]


def test_without_an_end_there_is_no_skill():
    found = termination_calibration(np.full(20, 0.01), np.zeros(20, bool), np.arange(20), threshold=0.5)
    assert found["skill"] is found["auroc"] is found["precision"] is found["recall"] is None
    assert found["brier"] == pytest.approx(1e-4)
    assert found["bins"][0]["interval"][1] > 0.1  # 20 steps without an end do not prove that there is none


# --- a scale and a shift


def test_scale_and_shift_of_the_logit_are_found():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, generator=generator) - 4
    happened = torch.rand(20_000, generator=generator) < torch.sigmoid(0.6 * logits + 1)
    with torch.inference_mode():  # as at the end of a training
        found = platt_scaling(torch.sigmoid(logits), happened)
    assert found == pytest.approx((0.6, 1.0), abs=0.06)


def test_calibrated_probabilities_add_up_to_the_events():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3_000, generator=generator) - 9  # far too low
    happened = torch.rand(3_000, generator=generator) < torch.sigmoid(logits + 5)
    scale, shift = platt_scaling(torch.sigmoid(logits), happened)
    assert happened.sum() > 20
    assert torch.sigmoid(scale * logits + shift).sum().item() == pytest.approx(int(happened.sum()), rel=1e-3)


def test_few_events_leave_the_scale_near_one():
    probability = torch.tensor([0.1, 0.2, 0.3, 0.9])
    alone, _ = platt_scaling(probability, probability > 0.5)  # any larger scale would fit them better
    many, _ = platt_scaling(probability.repeat(1000), probability.repeat(1000) > 0.5)
    assert 1 < alone < 1.5 < many


def test_the_order_of_probabilities_is_kept_even_if_it_is_wrong():
    scale, _ = platt_scaling(torch.tensor([0.9, 0.8, 0.1]), torch.tensor([False, False, True]))
    assert 0 < scale < 1


@pytest.mark.parametrize("happened", [False, True])
def test_without_both_outcomes_nothing_is_changed(happened):
    assert platt_scaling(torch.rand(9), torch.full((9,), happened)) == (1.0, 0.0)


def test_certain_probabilities_are_handled():
    assert np.isfinite(platt_scaling(torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0, 1, 1, 1]).bool())).all()


def test_probabilities_and_events_must_have_equal_shapes():
    with pytest.raises(ValueError, match=r"got \(2,\) and \(3,\)"):
        platt_scaling(torch.rand(2), torch.ones(3).bool())

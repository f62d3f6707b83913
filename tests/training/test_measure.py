"""Measurements of a world model on a store: stand-ins whose every score is known, and the toy model."""

import math
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from tests.tiny import tiny_config, tiny_world
from tests.training.recorded import recorded_store
from tests.training.stand_ins import PixelTokenizer, known_batch
from worldmodel.model import Rollout, WorldModel
from worldmodel.training import measure
from worldmodel.training.measure import (
    dataset_facts,
    dream_speed,
    dynamics_scores,
    encode_segments,
    held_out_segments,
    open_loop,
    open_loop_scores,
    tokenizer_scores,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return recorded_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def world():
    return tiny_world()


# --- data


def test_facts_of_a_data_set_by_hand(tmp_path):
    facts = dataset_facts(recorded_store(tmp_path, lengths=(10, 14)))
    assert facts["episodes"] == 2 and facts["steps"] == 24
    assert facts["actions"] == {"noop": 4 + 5, "left": 3 + 5, "right": 3 + 4}
    assert facts["positive_rewards"] == 4 and facts["negative_rewards"] == 3  # times 4, 9 twice; 6 twice and 13
    assert facts["return_mean"] == pytest.approx((3.0 + 2.0) / 2)
    assert facts["return_half_width"] == pytest.approx(12.706 * math.sqrt(0.5 / 2), abs=1e-3)
    assert (facts["terminated"], facts["truncated"]) == (2, 0)
    assert facts["frame_size"] == [16, 16, 3]


def test_held_out_segments_count_every_step_once_and_stay_within_their_episode(tmp_path):
    lengths = (3, 16, 17, 40)
    store = recorded_store(tmp_path, lengths)
    counted = Counter()
    for segment, skipped in held_out_segments(store, "all", 16):
        assert 0 <= segment.start < segment.stop <= lengths[segment.episode]
        assert segment.stop - segment.start == min(16, lengths[segment.episode])
        counted.update((segment.episode, step) for step in range(segment.start + skipped, segment.stop))
    assert counted == {(episode, step): 1 for episode, length in enumerate(lengths) for step in range(length)}


def test_encoded_segments_keep_codes_actions_and_rewards_together(tmp_path):
    store = recorded_store(tmp_path, lengths=(3, 20, 40))
    batch = known_batch(store)
    assert int(batch.padding_mask.sum()) == 63
    assert int(batch.terminated[batch.padding_mask].sum()) == 3
    time = batch.codes[:, :-1, 0, 0, 0] // 2  # the stand-in's code is twice the time
    mask = batch.padding_mask
    assert (batch.codes[:, 1:, 0, 0, 0][mask] == 2 * time[mask] + 2).all()
    assert (batch.actions[mask] == time[mask] % 3).all()
    assert ((batch.rewards[mask] == 2.0) == (time[mask] % 5 == 4)).all()
    assert sorted(time[mask].tolist()) == sorted([*range(3), *range(20), *range(40)])


def test_encoded_segments_are_capped_and_drawn_by_seed(store, world):
    first, again, other = (encode_segments(world, store, "all", 5, seed) for seed in (0, 0, 1))
    assert len(first.codes) == 5
    assert torch.equal(first.rewards, again.rewards)
    assert not torch.equal(first.rewards, other.rewards)


def test_an_empty_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no episode to measure on"):
        known_batch(recorded_store(tmp_path, lengths=(20,)), split="validation")


# --- tokenizer


def test_tokenizer_scores_of_a_constant_error_by_hand(store):
    scores = tokenizer_scores(SimpleNamespace(tokenizer=PixelTokenizer(error=10), device="cpu"), store, "test", 40)
    assert scores["steps"] == 40
    assert scores["psnr_db"] == pytest.approx(20 * math.log10(25.5), abs=1e-3)
    assert scores["nmse"] == pytest.approx((10 / 255) ** 2 / 0.01, rel=1e-4)
    assert 0.5 < scores["ssim"] < 1.0


# --- dynamics


class Clairvoyant:
    """Dreams what will happen: brightness goes up by 2 per step. Checks that it is given the right actions."""

    device = "cpu"
    tokenizer = PixelTokenizer(error=10)

    def imagine(self, frames, actions, context_actions, signals, seeds, temperature):
        assert temperature == 0.5 and len(set(seeds)) == len(frames)
        now = frames[:, -1, 0, 0, 0, 0].long() // 2
        past = torch.arange(-context_actions.shape[1], 0)
        future = torch.arange(actions.shape[1])
        assert torch.equal(context_actions, (now[:, None] + past) % 3)
        assert torch.equal(actions, (now[:, None] + future) % 3)
        assert torch.allclose(signals[:, 0], 100 - 2.5 * now, atol=1e-3)  # episodes of 40 steps
        dreamt = (now[:, None] + future + 1) * 2
        video = dreamt[:, :, None, None, None, None].to(torch.uint8).expand(*dreamt.shape, 2, 16, 16, 3)
        return Rollout(video, None, None, None)


def test_open_loop_gives_the_recorded_actions_and_scores_the_steps_they_lead_to(store):
    real, reconstruction, dream = open_loop(Clairvoyant(), store, "all", 6, 5, temperature=0.5)
    assert real.shape == reconstruction.shape == dream.shape == (6, 5 + 16, 2, 16, 16, 3)
    assert torch.equal(dream[:, 5:], real[:, 5:])
    assert torch.equal(dream[:, :5], reconstruction[:, :5])
    scores = open_loop_scores(real, reconstruction, dream)
    assert scores["step"] == [1, 4, 8, 16]
    assert scores["dream_psnr_db"] == pytest.approx([58.92] * 4, abs=0.01)  # the highest value there is
    # The world is 2 levels brighter after each step, and the stand-in's reconstruction 10 levels too bright.
    assert scores["copy_psnr_db"] == pytest.approx([20 * math.log10(255 / (2 * n)) for n in (1, 4, 8, 16)], abs=0.01)
    assert scores["reconstruction_psnr_db"] == pytest.approx([20 * math.log10(25.5)] * 4, abs=0.01)


def test_open_loop_says_when_no_episode_is_long_enough(tmp_path, world):
    store = recorded_store(tmp_path, lengths=(20,))
    with pytest.raises(ValueError, match="23 steps"):
        open_loop(world, store, "all", 4, 8, temperature=1.0)


def test_a_fresh_model_needs_the_bits_of_a_uniform_guess_and_is_deaf_to_actions(store):
    fresh = WorldModel(tiny_config()).prepare(torch.float32)
    scores = dynamics_scores(fresh, encode_segments(fresh, store, "test", 100))
    assert scores["bits_per_code"] == pytest.approx(math.log2(16), abs=1e-5)
    assert scores["shuffled_action_ratio"] == pytest.approx(1.0, abs=1e-5)
    assert scores["steps"] == 40


# --- speed


def test_dream_speed_is_steps_of_all_rows_over_the_time_they_took(store, world, monkeypatch):
    clock = iter([10.0, 12.0, 20.0, 28.0])  # two seconds without frames, eight with them
    monkeypatch.setattr(measure, "perf_counter", lambda: next(clock))
    speeds = dream_speed(world, encode_segments(world, store, "test", 100), rows=4, num_steps=6)
    assert speeds == {"rows": 4, "env_steps_per_second": 12.0, "env_steps_per_second_with_frames": 3.0}

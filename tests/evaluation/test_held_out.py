"""Scores of a world model on a store: stand-ins with known scores, and the toy model."""

import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.clips import CLIP, clip_world
from tests.dynamics.worlds import make_world
from tests.pixelcnn_world import pixelcnn_world
from tests.tiny import tiny_config, tiny_world
from tests.training.recorded import recorded_store
from tests.training.stand_ins import PixelTokenizer, known_batch
from worldmodel.data import ActionSpec, Episode, EpisodeStorage, StoreInfo
from worldmodel.data.clips import sample_frames
from worldmodel.data.facts import dataset_facts
from worldmodel.data.mirror import mirror
from worldmodel.data.regroup import regroup
from worldmodel.evaluation import held_out as measure
from worldmodel.evaluation.held_out import (
    change_scores,
    dream_speed,
    dynamics_scores,
    encode_segments,
    held_out_segments,
    plays_of_steps,
    tokenizer_scores,
)
from worldmodel.model import WorldModel
from worldmodel.tokenizer import FrameVQVAE, FrameVQVAEConfig, HierarchicalVQVAE, HierarchicalVQVAEConfig

# --- data


def test_facts_of_a_data_set_equal_hand_counts(tmp_path):
    facts = dataset_facts(recorded_store(tmp_path, lengths=(10, 14)))
    assert facts["episodes"] == 2 and facts["steps"] == 24
    assert facts["actions"] == {"noop": 4 + 5, "left": 3 + 5, "right": 3 + 4}
    assert facts["positive_rewards"] == 4 and facts["negative_rewards"] == 3  # times 4, 9 twice; 6 twice and 13
    assert facts["return_mean"] == pytest.approx((3.0 + 2.0) / 2)
    assert facts["return_half_width"] == pytest.approx(12.706 * math.sqrt(0.5 / 2), abs=1e-3)
    assert (facts["terminated"], facts["truncated"]) == (2, 0)
    assert facts["frame_size"] == [16, 16, 3]


def test_the_interval_of_the_returns_counts_a_mirrored_recording_once(tmp_path):
    store = recorded_store(tmp_path / "data", lengths=(10, 14, 21))
    facts, twice = dataset_facts(store), dataset_facts(mirror(store, tmp_path / "twice", swap=["left=right"]))
    for name in ("return_mean", "return_half_width"):
        assert twice[name] == pytest.approx(facts[name])


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


@pytest.mark.parametrize("temporal", ["clip", "causal"])
def test_segments_of_a_tokenizer_of_clips_are_whole_clips(tmp_path, temporal):
    world = clip_world(temporal)
    batch = encode_segments(world, recorded_store(tmp_path, lengths=(2, 3, 8)), "all", 100)
    # 3 + 8 transitions count; the episode of 2 holds no clip.
    assert batch.codes.shape[1] == CLIP and int(batch.padding_mask.sum()) == 11
    assert int(batch.terminated[batch.padding_mask].sum()) == 2


def test_segments_fit_a_limited_context(store):
    world = make_world("block", "learned", max_steps=6, window=6)
    batch = encode_segments(world, store, "test", 100)
    assert batch.actions.shape[1] == 5 and dynamics_scores(world, batch, batch)["steps"] == 40


@pytest.mark.parametrize("temporal", ["clip", "causal"])
def test_tokenizers_of_clips_are_scored_over_whole_clips(store, temporal):
    world = clip_world(temporal)
    assert tokenizer_scores(world, store, "test", 10)["steps"] == 8  # two clips
    assert 0.0 < change_scores(world, store, "test", 10)["nmse_unchanged"] < 100.0


@pytest.mark.parametrize(
    ("kind", "config", "frames"),
    [
        (FrameVQVAE, FrameVQVAEConfig(height=16, width=16, frames_per_step=2, stage_widths=(4, 256)), 2),
        (HierarchicalVQVAE, HierarchicalVQVAEConfig(height=16, width=16, clip_steps=3, stage_widths=(4, 8)), 4),
    ],
)
def test_tokenizers_of_the_other_papers_are_scored(store, tmp_path, kind, config, frames):
    torch.manual_seed(0)
    play = EpisodeStorage.open(regroup(store, tmp_path / "play", frames))
    wm = SimpleNamespace(tokenizer=kind(config).eval(), device=torch.device("cpu"))
    scores = tokenizer_scores(wm, play, "test", 12)
    assert scores["steps"] == 12 and scores["nmse"] > 0 and scores["psnr_db"] > 0
    changes = change_scores(wm, play, "test", 12)
    assert 0 <= changes["changed_share"] <= 1 and changes["nmse_unchanged"] > 0


def test_an_empty_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no episode to measure on"):
        known_batch(recorded_store(tmp_path, lengths=(20,)), split="validation")


# --- tokenizer


def test_a_clip_whose_given_step_is_encoded_alone_is_compared_with_the_clip_encoded_as_a_whole(store, tmp_path):
    world, fours = pixelcnn_world(), EpisodeStorage.open(regroup(store, tmp_path / "fours", 4))
    scores = tokenizer_scores(world, fours, "test", 12, seed=3)
    frames = sample_frames(fours, 4, np.random.default_rng(3), "test", 3)
    codes = world.tokenizer.encode(frames)
    codes[:, :1] = world.tokenizer.encode(frames[:, :1])
    error = (world.tokenizer.decode(codes).float() - frames.float()).square().mean() / 255**2
    wanted = float(error) / world.tokenizer.config.data_variance / scores["nmse"]
    assert scores["given_over_whole"] == pytest.approx(wanted, rel=1e-6) and abs(wanted - 1) > 1e-5
    assert "given_over_whole" not in tokenizer_scores(tiny_world(), store, "test", 12)
    clips = clip_world()  # looks at later frames, but is given none of their codes
    assert "given_over_whole" not in tokenizer_scores(clips, store, "test", 12)


def test_tokenizer_scores_of_a_constant_error_equal_hand_results(store):
    scores = tokenizer_scores(SimpleNamespace(tokenizer=PixelTokenizer(error=10), device="cpu"), store, "test", 40)
    assert scores["steps"] == 40
    assert scores["psnr_db"] == pytest.approx(20 * math.log10(25.5), abs=1e-3)
    assert scores["nmse"] == pytest.approx((10 / 255) ** 2 / 0.01, rel=1e-4)
    assert 0.5 < scores["ssim"] < 1.0


def moving_dot_store(root, big_jump_at=None):
    """Ten steps of a black picture on which a 2 x 2 white dot moves right; all turns grey at step `big_jump_at`."""
    info = StoreInfo(
        env_id="Dot", frames_per_step=2, height=16, width=16, channels=3, action=ActionSpec(kind="discrete", n=3)
    )
    frames = np.zeros((11, 2, 16, 16, 3), np.uint8)
    for t in range(11):
        frames[t, :, 4:6, t : t + 2] = 255
    if big_jump_at is not None:
        frames[big_jump_at:] = 100
    store = EpisodeStorage.create(root, info)
    store.append(
        Episode(
            frames=frames,
            actions=np.zeros(10, np.int64),
            rewards=np.zeros(10, np.float32),
            terminated=False,
            truncated=False,
            signals=np.zeros((11, 0), np.float32),
        )
    )
    return store


class Forgetful:
    """A tokenizer that returns a black picture for any input."""

    config = SimpleNamespace(data_variance=0.5, temporal="step", piece_steps=1)

    def encode(self, frames):
        return frames

    def decode(self, codes):
        return torch.zeros_like(codes)


def test_change_scores_show_a_small_lost_dot_that_the_mean_hides(tmp_path):
    model = SimpleNamespace(tokenizer=Forgetful(), device="cpu")
    scores = change_scores(model, moving_dot_store(tmp_path), "all", 50)
    # A step changes 2 x 1 pixels in front of the dot, white in the later frame, and 2 x 1 behind it, black there.
    assert scores["changed_share"] == pytest.approx(4 / 256)
    assert scores["nmse_changed"] == pytest.approx(0.5 / 0.5)
    assert scores["nmse_unchanged"] == pytest.approx(2 / 252 / 0.5, rel=1e-4)  # the dot's overlap with itself
    assert scores["small_steps"] == 50 and scores["nmse_changed_small"] == scores["nmse_changed"]


def test_steps_in_which_everything_changes_are_not_small(tmp_path):
    model = SimpleNamespace(tokenizer=Forgetful(), device="cpu")
    scores = change_scores(model, moving_dot_store(tmp_path, big_jump_at=1), "all", 50)
    assert 0 < scores["changed_share"] < 0.5
    assert scores["small_steps"] == 0 and scores["nmse_changed_small"] is None
    assert scores["nmse_changed"] == pytest.approx((100 / 255) ** 2 / 0.5, rel=0.01)


def changing_store(root, pixels):
    """Twenty steps in each of which `pixels` of the 256 turn from black to white or back."""
    store = recorded_store(root, lengths=())
    frames = np.zeros((21, 2, 256, 3), np.uint8)
    frames[1::2, :, :pixels] = 255
    blank = {"actions": np.zeros(20, np.int64), "rewards": np.zeros(20, np.float32)}
    signals = np.zeros((21, 1), np.float32)
    frames = frames.reshape(21, 2, 16, 16, 3)
    store.append(Episode(frames=frames, signals=signals, terminated=False, truncated=True, **blank))
    return store


@pytest.mark.parametrize(("pixels", "small_steps"), [(25, 20), (26, 0)])
def test_a_step_is_small_if_at_most_a_tenth_of_its_pixels_change(tmp_path, pixels, small_steps):
    scores = change_scores(
        SimpleNamespace(tokenizer=Forgetful(), device="cpu"), changing_store(tmp_path, pixels), "all", 20
    )
    assert scores["changed_share"] == pytest.approx(pixels / 256)
    assert scores["small_steps"] == small_steps


# --- recordings of steps


@pytest.mark.parametrize("max_segments", [4, 100])
def test_each_step_that_counts_knows_its_recording(tmp_path, max_segments):
    world, store = tiny_world(), recorded_store(tmp_path, lengths=(3, 17, 40))
    batch = encode_segments(world, store, "all", max_segments, 5)
    plays = plays_of_steps(world, store, "all", max_segments, 5, batch)
    found = batch.signals[:, 1:][batch.padding_mask].numpy()  # falls from 100 to 0, at another pace in each episode
    assert len(plays) == len(found)
    if max_segments == 100:
        assert np.bincount(plays).tolist() == [3, 17, 40]
    for play in np.unique(plays):
        assert np.isin(found[plays == play], store.signals(int(play))).all()


# --- dynamics


def test_an_untrained_model_needs_the_bits_of_a_uniform_guess_and_ignores_actions(store):
    fresh = WorldModel(tiny_config()).prepare(torch.float32)
    held_out = encode_segments(fresh, store, "test", 100)
    scores = dynamics_scores(fresh, held_out, held_out)
    assert scores["bits_per_code"] == pytest.approx(math.log2(16), abs=1e-5)
    assert scores["shuffled_action_ratio"] == pytest.approx(1.0, abs=1e-5)
    assert scores["steps"] == 40


def test_dynamics_are_scored_per_frame_and_compared_with_copying_and_uniform_guesses(store):
    fresh = WorldModel(tiny_config()).prepare(torch.float32)  # 2 x 2 x 2 codes for 2 frames
    held_out = encode_segments(fresh, store, "test", 100)
    held_out.codes[:] = torch.arange(held_out.codes.shape[1])[None, :, None, None, None] // 2  # equal in pairs of steps
    scores = dynamics_scores(fresh, held_out, held_out)
    assert scores["codes_per_frame"] == 4.0
    assert scores["bits_per_frame"] == pytest.approx(4 * math.log2(16), abs=1e-4)
    assert scores["uniform_bits_per_code"] == 4.0
    p = scores["codes_kept"]
    assert p == pytest.approx(0.5, abs=0.05)
    expected = -p * math.log2(p) - (1 - p) * math.log2((1 - p) / 15)
    assert scores["copy_bits_per_code"] == pytest.approx(expected, rel=1e-5)


def test_codes_that_always_stay_have_no_cost_of_copying(store):
    fresh = WorldModel(tiny_config()).prepare(torch.float32)
    still = encode_segments(fresh, store, "test", 100)
    still.codes[:] = 3
    scores = dynamics_scores(fresh, still, still)
    assert scores["codes_kept"] == 1.0 and "copy_bits_per_code" not in scores


# --- speed


def test_dream_speed_is_steps_of_all_rows_over_the_time_they_took(store, world, monkeypatch):
    clock = iter([10.0, 12.0, 20.0, 28.0])  # two seconds without frames, eight with them
    monkeypatch.setattr(measure, "perf_counter", lambda: next(clock))
    speeds = dream_speed(world, encode_segments(world, store, "test", 100), rows=4, num_steps=6)
    assert speeds == {"rows": 4, "env_steps_per_second": 12.0, "env_steps_per_second_with_frames": 3.0}

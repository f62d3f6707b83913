"""Drawing clips: all different while possible, spread over the episodes, and other clips for the floor."""

import tracemalloc
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.makers import INFO, make_episode, make_store
from tests.tiny import tiny_world
from tests.training.recorded import recorded_store
from tests.training.telling_store import telling_store
from worldmodel.data import EpisodeStorage, SegmentId, clips
from worldmodel.data.clips import draw_clips, other_clips, pixel_statistics, sample_frames
from worldmodel.evaluation.open_loop import open_loop
from worldmodel.training.show.sample_inputs import real_clips


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """40 episodes of 8 steps, 4 of them for the test."""
    return recorded_store(tmp_path_factory.mktemp("play"), lengths=(8,) * 40)


@pytest.fixture(scope="module")
def long_play(tmp_path_factory):
    return recorded_store(tmp_path_factory.mktemp("long"), lengths=(40,) * 30)


def draw(store, n, steps, seed=0, split="all"):
    return draw_clips(store, n, steps, np.random.default_rng(seed), split)


def test_every_episode_gives_a_clip_before_one_gives_a_second(play):
    for seed in range(5):
        clips = draw(play, 100, 5, seed)  # of 40 episodes with 4 starts each
        assert len({clip.episode for clip in clips[:40]}) == len({clip.episode for clip in clips[40:80]}) == 40
        assert len(set(clips)) == 100 and all(clip.stop - clip.start == 5 for clip in clips)
    assert {clip.start for clip in clips} == {0, 1, 2, 3}
    assert draw(play, 9, 5, seed=1) == draw(play, 9, 5, seed=1) != draw(play, 9, 5, seed=2)


def test_short_episodes_give_no_clip_and_long_ones_give_several(tmp_path):
    store = recorded_store(tmp_path, lengths=(4, 6, 9))
    assert Counter(clip.episode for clip in draw(store, 7, 5)) == {1: 2, 2: 5}


def test_clips_repeat_only_after_all_have_been_drawn(play):
    clips = draw(play, 90, 8)
    assert Counter(clips) == Counter(clips[:40]) + Counter(clips[40:80]) + Counter(clips[80:])
    assert len(set(clips[:40])) == 40 and clips[40:80] == clips[:40]


def test_a_split_without_episodes_that_are_long_enough_is_refused(play):
    with pytest.raises(ValueError, match=r"no segment of 9 steps .* longest of these has 8 steps"):
        draw(play, 2, 9)


def test_the_floor_comes_from_other_episodes_of_the_same_split(play):
    for seed in range(5):
        real = draw(play, 2, 8, seed, "test")
        segments, source = other_clips(play, real, 6, np.random.default_rng(seed), "test")
        assert source == "of 2 other episodes" and len(set(segments)) == 2
        episodes = {segment.episode for segment in segments}
        assert episodes <= set(play.split("test")) - {clip.episode for clip in real}


def test_a_floor_from_the_same_episodes_says_so_and_shares_no_frame_with_the_real_clips(tmp_path):
    store = recorded_store(tmp_path, lengths=(30,))
    real = [SegmentId(0, 10, 15), SegmentId(0, 10, 15)]
    seen = set()
    for seed in range(40):
        segments, source = other_clips(store, real, 3, np.random.default_rng(seed), "all")
        assert source.startswith("of 1 episode, most of them the same")
        seen |= {(start, stop) for _, start, stop in segments}
    assert seen == {(start, start + 3) for start in [*range(7), *range(16, 28)]}


def test_with_too_few_other_clips_there_is_no_floor(play):
    real = draw(play, 4, 8, split="test")
    assert other_clips(play, real, 8, np.random.default_rng(0), "test") == (
        [],
        "split 'test' holds only 0 other clips of 8 steps; ask for fewer samples",
    )


def test_dreams_and_samples_are_compared_with_different_clips(tmp_path):
    store = telling_store(tmp_path, steps=6, episodes=30)  # 3 for the test
    dreams = open_loop(tiny_world(), store, "test", 3, 2, temperature=1.0, num_steps=5)
    assert {segment.episode for segment in dreams.segments} == set(store.split("test"))
    assert torch.equal(dreams.real, store.batch(dreams.segments).frames)
    assert {clip.episode for clip in real_clips(store, 3, 7, "test", seed=4)} == set(store.split("test"))


def test_two_views_of_an_episode_count_as_one(tmp_path):
    store = make_store(tmp_path / "views", (8,) * 8, replace(INFO, views=2))
    assert store.plays.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    for seed in range(5):
        real = draw(store, 2, 5, seed)
        assert len({clip.episode // 2 for clip in real}) == 2
        floor = other_clips(store, real, 5, np.random.default_rng(seed), "all")
        assert not {clip.episode // 2 for clip in floor.segments} & {clip.episode // 2 for clip in real}
        real = draw(store, 4, 2, seed)  # all episodes are used: the floor has the same ones, at other times
        near = other_clips(store, real, 2, np.random.default_rng(seed), "all")
        moments = {(clip.episode // 2, t) for clip in real for t in range(clip.start, clip.stop + 1)}
        taken = {(clip.episode // 2, t) for clip in near.segments for t in range(clip.start, clip.stop + 1)}
        assert taken and not moments & taken


def test_pixel_statistics_are_those_of_the_training_frames(long_play):
    mean, variance = pixel_statistics(long_play)
    frames = np.concatenate([long_play.frames(int(e)) for e in long_play.split("train")])
    assert mean == pytest.approx([frames.mean() / 255] * 3, rel=0.05)
    assert variance == pytest.approx(frames.var() / 255**2, rel=0.1)


def test_pixel_statistics_of_large_frames_need_little_memory(long_play, monkeypatch):
    whole, at_once = pixel_statistics(long_play), 2**17
    monkeypatch.setattr(clips, "_AT_ONCE", at_once)
    tracemalloc.start()
    mean, variance = pixel_statistics(long_play)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mean == whole[0] and variance == pytest.approx(whole[1], rel=1e-12)
    assert peak < 3 * 8 * at_once < 8 * 2000 * 2 * 16 * 16 * 3 / 4  # all of them as float64


def test_frames_of_one_brightness_are_refused(tmp_path):
    dark = make_episode(4)
    with EpisodeStorage.create(tmp_path, INFO) as store:
        store.append(replace(dark, frames=np.full_like(dark.frames, 7)))
    with pytest.raises(ValueError, match=r"all pixels of 2,000 steps of .* are 7, so there is nothing to learn"):
        pixel_statistics(store)


def test_sampled_frames_come_from_their_split(long_play):
    frames = sample_frames(long_play, 64, np.random.default_rng(0), "validation")
    assert frames.shape == (64, 1, 2, 16, 16, 3)
    wanted = {
        long_play.frames(int(e)).tobytes()[i * 1536 : (i + 1) * 1536]
        for e in long_play.split("validation")
        for i in range(41)
    }
    assert all(frame.numpy().tobytes() in wanted for frame in frames[:, 0])


def test_sampled_clips_are_steps_in_a_row_and_reach_both_ends(long_play):
    clips = sample_frames(long_play, 2000, np.random.default_rng(0), "train", 38)
    assert clips.shape == (2000, 38, 2, 16, 16, 3)
    brightness = clips[:, :, 0, 0, 0, 0].int()
    assert (brightness.diff(dim=1) == 2).all()
    assert brightness[:, 0].unique().tolist() == [0, 2, 4, 6]  # an episode has 41 steps


def test_episodes_shorter_than_a_clip_are_left_out(tmp_path):
    store = recorded_store(tmp_path / "mixed", lengths=(4, 12) * 10)
    clips = sample_frames(store, 50, np.random.default_rng(0), "train", 8)
    assert (clips[:, :, 0, 0, 0, 0].int().diff(dim=1) == 2).all()
    with pytest.raises(ValueError, match="as long as a clip of 14 steps; the longest has 13"):
        sample_frames(store, 1, np.random.default_rng(0), "train", 14)

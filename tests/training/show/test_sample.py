"""Sampled videos: what the model is given on each path, where it is in the grid, and what is recorded of it."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.clips import clip_world
from tests.dynamics.worlds import make_frames
from tests.pixelcnn_world import pixelcnn_world
from tests.tiny import tiny_world
from tests.training.recorded import ACTIONS, recorded_store
from worldmodel.data import EpisodeStorage
from worldmodel.data.regroup import regroup
from worldmodel.dynamics import FrameEncoderConfig
from worldmodel.media.read import images_per_second
from worldmodel.media.write import BACKGROUND, CAPTION_HEIGHT, CONTEXT_COLOR, PREDICTION_COLOR, UNSEEN_COLOR
from worldmodel.training.show.sample import SampleConfig, Samples, draw_grid, draw_strip, sample_videos

CONFIG = SampleConfig(n=3, steps=4, scale=1)
SIDE = 16 + 2 * 2  # of a frame with its border


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return recorded_store(tmp_path_factory.mktemp("store") / "data", lengths=(20,) * 20)


@pytest.fixture(scope="module")
def world():
    """Makes video on all four paths."""
    encoder = FrameEncoderConfig(width=8, depths=(1, 1, 1))
    options = {"learn_start": True, "drop_actions": 0.1, "drop_frames": 0.1, "frame_condition": 1}
    return tiny_world(frame_encoder=encoder, **options)


def encoded(world, frames):
    return world.tokenizer.decode(world.tokenizer.encode(torch.as_tensor(frames))).numpy()


def test_from_nothing(tmp_path, world):
    samples = sample_videos(world, tmp_path / "a.gif", CONFIG)
    assert samples.condition == "none" and samples.frames.shape == (3, 4, 2, 16, 16, 3)
    assert samples.given_steps == 0 and samples.real is None and samples.actions is None
    assert (samples.frames == world.sample(3, 4).frames.numpy()).all()
    assert [file.name for file in samples.files] == ["a.gif", "a.json"]


@pytest.mark.parametrize("subscale", [(1, 2, 2), (2, 2, 2)])
def test_a_model_of_one_clip_makes_that_clip_by_default(tmp_path, store, subscale):
    world = tiny_world(net="subscale", frames_alone=True, subscale=subscale, clip_frames=8, kernel=(1, 3, 3))
    samples = sample_videos(world, tmp_path / "a.gif", SampleConfig(n=2, scale=1), data=store)
    assert samples.condition == "both" and samples.frames.shape[:2] == (2, 4)
    wanted = world.sample(2, 4, samples.real[:, :1], samples.recorded)
    assert (samples.frames == wanted.frames.numpy()).all()


def test_clips_that_read_actions_alone_take_them_from_a_store(tmp_path, store):
    samples = sample_videos(clip_world(learn_start=True), tmp_path / "a.gif", SampleConfig(n=1, scale=1), data=store)
    assert samples.condition == "actions" and samples.given_steps == 0


def test_single_frames_have_no_end_of_a_clip(tmp_path, store):
    world = tiny_world(net="subscale", frames_alone=True)
    samples = sample_videos(world, tmp_path / "a.gif", SampleConfig(n=1, scale=1), data=store)
    assert samples.frames.shape[:2] == (1, 16) and samples.given_steps == 1
    assert (samples.frames == world.sample(1, 16, samples.real[:, :1], samples.recorded).frames.numpy()).all()


def test_a_hierarchy_continues_the_first_recorded_step(tmp_path, store):
    world, fours = pixelcnn_world(), EpisodeStorage.open(regroup(store, tmp_path / "fours", 4))
    samples = sample_videos(world, tmp_path / "a.gif", SampleConfig(n=2, scale=1), data=fours)
    assert samples.condition == "both" and samples.frames.shape == (2, 3, 4, 16, 16, 3)
    assert (samples.frames == world.sample(2, 3, samples.real[:, :1], samples.recorded).frames.numpy()).all()
    with pytest.raises(ValueError, match=r"begins: pass first frames. On the command line: first frames \(--data"):
        sample_videos(world, tmp_path / "b.gif", SampleConfig(n=1))


def test_from_the_users_first_frames(tmp_path, world):
    frames = make_frames(3).numpy()
    samples = sample_videos(world, tmp_path / "a.gif", replace(CONFIG, given_steps=2), frames=frames)
    assert samples.condition == "frames" and samples.given_steps == 2
    assert (samples.frames[:, :2] == encoded(world, frames)).all()
    assert (samples.frames == world.sample(3, 4, first_frames=frames).frames.numpy()).all()


def test_from_actions_alone_which_also_decide_the_number_of_steps(tmp_path, world):
    samples = sample_videos(world, tmp_path / "a.gif", SampleConfig(n=2, scale=1), actions="left*3 right*2")
    assert samples.condition == "actions" and samples.frames.shape[:2] == (2, 6)
    assert samples.actions.tolist() == [[1, 1, 1, 2, 2]] * 2
    assert (samples.frames == world.sample(2, 6, actions=samples.actions).frames.numpy()).all()


def test_a_store_provides_first_frames_and_recorded_actions(tmp_path, world, store):
    samples = sample_videos(world, tmp_path / "a.gif", replace(CONFIG, given_steps=2), data=store)
    assert samples.condition == "both"
    batch = store.batch(samples.segments)
    assert (samples.real == batch.frames.numpy()).all() and (samples.actions == batch.actions.numpy()).all()
    again = world.sample(3, 4, first_frames=batch.frames[:, :2], actions=batch.actions)
    assert (samples.frames == again.frames.numpy()).all()


def test_chosen_actions_begin_where_the_recorded_steps_end(tmp_path, world, store):
    config = SampleConfig(n=3, given_steps=3, scale=1)
    samples = sample_videos(world, tmp_path / "a.gif", config, data=store, actions=["left*2"])
    assert samples.actions.shape == (3, 4)
    assert (samples.actions[:, :2] == samples.recorded[:, :2]).all() and (samples.actions[:, 2:] == 1).all()
    assert samples.recorded.shape == (3, 4) and (samples.recorded[:, 2:] != 1).any()


def test_many_videos_are_those_of_small_runs(tmp_path, world, monkeypatch):
    whole = sample_videos(world, tmp_path / "a.gif", replace(CONFIG, n=5, seed=7)).frames
    monkeypatch.setattr("worldmodel.evaluation.scores.CHUNK", 2)
    assert (sample_videos(world, tmp_path / "a.gif", replace(CONFIG, n=5, seed=7)).frames == whole).all()
    assert (sample_videos(world, tmp_path / "a.gif", replace(CONFIG, n=1, seed=9)).frames[0] == whole[2]).all()


def test_the_json_file_says_how_to_reproduce_the_videos(tmp_path, world, store):
    folder = world.save_pretrained(tmp_path / "world")
    config = replace(CONFIG, seed=5, temperature=0.5, guidance=2.0)
    samples = sample_videos(folder, tmp_path / "a.gif", config, data=store.root, device="cpu", command="the command")
    about = json.loads((tmp_path / "a.json").read_text())
    assert about["command"] == "the command" and about["model"] == str(folder) and about["condition"] == "both"
    assert about["seeds"] == [5, 6, 7] and about["options"] == asdict(config) and about["given_steps"] == 1
    assert about["data"] == store.folders and about["actions"] == samples.actions.tolist()
    assert [list(s.values()) for s in about["segments"]] == [list(s) for s in samples.segments]


def test_an_old_file_is_replaced_and_a_failure_leaves_it(tmp_path, world):
    path = tmp_path / "a.gif"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="needs first frames"):
        sample_videos(world, path, replace(CONFIG, condition="frames"))
    assert path.read_bytes() == b"old"
    sample_videos(world, path, CONFIG)
    assert path.read_bytes()[:3] == b"GIF"


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        ({}, {"frames": np.zeros((2, 8, 8, 3), np.uint8)}, "16, 16, 3"),
        ({}, {"actions": "left*2"}, "need 3 actions, got 2; give more, or set steps to 3"),
        ({}, {"actions": np.zeros((2, 3), np.int64)}, "for each of the 3, got 2 rows"),
        ({"given_steps": 2}, {}, "given_steps 2 are for videos that begin with first frames, .* from nothing"),
        ({"given_steps": 5}, {"frames": np.zeros((10, 16, 16, 3), np.uint8)}, "at most steps = 4, got 5"),
        ({"condition": "none", "guidance": 2.0}, {}, "guidance 2.0 needs"),
    ],
)
def test_mistakes_are_reported(tmp_path, world, changes, given, message):
    with pytest.raises(ValueError, match=message):
        sample_videos(world, tmp_path / "a.gif", replace(CONFIG, **changes), **given)
    assert list(tmp_path.iterdir()) == []


def test_mistakes_with_stores_and_endings_are_reported(tmp_path, world, store):
    with pytest.raises(ValueError, match=r"\.mp4, \.gif or \.webp"):
        sample_videos("no-such-model", tmp_path / "a.avi")
    with pytest.raises(ValueError, match="not from both"):
        sample_videos(world, tmp_path / "a.gif", CONFIG, data=store, frames=make_frames(3).numpy())
    small = recorded_store(tmp_path / "gray", channels=1)
    with pytest.raises(ValueError, match=r"frames of a step .* is \(2, 16, 16, 1\)"):
        sample_videos(world, tmp_path / "a.gif", CONFIG, data=small)


@pytest.mark.parametrize(
    "bad", [{"n": 0}, {"steps": 1}, {"given_steps": 0}, {"fps": 0.0}, {"condition": "all"}], ids=str
)
def test_impossible_options_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        SampleConfig(**bad)


# Pictures


def flat_samples(real: bool, given_steps: int = 2, actions: bool = True, channels: int = 3, n: int = 4) -> Samples:
    """n videos of 4 steps; real pixels are 200, sampled ones 100."""
    shape = (n, 4, 2, 16, 16, channels)
    shown, taken = np.full(shape, 100, np.uint8), np.ones((n, 3), np.int64)
    known = taken if actions else None
    clips, recorded = (np.full(shape, 200, np.uint8), taken * 0) if real else (None, None)
    return Samples(shown, "both", given_steps, known, clips, recorded, [], [])


def test_the_grid_shows_real_beside_sampled_and_marks_the_context():
    grid = draw_grid(flat_samples(real=True), ACTIONS, replace(CONFIG, columns=2))
    cell_height, cell_width = SIDE + CAPTION_HEIGHT, 2 * SIDE + 2
    assert grid.shape == (8, 2 * cell_height + 6, 2 * cell_width + 6, 3)
    for top in (0, cell_height + 6):
        for left in (0, cell_width + 6):
            real = grid[:, top : top + SIDE, left : left + SIDE]
            sampled = grid[:, top : top + SIDE, left + SIDE + 2 : left + cell_width]
            assert (real[:, 2:-2, 2:-2] == 200).all() and (sampled[:, 2:-2, 2:-2] == 100).all()
            for corner in (real[:, 0, 0], real[:, -1, -1], sampled[:, 1, 1], sampled[:, -1, -1]):
                assert (corner[:4] == CONTEXT_COLOR).all()
            assert (real[4:, 1] == UNSEEN_COLOR).all() and (sampled[4:, 1] == PREDICTION_COLOR).all()


def test_the_action_that_led_to_the_step_is_below_a_video():
    grid = draw_grid(flat_samples(real=False, n=1), ACTIONS, replace(CONFIG, scale=4))
    inked = (grid[:, 16 * 4 + 4 :] != BACKGROUND).any(axis=(1, 2, 3))
    assert inked.tolist() == [False] * 2 + [True] * 6  # nothing led to the first step
    other = flat_samples(real=False, n=1)
    other.actions[0, 1] = 2
    changed = draw_grid(other, ACTIONS, replace(CONFIG, scale=4)) != grid
    assert changed.any(axis=(1, 2, 3)).tolist() == [False] * 4 + [True] * 2 + [False] * 2


def test_without_actions_there_is_no_strip_of_text_and_gray_becomes_rgb():
    grid = draw_grid(flat_samples(real=False, given_steps=0, actions=False, channels=1), ACTIONS, CONFIG)
    assert grid.shape == (8, 2 * SIDE + 6, 2 * SIDE + 6, 3)
    assert (grid[:, 0, 0] == PREDICTION_COLOR).all() and (grid[:, 5, 5] == 100).all()


def test_recorded_actions_are_shown_beside_videos_without_known_actions():
    grid = draw_grid(flat_samples(real=True, actions=False, n=1), ACTIONS, replace(CONFIG, scale=4))
    side = 16 * 4 + 4
    inked = (grid[-1, side:] != BACKGROUND).any(axis=(0, 2))
    assert inked[:side].any() and not inked[side:].any()


def test_the_film_strip_has_a_video_per_row_and_a_step_per_column():
    strip = draw_strip(flat_samples(real=True, n=2), scale=1)
    pitch = SIDE + 2
    assert strip.shape == (4 * pitch - 2, 4 * pitch - 2, 3)
    assert [int(strip[row * pitch + 8, 8, 0]) for row in range(4)] == [200, 100, 200, 100]
    assert [tuple(strip[pitch, column * pitch]) for column in range(4)] == [CONTEXT_COLOR] * 2 + [PREDICTION_COLOR] * 2


def test_the_film_strip_shows_the_last_frame_of_each_step():
    samples = flat_samples(real=False, n=1)
    samples.frames[:, :, 1] = np.arange(4, dtype=np.uint8)[:, None, None, None]
    strip = draw_strip(samples, scale=1)
    assert strip[8, 8 :: SIDE + 2, 0].tolist() == [0, 1, 2, 3]


def test_the_film_strip_is_written_on_request(tmp_path, world, store):
    samples = sample_videos(world, tmp_path / "a.gif", replace(CONFIG, strip=True), data=store)
    with Image.open(tmp_path / "a.png") as picture:
        assert (np.asarray(picture) == draw_strip(samples, 1)).all()
    assert "a.png" in json.loads((tmp_path / "a.json").read_text())["files"]


def test_a_split_without_a_store_is_refused(tmp_path, world):
    with pytest.raises(ValueError, match=r"split 'train' does nothing without a store \(--data\)"):
        sample_videos(world, tmp_path / "a.gif", replace(CONFIG, split="train"))


@pytest.mark.parametrize(("fps", "shown"), [(None, 6.0), (25, 25.0)])
def test_videos_have_the_speed_of_their_game_or_the_requested_one(tmp_path, fps, shown):
    world = tiny_world(learn_start=True, drop_actions=0.1)
    world.config = replace(world.config, steps_per_second=3.0)  # of two frames each
    sample_videos(world, tmp_path / "a.mp4", replace(CONFIG, condition="none", steps=6, fps=fps))
    assert images_per_second(tmp_path / "a.mp4") == pytest.approx(shown, rel=0.05)


def test_the_legend_explains_the_colours(tmp_path, world, store):
    legend = str(sample_videos(world, tmp_path / "a.gif", CONFIG, data=store))
    assert "condition: both" in legend and "blue: the context step;" in legend and "left: real episodes" in legend
    again = str(sample_videos(world, tmp_path / "a.gif", replace(CONFIG, n=99, columns=9), data=store))
    assert "such clips, so some are repeated" in again and "again" not in legend
    assert "blue" not in str(sample_videos(world, tmp_path / "a.gif", CONFIG))

"""The inputs of a video: the condition, and first frames and actions from files and words."""

import re
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from tests.dynamics.worlds import make_frames
from tests.pixelcnn_world import two_levels
from tests.tiny import tiny_config
from tests.training.recorded import ACTIONS, game, recorded_store
from worldmodel.data import ActionSpec, EpisodeStorage
from worldmodel.data.regroup import regroup, regroup_action
from worldmodel.dynamics import GPTConfig, Sampling
from worldmodel.media.resize import area_resize
from worldmodel.media.write import write_video
from worldmodel.training.show.sample_inputs import (
    action_text,
    check_same_game,
    choose_condition,
    read_actions,
    read_first_frames,
    real_clips,
)

CONFIG = tiny_config()
PUSHES = ActionSpec(kind="box", n=2, low=(-1.0, -1.0), high=(1.0, 1.0))
VERSATILE = GPTConfig(learn_start=True, drop_actions=0.1, drop_frames=0.1, frame_condition=1)
ONE_STEP = make_frames(1, 1).numpy()[0]  # (1, 2, 16, 16, 3)
IMAGES = make_frames(1, 3).numpy().reshape(6, 16, 16, 3)


# Conditions


def choose(asked="auto", model=VERSATILE, sampling=Sampling(), **given):  # noqa: B008 (frozen)
    return choose_condition(asked, model, sampling, **{name: name in given for name in ("data", "frames", "actions")})


@pytest.mark.parametrize(
    ("given", "condition"),
    [
        ((), "none"),
        (("frames",), "frames"),
        (("actions",), "actions"),
        (("frames", "actions"), "both"),
        (("data",), "both"),
        (("data", "actions"), "both"),
    ],
)
def test_all_given_inputs_are_used(given, condition):
    assert choose(**dict.fromkeys(given)) == condition


def test_a_store_provides_the_inputs_that_the_model_uses():
    assert choose(model=replace(VERSATILE, action_condition="none"), data=True) == "frames"
    assert choose(model=GPTConfig(), data=True) == "both"


def test_models_of_clips_that_read_no_frames_are_not_given_any():
    choose_for = partial(choose_condition, "auto", VERSATILE, Sampling(), frames=False, reads_frames=False)
    assert choose_for(data=True, actions=False) == "actions"
    assert choose_for(data=False, actions=False) == "none"
    with pytest.raises(ValueError, match="reads no first frames"):
        choose_condition("frames", VERSATILE, Sampling(), True, False, False, reads_frames=False)


def test_the_setting_that_a_model_lacks_is_named_with_the_options_that_help():
    with pytest.raises(ValueError, match=r"learn_start=True.*--data STORE or --frames FILE"):
        choose(model=GPTConfig())
    with pytest.raises(ValueError, match="drop_actions > 0"):
        choose("frames", model=GPTConfig(), data=True)
    with pytest.raises(ValueError, match="guidance 3"):
        choose(sampling=Sampling(guidance=3.0))


@pytest.mark.parametrize(
    ("asked", "given", "message"),
    [
        ("both", ("frames",), "needs actions"),
        ("frames", ("actions",), "needs first frames"),
        ("frames", ("frames", "actions"), "ignores --actions"),
        ("none", ("frames",), "ignores --frames"),
        ("none", ("data",), "ignores --data"),
        ("actions", ("data", "actions"), "ignores --data"),
    ],
)
def test_missing_or_ignored_inputs_are_refused(asked, given, message):
    with pytest.raises(ValueError, match=message):
        choose(asked, **dict.fromkeys(given))


# Stores


def test_a_store_of_another_game_is_refused(tmp_path):
    store = recorded_store(tmp_path / "data")
    check_same_game(CONFIG, store)
    check_same_game(replace(CONFIG, env_id=""), store)  # a model that does not know
    with pytest.raises(ValueError, match="env_id is VideoGenReal-DoomHealthGathering, the model's VideoGenReal-Pong"):
        check_same_game(replace(CONFIG, env_id="VideoGenReal-Pong"), store)
    with pytest.raises(ValueError, match="its action is"):
        check_same_game(replace(CONFIG, action=PUSHES), store)
    with pytest.raises(ValueError, match=r"\(2, 16, 16, 3\), the model's \(2, 32, 16, 3\)"):
        check_same_game(replace(CONFIG, tokenizer=replace(CONFIG.tokenizer, height=32)), store)
    with pytest.raises(ValueError, match=r"learned from$"):
        check_same_game(replace(CONFIG, tokenizer=replace(CONFIG.tokenizer, height=32)), store)


def test_a_store_of_steps_of_other_frames_is_refused_with_how_to_get_them(tmp_path):
    store = recorded_store(tmp_path / "data", lengths=(4,))
    fours = replace(CONFIG, tokenizer=two_levels())
    told = r"\(2, 16, 16, 3\), the model's \(4, 16, 16, 3\); .* frames_per_step=4, .*regroup\(store, folder, 4\)"
    with pytest.raises(ValueError, match=told):
        check_same_game(fours, store)
    check_same_game(fours, EpisodeStorage.open(regroup(store, tmp_path / "fours", 4)))
    pushes = replace(fours, action=regroup_action(PUSHES, 2, 4))  # whose actions have other sizes, too
    other = EpisodeStorage.create(tmp_path / "pushes", game(PUSHES))
    with pytest.raises(ValueError, match=r"its action is .*regroup\(store, folder, 4\)"):
        check_same_game(pushes, other)
    check_same_game(pushes, other, regrouped=True)  # clips of it are cut into steps of four frames
    three = replace(fours, tokenizer=replace(CONFIG.tokenizer, frames_per_step=3))  # neither number divides the other
    with pytest.raises(ValueError, match=r"\(2, 16, 16, 3\), the model's \(3, 16, 16, 3\)"):
        check_same_game(three, store, regrouped=True)
    with pytest.raises(ValueError, match=r"env_id .* learned from$"):
        check_same_game(replace(fours, env_id="VideoGenReal-Pong"), store)


def test_real_clips_have_their_steps_and_come_from_their_split(tmp_path):
    store = recorded_store(tmp_path / "data", lengths=(12,) * 20)
    clips = real_clips(store, 9, 5, "test", seed=1)
    assert store.batch(clips).frames.shape[:2] == (9, 5)
    assert {clip.episode for clip in clips} <= set(store.split("test"))
    assert clips == real_clips(store, 9, 5, "test", seed=1) != real_clips(store, 9, 5, "test", seed=2)


# First frames


def test_images_are_joined_into_steps_and_one_row_is_used_for_all(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    frames = read_first_frames(tmp_path / "images.npy", CONFIG, 4, 2)
    assert frames.shape == (4, 2, 2, 16, 16, 3)
    assert (frames == IMAGES[:4].reshape(2, 2, 16, 16, 3)).all()


def test_rows_of_steps_are_taken_in_order(tmp_path):
    rows = make_frames(5, 2).numpy()
    np.savez(tmp_path / "rows.npz", frames=rows)
    assert (read_first_frames(tmp_path / "rows.npz", CONFIG, 3, 1) == rows[:3, :1]).all()
    assert (read_first_frames(rows.reshape(5, 4, 16, 16, 3), CONFIG, 3, 2) == rows[:3]).all()


def test_images_of_a_folder_are_ordered_by_name_and_a_single_one_is_repeated(tmp_path):
    for i, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
    assert (read_first_frames(tmp_path, CONFIG, 1, 3)[0].reshape(IMAGES.shape) == IMAGES).all()
    still = read_first_frames(tmp_path / "03.png", CONFIG, 2, 1)
    assert still.shape == (2, 1, 2, 16, 16, 3) and (still == IMAGES[3]).all()


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_videos_give_their_first_images(tmp_path, ending):
    levels = np.repeat(np.uint8([40, 80, 120, 160, 200, 240]), 16 * 16 * 3).reshape(6, 16, 16, 3)
    (path,) = write_video(tmp_path / f"clip{ending}", levels, fps=10)
    frames = read_first_frames(path, CONFIG, 1, 2)
    assert frames[0].mean(axis=(2, 3, 4)) == pytest.approx(np.array([[40, 80], [120, 160]]), abs=3)


def test_larger_images_are_shrunk_by_area(tmp_path):
    large = np.random.default_rng(0).integers(256, size=(4, 32, 48, 3), dtype=np.uint8)
    for i, image in enumerate(large):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    frames = read_first_frames(tmp_path, CONFIG, 1, 2)[0]
    assert (frames.reshape(4, 16, 16, 3) == area_resize(large, 16, 16)).all()


def test_endings_may_be_in_capitals(tmp_path):
    np.save(tmp_path / "rows.npy", IMAGES)
    (path,) = write_video(tmp_path / "clip.mp4", IMAGES, fps=10)
    for file in (tmp_path / "rows.npy", path):
        loud = file.rename(file.with_suffix(file.suffix.upper()))
        assert read_first_frames(loud, CONFIG, 1, 2).shape == (1, 2, 2, 16, 16, 3)


def test_pixels_of_other_dtypes_keep_their_brightness(tmp_path):
    np.save(tmp_path / "rows.npy", (IMAGES / 255).astype(">f4"))
    for frames in (IMAGES / 255, IMAGES.astype(int), IMAGES.astype(np.uint16) * 257, tmp_path / "rows.npy"):
        assert (read_first_frames(frames, CONFIG, 1, 3).reshape(IMAGES.shape) == IMAGES).all()


def test_conversions_are_counted(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 3
    Image.fromarray(IMAGES[0][::-1, ::-1]).save(tmp_path / "a.png", exif=turned)
    notes = Counter()
    assert (read_first_frames(tmp_path / "a.png", CONFIG, 1, 1, notes) == IMAGES[0]).all()
    assert notes == {"pictures turned upright by their EXIF orientation": 1}


def test_gray_models_are_given_gray_frames(tmp_path):
    gray = replace(CONFIG, tokenizer=replace(CONFIG.tokenizer, channels=1))
    red = np.broadcast_to(np.uint8([255, 0, 0]), (4, 16, 16, 3))
    Image.fromarray(red[0]).save(tmp_path / "red.png")
    (path,) = write_video(tmp_path / "red.mp4", red, fps=10)
    for file in (tmp_path / "red.png", path):
        frames = read_first_frames(file, gray, 1, 1)
        assert frames.shape == (1, 1, 2, 16, 16, 1) and frames.mean() == pytest.approx(76, abs=3)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (IMAGES[0], r"\(16, 16, 3\)"),
        (IMAGES[:, :8], "16, 16, 3"),
        (IMAGES * 1.0, r"floats must be in \[0, 1\]"),
        (IMAGES.transpose(0, 3, 1, 2), r"their channels seem to come first: give np\.moveaxis"),
        (IMAGES[:2], "2 context steps of 2 frames"),
        (make_frames(2, 2).numpy(), "at least 3, got 2"),
    ],
)
def test_frames_that_do_not_fit_are_refused(frames, message):
    with pytest.raises(ValueError, match=message):
        read_first_frames(frames, CONFIG, 3, 2)


def test_files_that_hold_no_frames_are_refused(tmp_path):
    (tmp_path / "empty.npy").touch()
    np.savez(tmp_path / "two.npz", a=IMAGES, b=IMAGES)
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    for name in ("clip.txt", "clip"):
        (tmp_path / name).write_text("no video")
    for name, message in (
        ("empty.npy", "holds no readable array"),
        ("two.npz", "must hold one array, got 2: a, b"),
        ("folder", "holds no pictures"),
        ("broken.mp4", "is not a film that ffmpeg can read"),
        ("clip", "ending .npy, .npz, .mp4"),
        ("clip.txt", "ending .npy, .npz, .mp4"),
    ):
        with pytest.raises(ValueError, match=message):
            read_first_frames(tmp_path / name, CONFIG, 1, 1)
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4"):
        read_first_frames(tmp_path / "gone.mp4", CONFIG, 1, 1)


# Actions


@pytest.mark.parametrize("words", [["left*3 2", "noop"], ["1", "1", "1", "right", "0*1"], "left*3 right noop"])
def test_actions_are_names_or_numbers_with_a_count(words):
    actions = read_actions(words, ACTIONS)
    assert actions.dtype == np.int64 and actions.tolist() == [1, 1, 1, 2, 0]


def test_actions_may_be_more_words_than_a_file_name_has_letters():
    words = "left right " * 200
    assert read_actions([words], ACTIONS).tolist() == read_actions(words, ACTIONS).tolist() == [1, 2] * 200


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("lefft", "no action 'lefft'. Did you mean 'left'?"),
        ("3", "no action '3'"),
        ("left*many", "must be followed by an integer, such as left*4"),
        ("left*0", "at least one action"),
    ],
)
def test_wrong_words_are_refused(words, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_actions(words, ACTIONS)


@pytest.mark.parametrize("dtype", [float, np.float16, np.uint8, bool, ">i4"])
def test_discrete_actions_may_have_any_dtype(tmp_path, dtype):
    np.save(tmp_path / "a.NPY.npy", np.array([1, 0, 1]).astype(dtype))
    (tmp_path / "a.NPY.npy").rename(tmp_path / "a.NPY")
    actions = read_actions(tmp_path / "a.NPY", ACTIONS)
    assert actions.dtype == np.int64 and actions.tolist() == [1, 0, 1]
    for wrong in ([0.5, 1], [np.nan, 1]):
        with pytest.raises(ValueError, match="actions must be int64"):
            read_actions(np.array(wrong), ACTIONS)
    (tmp_path / "a.csv").write_text("1\n0\n")
    with pytest.raises(ValueError, match=r"a file \(\.npy or \.npz\) or words; got .*a\.csv"):
        read_actions([str(tmp_path / "a.csv")], ACTIONS)


def test_actions_of_a_file_are_for_all_videos_or_one_row_per_video(tmp_path):
    np.save(tmp_path / "my moves.npy", np.zeros((3, 2)))
    for source in (tmp_path / "my moves.npy", [str(tmp_path / "my moves.npy")]):
        actions = read_actions(source, PUSHES)
        assert actions.shape == (3, 2) and actions.dtype == np.float32
    assert read_actions(np.zeros((4, 3, 2)), PUSHES).shape == (4, 3, 2)
    assert read_actions(np.zeros((4, 3), np.int8), ACTIONS).shape == (4, 3)


def test_actions_that_do_not_fit_the_game_are_refused():
    with pytest.raises(ValueError, match=r"int64 of shape \(K\) or \(n, K\).*got float64"):
        read_actions(np.full(3, 0.5), ACTIONS)
    with pytest.raises(ValueError, match=r"\(K, A\).*n = 2; got float64 \(4, 3\)"):
        read_actions(np.zeros((4, 3)), PUSHES)
    with pytest.raises(ValueError, match="outside"):
        read_actions(np.array([0, 3]), ACTIONS)
    with pytest.raises(ValueError, match=r"2 dimensions: give them as a \.npy file"):
        read_actions("0 1", PUSHES)


def test_an_action_has_a_short_text():
    assert action_text(np.int64(1), ACTIONS) == "left"
    assert action_text(np.int64(1), replace(ACTIONS, names=())) == "1"
    assert action_text(np.float32([0.25, -1]), PUSHES) == "+0.2 -1.0"

"""Videos: the composition of each image, and whether the files play back what was written."""

import subprocess

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from tests.small_disk import room_for
from worldmodel.media import write as video
from worldmodel.media.drawn import DrawnFrames
from worldmodel.media.write import (
    BACKGROUND,
    CAPTION_HEIGHT,
    CONTEXT_COLOR,
    PREDICTION_COLOR,
    border,
    caption,
    dream_vs_real,
    side_by_side,
    tile,
    upscale,
    write_image,
    write_video,
)

RED, GREEN = (255, 0, 0), (0, 255, 0)


def flat(color: tuple[int, int, int], num: int = 2, height: int = 6, width: int = 6) -> np.ndarray:
    return np.broadcast_to(np.uint8(color), (num, height, width, 3))


def ramp(num: int, height: int = 16, width: int = 16, step: int = 10) -> np.ndarray:
    """Image i is one level of gray, (i + 1) * step."""
    levels = np.arange(1, num + 1, dtype=np.uint8) * step
    return np.broadcast_to(levels[:, None, None, None], (num, height, width, 3))


def read_mp4(path, height: int, width: int) -> np.ndarray:
    command = [get_ffmpeg_exe(), "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pixels = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(pixels, np.uint8).reshape(-1, height, width, 3)


def read_gif(path) -> tuple[np.ndarray, list[int]]:
    """Images and the duration of each in milliseconds."""
    with Image.open(path) as gif:
        images, durations = [], []
        for i in range(gif.n_frames):
            gif.seek(i)
            images.append(np.asarray(gif.convert("RGB")))
            durations.append(gif.info["duration"])
    return np.stack(images), durations


@pytest.mark.parametrize("ending", ["mp4", "gif", "webp"])
def test_images_that_are_drawn_when_needed_make_the_same_film(tmp_path, ending):
    frames = np.random.default_rng(0).integers(256, size=(7, 16, 24, 3), dtype=np.uint8)
    write_video(tmp_path / f"array.{ending}", frames, 12)
    write_video(tmp_path / f"drawn.{ending}", DrawnFrames(range(7), lambda number: frames[number]), 12)
    assert (tmp_path / f"drawn.{ending}").read_bytes() == (tmp_path / f"array.{ending}").read_bytes()


def test_upscale_repeats_pixels_both_ways():
    frames = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    big = upscale(frames, 3)
    assert big.shape == (1, 6, 6, 3)
    assert (big[:, 1::3, 2::3] == frames).all()


def test_border_surrounds_the_image_and_leaves_its_pixels():
    framed = border(flat(RED), GREEN, width=2)
    assert framed.shape == (2, 10, 10, 3)
    assert (framed[:, 2:-2, 2:-2] == RED).all()
    inside = np.zeros((10, 10), dtype=bool)
    inside[2:-2, 2:-2] = True
    assert (framed[:, ~inside] == GREEN).all()


def test_border_takes_one_colour_for_each_image():
    framed = border(flat((0, 0, 0)), np.uint8([RED, GREEN]), width=1)
    assert tuple(framed[0, 0, 0]) == RED and tuple(framed[1, 0, 0]) == GREEN


def test_panels_stand_side_by_side_below_their_labels():
    joined = side_by_side([flat(RED, width=60), flat(GREEN, width=60)], ["left", "right"])
    assert joined.shape == (2, CAPTION_HEIGHT + 6, 60 + 4 + 60, 3)
    assert (joined[:, CAPTION_HEIGHT:, :60] == RED).all()
    assert (joined[:, CAPTION_HEIGHT:, 64:] == GREEN).all()
    has_ink = (joined[0, :CAPTION_HEIGHT] != BACKGROUND).any(axis=(0, 2))
    assert has_ink[:60].any() and has_ink[64:].any()


def test_notes_change_from_image_to_image_and_labels_do_not():
    joined = side_by_side([flat(RED, width=160)], ["real"], notes=["step 1", "step 2"])
    first, second = joined[:, :CAPTION_HEIGHT]
    assert (first[:, :50] == second[:, :50]).all()
    assert (first[:, 50:] != second[:, 50:]).any()


def test_panels_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="equal length and height"):
        side_by_side([flat(RED), flat(GREEN, num=3)], ["a", "b"])
    with pytest.raises(ValueError, match="one label per panel"):
        side_by_side([flat(RED)], ["a", "b"])
    with pytest.raises(ValueError, match="one note for each"):
        side_by_side([flat(RED)], ["a"], notes=["only one"])


def test_a_caption_stands_below_its_image():
    written = caption(flat(RED, num=3, width=60), ["left", "", "left"])
    assert written.shape == (3, 6 + CAPTION_HEIGHT, 60, 3)
    assert (written[:, :6] == RED).all() and (written[1, 6:] == BACKGROUND).all()
    assert (written[0, 6:] != BACKGROUND).any() and (written[0] == written[2]).all()


def test_a_grid_is_filled_row_by_row_and_dark_in_empty_cells():
    grid = tile([flat(RED), flat(GREEN), flat(GREEN, height=6)], columns=2, gap=1)
    assert grid.shape == (2, 13, 13, 3)
    assert (grid[:, :6, :6] == RED).all() and (grid[:, :6, 7:] == GREEN).all() and (grid[:, 7:, :6] == GREEN).all()
    assert (grid[:, 6] == BACKGROUND).all() and (grid[:, 7:, 6:] == BACKGROUND).all()
    for cells, columns in (([], 1), ([flat(RED)], 0), ([flat(RED), flat(RED, num=3)], 2)):
        with pytest.raises(ValueError, match="one shape and at least one column"):
            tile(cells, columns)


def test_an_image_is_written_unchanged(tmp_path):
    write_image(tmp_path / "a.png", ramp(2)[1])
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG" and (np.asarray(picture) == 20).all()


@pytest.mark.parametrize("num", [47, 48])  # where counting images by their times goes wrong
def test_mp4_plays_back_every_image_in_order(tmp_path, num):
    (path,) = write_video(tmp_path / "clip.mp4", ramp(num, step=5), fps=17.5)
    played = read_mp4(path, 16, 16)
    assert played.mean(axis=(1, 2, 3)) == pytest.approx(np.arange(1, num + 1) * 5, abs=2)


def test_mp4_of_odd_size_keeps_its_picture(tmp_path):
    (path,) = write_video(tmp_path / "clip.mp4", ramp(4, height=15, width=17), fps=10)
    assert read_mp4(path, 16, 18)[:, :15, :17].mean(axis=(1, 2, 3)) == pytest.approx([10, 20, 30, 40], abs=2)


def test_gif_plays_back_every_image_at_the_right_speed(tmp_path):
    (path,) = write_video(tmp_path / "clip.gif", ramp(14), fps=17.5)
    played, durations = read_gif(path)
    assert played.mean(axis=(1, 2, 3)) == pytest.approx(np.arange(1, 15) * 10, abs=1)
    assert sum(durations) == pytest.approx(1000 * 14 / 17.5, abs=5)  # constant rounding would give 840, not 800


@pytest.mark.parametrize("fps", [50, 60, 100, 120])
def test_a_gif_of_a_fast_video_has_images_that_browsers_show_at_the_right_speed(tmp_path, fps):
    (path,) = write_video(tmp_path / "clip.gif", ramp(60), fps=fps)
    durations = read_gif(path)[1]
    assert min(durations) >= 20
    assert sum(durations) == pytest.approx(1000 * 60 / fps, abs=1000 / 50)  # milliseconds, to an image


def test_a_gif_of_noise_is_thinned_until_it_is_small(tmp_path, monkeypatch):
    monkeypatch.setattr("worldmodel.media.write._GIF_BYTES", 200_000)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), dtype=np.uint8)
    (path,) = write_video(tmp_path / "clip.gif", noise, fps=20)
    played, durations = read_gif(path)
    assert path.stat().st_size < 200_000
    assert len(played) < 64
    assert sum(durations) == pytest.approx(1000 * 64 / 20, abs=5)


def test_a_path_without_ending_gives_both_files(tmp_path):
    files = write_video(tmp_path / "clip", ramp(3), fps=10)
    assert sorted(file.name for file in files) == ["clip.gif", "clip.mp4"]
    assert read_gif(tmp_path / "clip.gif")[0].shape == (3, 16, 16, 3)


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "clip.gif"
    path.write_bytes(b"old")

    def full_disk(temporary, *_):
        temporary.write_bytes(b"half a gi")
        raise OSError("No space left on device")

    monkeypatch.setattr(video, "_encode_gif", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_video(path, ramp(3), fps=10)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("ending", ["mp4", "gif", "webp"])
def test_a_film_for_which_the_disk_is_too_small_leaves_the_old_one(tmp_path, ending):
    path = tmp_path / f"clip.{ending}"
    path.write_bytes(b"old")
    noise = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    with room_for(20_000), pytest.raises(OSError, match=rf"clip\.{ending}"):
        write_video(path, noise, fps=10)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_invalid_videos_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.mp4, \.gif or \.webp"):
        write_video(tmp_path / "clip.avi", ramp(3), fps=10)
    with pytest.raises(ValueError, match="at least one frame"):
        write_video(tmp_path / "clip.gif", ramp(3)[:0], fps=10)
    with pytest.raises(ValueError, match=r"\(N, H, W, 3\) uint8"):
        write_video(tmp_path / "clip.gif", ramp(3) / 255.0, fps=10)


def test_dream_vs_real_shows_real_left_dream_right_and_colours_context_and_prediction(tmp_path, monkeypatch):
    written, labels, join = {}, [], video.side_by_side
    monkeypatch.setattr(
        video, "side_by_side", lambda panels, names, notes: labels.append(names) or join(panels, names, notes)
    )
    monkeypatch.setattr(video, "write_video", lambda path, frames, fps: written.update(frames=frames, fps=fps))
    real, dream = (np.broadcast_to(np.uint8(color), (2, 5, 2, 16, 16, 3)) for color in (RED, GREEN))
    dream_vs_real(real, dream, 3, tmp_path / "clip", fps=10, scale=4)
    frames, side = written["frames"], 16 * 4 + 2 * 4
    assert frames.shape == (2 * 5 * 2, CAPTION_HEIGHT + side, side + 4 + side, 3)
    picture = frames[:, CAPTION_HEIGHT:]
    assert (picture[:, 4:-4, 4 : side - 4] == RED).all()
    assert (picture[:, 4:-4, side + 8 : -4] == GREEN).all()
    assert labels == [["real", "dream"]] * 2
    context = np.tile(np.repeat([True, True, True, False, False], 2), 2)  # two episodes, two frames per step
    for corner in (picture[:, 0, 0], picture[:, 0, side - 1], picture[:, -1, -1]):
        assert (corner[context] == CONTEXT_COLOR).all()
        assert (corner[~context] == PREDICTION_COLOR).all()
    captions = frames[:10, :CAPTION_HEIGHT]
    assert len(np.unique(captions.reshape(10, -1), axis=0)) == 5  # one text per step


def test_dream_vs_real_writes_playable_files(tmp_path):
    real = np.random.default_rng(0).integers(0, 256, (1, 4, 2, 16, 16, 3), dtype=np.uint8)
    mp4, gif = dream_vs_real(real, real, 2, tmp_path / "dream_vs_real", fps=10)
    side = 16 * 4 + 2 * 4
    assert len(read_mp4(mp4, CAPTION_HEIGHT + side, side + 4 + side)) == len(read_gif(gif)[0]) == 8


def test_dream_vs_real_refuses_unequal_episodes_and_impossible_context(tmp_path):
    real = np.zeros((1, 4, 2, 16, 16, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="one shape"):
        dream_vs_real(real, real[:, :3], 2, tmp_path / "clip", 10)
    with pytest.raises(ValueError, match=r"context_steps must be in \[0, 4\]"):
        dream_vs_real(real, real, 5, tmp_path / "clip", 10)


@pytest.mark.parametrize("width", [60, 100, 136, 200, 264])
def test_a_label_and_a_note_never_cover_each_other(width):
    def ink(label, note):
        strip = side_by_side([flat(RED, num=1, width=width)], [label], [note])[0, :CAPTION_HEIGHT]
        return (strip != BACKGROUND).any(axis=-1)

    label, note = "seed 10000", "return 0.1  step 7  ended"
    both = ink(label, note)
    columns = np.flatnonzero(both.any(axis=0))
    assert columns.min() > 0 and columns.max() < width - 1
    if width < 200:  # two lines
        assert both[:11].any() and both[11:].any()
    else:
        assert (np.diff(columns) > 5).any()


def test_a_text_that_fits_nowhere_is_cut():
    (short, long) = caption(flat(RED, width=40), ["turn", "turn_left move_forward attack"])[:, 6:]
    assert (long != BACKGROUND).any() and (long[:, -1] == BACKGROUND).all() and (short != long).any()


def test_a_webp_plays_all_images_at_their_speed(tmp_path):
    (path,) = write_video(tmp_path / "a.webp", ramp(9), fps=8.75)
    with Image.open(path) as film:
        assert film.n_frames == 9
        lengths = []
        for index in range(9):
            film.seek(index)
            film.load()
            lengths.append(film.info["duration"])
            assert abs(np.asarray(film.convert("RGB")).mean() - 10 * (index + 1)) < 4
    assert abs(sum(lengths) - 9000 / 8.75) < 2

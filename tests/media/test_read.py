"""One function reads everything that holds images."""

import subprocess

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from worldmodel.media.read import images_per_second, natural_order, pictures_in, read_images
from worldmodel.media.write import write_video

IMAGES = np.random.default_rng(0).integers(256, size=(6, 16, 24, 3), dtype=np.uint8)


@pytest.mark.parametrize("ending", [".mov", ".mkv", ".avi"])
def test_films_of_other_kinds_are_read_too(tmp_path, ending):
    levels = np.repeat(np.uint8([40, 80, 120, 160]), 16 * 16 * 3).reshape(4, 16, 16, 3)
    (path,) = write_video(tmp_path / "clip.mp4", levels, fps=10)
    other = tmp_path / f"clip{ending}"
    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-i", path, "-c", "copy", other], check=True)
    assert np.array_equal(read_images(other, 3).frames, read_images(path, 3).frames)
    assert images_per_second(other) == pytest.approx(images_per_second(path)) == 10


def test_an_array_keeps_its_shape_and_becomes_bytes(tmp_path):
    np.save(tmp_path / "a.npy", (IMAGES / 255).astype(np.float32)[None])
    frames, notes = read_images(tmp_path / "a.npy", 3)
    assert np.array_equal(frames[0], IMAGES) and notes == {"arrays of float32 numbers, converted to bytes": 1}
    np.save(tmp_path / "b.npy", IMAGES * 1.0)
    with pytest.raises(ValueError, match=r"b\.npy: pixels of type float64 from 0 to 255"):
        read_images(tmp_path / "b.npy", 3)


def test_pictures_are_sorted_by_the_numbers_in_their_names(tmp_path):
    for number in (10, 9, 1):
        Image.fromarray(IMAGES[number % 6]).save(tmp_path / f"f{number}.png")
    assert [path.name for path in pictures_in(tmp_path)] == ["f1.png", "f9.png", "f10.png"]
    assert sorted([tmp_path / "a2", tmp_path / "a10"], key=natural_order)[0].name == "a2"
    assert len(read_images(tmp_path, 3, count=2).frames) == 2


def test_paths_without_images_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").write_text("words")
    for name, message in (("empty", "holds no pictures"), ("notes", r"a file with the ending \.npy, .*; got .*notes")):
        with pytest.raises(ValueError, match=message):
            read_images(tmp_path / name, 3)
    with pytest.raises(FileNotFoundError, match=r"gone\.png is missing"):
        read_images(tmp_path / "gone.png", 3)


def test_pictures_are_not_enlarged(tmp_path):
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: frames can only be shrunk, not enlarged"):
        read_images(tmp_path / "a.png", 3, size=(32, 32))

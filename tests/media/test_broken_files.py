"""Randomly changed bytes in pictures and films: read, warned of, or refused in one line with the file's name."""

import subprocess
import warnings

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from worldmodel.media.read import images_per_second, read_images

Y, X = np.mgrid[0:24, 0:40]
RGB = np.stack([Y * 10, X * 6, (X + Y) * 4], axis=-1).astype(np.uint8)


def make_pictures(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    moves = [Image.fromarray(np.roll(RGB, 5 * step, axis=1)) for step in range(4)]
    for name in ("a.png", "a.jpg", "a.webp", "a.tif"):
        Image.fromarray(RGB).save(folder / name, exif=exif)
    Image.fromarray(np.dstack([RGB, RGB[..., 0]])).save(folder / "alpha.png")
    Image.fromarray(RGB[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(RGB).convert("CMYK").save(folder / "cmyk.jpg")
    for name in ("moves.gif", "moves.webp", "moves.apng", "moves.tif"):
        kind = "PNG" if name.endswith("apng") else None
        moves[0].save(folder / name, kind, save_all=True, append_images=moves[1:])


def make_films(folder):
    for name in ("a.mp4", "a.mkv", "a.webm", "a.avi", "a.mpg"):
        pattern = "testsrc2=size=64x48:rate=25:duration=1"
        command = [get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", pattern, str(folder / name)]
        subprocess.run(command, check=True)


def changed(content, rng):
    content = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(min(200, len(content)) if rng.random() < 0.6 else len(content)))
        kind = rng.integers(4)
        if kind == 0:
            content[place] = int(rng.integers(256))
        elif kind == 1:
            content[place : place + 4] = rng.bytes(4)
        elif kind == 2:
            content[place : place + 8] = b"\xff" * 8
        elif place > 200:
            del content[place:]
    return bytes(content)


@pytest.mark.parametrize(
    ("make", "trials"),
    [
        (make_pictures, 33),
        pytest.param(make_pictures, 440, marks=pytest.mark.slow),
        pytest.param(make_films, 80, marks=pytest.mark.slow),
    ],
)
def test_broken_pictures_and_films_raise_only_one_line_errors(tmp_path, make, trials):
    (tmp_path / "whole").mkdir()
    make(tmp_path / "whole")
    whole = sorted((tmp_path / "whole").iterdir())
    refused = 0
    for trial in range(trials):
        source = whole[trial % len(whole)]
        path = tmp_path / source.name
        path.write_bytes(changed(source.read_bytes(), np.random.default_rng(trial)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                images_per_second(path)
                frames = read_images(path, 3, size=(8, 8)).frames
                assert frames.dtype == np.uint8 and frames.shape[1:] == (8, 8, 3)
            except ValueError as error:
                refused += 1
                assert str(path) in str(error) and "\n" not in str(error)
    assert 0 < refused < trials

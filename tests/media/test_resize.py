"""Area resize: the exact mean of the area that each new pixel covers."""

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

from worldmodel.media import resize
from worldmodel.media.resize import area_resize, center_crop, check_size


def slow_mean(frame: np.ndarray, top: Fraction, left: Fraction, height: Fraction, width: Fraction) -> Fraction:
    """Mean of a (H, W) frame over a rectangle, pixel by pixel in exact fractions."""
    total = Fraction(0)
    for y, x in np.ndindex(*frame.shape):
        shared_y = min(top + height, y + 1) - max(top, y)
        shared_x = min(left + width, x + 1) - max(left, x)
        if shared_y > 0 and shared_x > 0:
            total += shared_y * shared_x * int(frame[y, x])
    return total / (height * width)


@pytest.mark.parametrize(("height", "width"), [(8, 6), (5, 5), (3, 10), (15, 4)])
def test_every_new_pixel_is_the_rounded_mean_of_its_rectangle(height, width):
    frames = np.random.default_rng(0).integers(0, 256, (2, 15, 10, 2)).astype(np.uint8)
    small = area_resize(frames, height, width)
    dy, dx = Fraction(15, height), Fraction(10, width)
    for n, y, x, c in np.ndindex(*small.shape):
        mean = slow_mean(frames[n, ..., c], y * dy, x * dx, dy, dx)
        assert small[n, y, x, c] == int(mean + Fraction(1, 2))


def test_many_frames_are_shrunk_without_holding_all_as_floats(monkeypatch):
    frames = np.random.default_rng(0).integers(0, 256, (40, 64, 96, 3)).astype(np.uint8)
    whole = area_resize(frames, 10, 15)
    monkeypatch.setattr(resize, "_AT_ONCE", 3 * frames[0].size)
    tracemalloc.start()
    parts = area_resize(frames, 10, 15)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (parts == whole).all() and peak < 4 * frames.size / 4


def test_flat_frames_keep_their_brightness():
    for value in (0, 1, 127, 255):
        assert (area_resize(np.full((1, 120, 160, 3), value, np.uint8), 64, 64) == value).all()


@pytest.mark.parametrize(
    ("whole", "size", "wanted"),
    [
        ((1080, 1920), (64, 64), (1080, 1080)),
        ((1920, 1080), (64, 64), (1080, 1080)),
        ((480, 640), (64, 96), (427, 640)),
        ((64, 64), (64, 64), (64, 64)),
        ((3, 100), (1, 200), (1, 100)),
    ],
)
def test_a_crop_is_the_largest_central_part_of_the_wanted_proportions(whole, size, wanted):
    H, W = whole
    places = np.stack(np.meshgrid(np.arange(H), np.arange(W), indexing="ij"), -1)[None]
    part = center_crop(places, *size)
    assert part.shape == (1, *wanted, 2)
    for axis, side in enumerate(whole):
        before, after = part[..., axis].min(), side - 1 - part[..., axis].max()
        assert 0 <= after - before <= 1


def test_enlarging_is_refused():
    with pytest.raises(ValueError, match="can only be shrunk, not enlarged: requested 64 × 64 from 60 × 80"):
        area_resize(np.zeros((1, 60, 80, 3), np.uint8), 64, 64)


@pytest.mark.parametrize("size", [(0, 0), (0, 8), (8, 0), (-4, 8)])
def test_sides_below_one_are_refused(size):
    message = (
        rf"size: height and width must be at least 1, got {size[0]} × {size[1]}; omit the size to keep that of the"
    )
    with pytest.raises(ValueError, match=message):
        area_resize(np.zeros((1, 60, 80, 3), np.uint8), *size)
    with pytest.raises(ValueError, match=message):
        check_size(size)
    check_size(None)

"""Pixels of every number type are converted to the right bytes, or refused."""

import numpy as np
import pytest

from worldmodel.media.brightness import to_bytes

BYTES = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_floats_from_black_to_white_give_back_the_bytes_they_came_from(kind, order):
    pixels = (BYTES / 255).astype(order + kind)
    assert np.array_equal(to_bytes(pixels), BYTES) and to_bytes(pixels).dtype == np.uint8
    assert to_bytes(pixels[0, 3, 4, 0]) == BYTES[0, 3, 4, 0]


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "i2", "<i4", ">i8", "u4", "u8"])
def test_integers_keep_their_brightness(dtype):
    pixels = BYTES.astype(dtype) * (257 if dtype.endswith("u2") else 1)
    assert np.array_equal(to_bytes(pixels), BYTES)
    assert not to_bytes(np.zeros((2, 2), dtype)).any()


def test_true_is_white():
    assert to_bytes(np.array([[True, False]])).tolist() == [[255, 0]]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.float32([0, 200]), r"type float32 from 0 to 200: floats must be in \[0, 1\]"),
        (np.array([-0.1, 1]), r"float64 from -0\.1 to 1"),
        (np.array([0, 1.01]), "float64"),
        (np.array([0, np.nan]), "finite"),
        (np.array([0, np.inf]), "finite"),
        (np.array([0, 255], ">u2"), "uint16 from 0 to 255: white may be 255 or 65535"),
        (np.array([0, 256]), r"int64 from 0 to 256: integers of this type must be in \[0, 255\]"),
        (np.array([-1, 5], np.int16), "int16 from -1 to 5"),
        (np.array([0, 1]), "white may be 1 or 255"),
        (np.array([1j]), "must be numbers, got complex128"),
        (np.array(None), "must be numbers, got object"),
        (np.array(["a"]), "must be numbers, got str"),
    ],
)
def test_ambiguous_brightness_is_refused(pixels, message):
    with pytest.raises(ValueError, match=message):
        to_bytes(pixels)

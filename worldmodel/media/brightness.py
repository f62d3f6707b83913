"""Convert pixels of any number type to uint8 by the range of the type, or refuse them; never clips or wraps."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_HALF_A_BYTE = 0.5 / 255  # floats this far outside [0, 1] still round to a valid byte
_HINT = "convert them to uint8 in [0, 255] first"


def to_bytes(pixels: Any) -> NDArray[np.uint8]:
    """Convert brightness to uint8 in [0, 255], keeping the shape.

    The number type determines which value is white, so all frames of a game or film are converted alike:

    - uint8 stays unchanged; bool: False becomes 0, True 255.
    - Floats of any precision: 0 is black and 1 is white, rounded to the nearest integer. Other values are refused,
      including floats in [0, 255].
    - uint16: 65535 is white; keeps the high byte. Refused if no value is above 255, because 255 could be white too.
    - Other integers: 255 is white. Refused outside [0, 255], and if no value is above 1, because 1 could be white too.

    Raises: ValueError with the type and range of the pixels, and what to do.
    """
    pixels = np.asarray(pixels)
    kind, size = pixels.dtype.kind, pixels.dtype.itemsize
    if kind not in "buif":
        raise ValueError(f"pixels must be numbers, got {_name(pixels)}; {_HINT}")
    if pixels.dtype == np.uint8 or not pixels.size:
        return pixels.astype(np.uint8, copy=False)
    if kind == "b":
        return pixels.astype(np.uint8) * np.uint8(255)
    low, high = pixels.min(), pixels.max()
    described = f"pixels of type {_name(pixels)} from {low:.6g} to {high:.6g}"
    if kind == "f":
        if not (low >= -_HALF_A_BYTE and high <= 1 + _HALF_A_BYTE):  # catches NaN too
            why = "" if np.isfinite([low, high]).all() else "finite and "
            raise ValueError(f"{described}: floats must be {why}in [0, 1], black to white; {_HINT}")
        return _rounded(pixels)
    if kind == "u" and size == 2:
        if 0 < high <= 255:
            raise ValueError(f"{described}: white may be 255 or 65535; {_HINT}, or multiply them by 257")
        return (pixels >> 8).astype(np.uint8)
    if low < 0 or high > 255:
        raise ValueError(f"{described}: integers of this type must be in [0, 255]; {_HINT}")
    if high == 1:
        raise ValueError(f"{described}: white may be 1 or 255; {_HINT}, or convert them to bool")
    return pixels.astype(np.uint8)


def _rounded(pixels: NDArray) -> NDArray[np.uint8]:
    """Convert floats in [0, 1] to bytes slice by slice, so that a film is not held in memory twice as floats."""
    if pixels.ndim > 3:
        out = np.empty(pixels.shape, np.uint8)
        for index, part in enumerate(pixels):
            out[index] = _rounded(part)
        return out
    return np.rint(pixels.astype(np.float64) * 255).astype(np.uint8)


def _name(pixels: NDArray) -> str:
    return pixels.dtype.newbyteorder("=").name

"""Pixels of any number type as bytes: converted by the range of their type, or refused; never clipped or wrapped."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_HALF_A_BYTE = 0.5 / 255  # floats that far outside [0, 1] still round to a byte
_HINT = "bring them to uint8 in [0, 255] first"


def to_bytes(pixels: Any) -> NDArray[np.uint8]:
    """Brightness in [0, 255], of the same shape.

    The number type says what white is, so that every frame of a game or a film is converted alike:

    - uint8 is left as it is; bool: False is 0 and True is 255.
    - Floats of any precision: 0 is black and 1 is white, rounded to the nearest byte. Other values are refused, floats
      in [0, 255] too.
    - uint16: 65535 is white, the high byte is kept. Refused if nothing is above 255, which can be bytes as well.
    - Other integers: 255 is white. Refused outside [0, 255], and if nothing is above 1, which can be False and True.

    Raises: ValueError that says what the pixels are and what to do.
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
        if not (low >= -_HALF_A_BYTE and high <= 1 + _HALF_A_BYTE):  # also of NaN
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
    """Floats in [0, 1] as bytes, a slice at a time: a film of floats is not held a second time."""
    if pixels.ndim > 3:
        out = np.empty(pixels.shape, np.uint8)
        for number, part in enumerate(pixels):
            out[number] = _rounded(part)
        return out
    return np.rint(pixels.astype(np.float64) * 255).astype(np.uint8)


def _name(pixels: NDArray) -> str:
    return pixels.dtype.newbyteorder("=").name

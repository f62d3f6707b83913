"""Codes as images: a colour for each code, and where codes differ from the previous ones.

Letters: n clips, T steps, k code maps in a step, h w their grid, V codes.
Source: Latent Video Transformer (arXiv:2006.10704) section 4.6, figures of indexed colours and of changed codes.
"""

import numpy as np
from numpy.typing import NDArray

CHANGED, SAME, UNKNOWN = (240, 228, 66), (40, 40, 60), (110, 110, 110)  # yellow of Okabe and Ito


def code_colors(num_codes: int) -> NDArray[np.uint8]:
    """(V, 3) colours of codes 0, 1, …: a hash of the index, so that a code has the same colour in all images."""
    numbers = (np.arange(num_codes, dtype=np.uint64) + 1) * np.uint64(0x9E3779B97F4A7C15)  # wraps around
    numbers ^= numbers >> np.uint64(29)
    numbers *= np.uint64(0xBF58476D1CE4E5B9)
    numbers ^= numbers >> np.uint64(32)
    channels = [(numbers >> np.uint64(shift)) & np.uint64(255) for shift in (0, 8, 16)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def changes(part: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Codes (n, T, k, h, w) -> (n, T*k, h, w): which differ from the previous map; False in the first map."""
    flat = part.reshape(len(part), -1, *part.shape[3:])
    return flat != np.concatenate((flat[:, :1], flat[:, :-1]), axis=1)


def draw_changes(part: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Codes of one clip (T, k, h, w) -> (T, k, h, w, 3): yellow where a code differs from the previous map."""
    shown = np.array([SAME, CHANGED], np.uint8)[changes(part[None])[0].astype(int)].reshape(*part.shape, 3)
    shown[0, 0] = UNKNOWN  # there is no previous map
    return shown

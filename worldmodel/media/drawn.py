"""Images of a film that are drawn when they are needed, so that a long one takes little memory."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3)


class DrawnFrames(Sequence[Image]):
    """Images (N, H, W, 3) uint8 of one size, in place of an array of them.

    Args:
        numbers: those of the images, N at least 1.
        draw: makes the image of a number.
    """

    ndim, dtype = 4, np.dtype(np.uint8)

    def __init__(self, numbers: range, draw: Callable[[int], Image]) -> None:
        self._numbers, self._draw = numbers, draw

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Image: ...

    @overload
    def __getitem__(self, index: slice) -> "DrawnFrames": ...

    def __getitem__(self, index: int | slice) -> "Image | DrawnFrames":
        if isinstance(index, slice):
            return DrawnFrames(self._numbers[index], self._draw)
        return self._draw(self._numbers[index])

    @cached_property
    def shape(self) -> tuple[int, int, int, int]:
        height, width, channels = self[0].shape
        return len(self), height, width, channels

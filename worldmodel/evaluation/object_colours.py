"""Which pixels have the colours of an object: a table of colours learned from labels, for pictures that have none.

In a dream things are not where they were in the game, so they cannot be looked for by place; but they can be counted.

Letters: N pictures of any shape in front, H W C pixels, K classes of objects, L levels of a channel.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEVELS = {1: 256, 3: 32}  # by channels; about as many pixels as bins would make a table of accidents


class ObjectColours:
    """The likeliest class of each colour, by how often pixels of the colour belong to an object of the class.

    Args:
        pictures: (N, H, W, C) uint8.
        classes: (N, H, W) uint8, the class of the object in each pixel, 0 for none.
        num_classes: K.
    """

    def __init__(self, pictures: NDArray[np.uint8], classes: NDArray[np.uint8], num_classes: int) -> None:
        self.num_classes = num_classes
        bins = _colours(pictures).ravel()
        size = levels(pictures.shape[-1]) ** pictures.shape[-1]
        counts = np.stack([np.bincount(bins[classes.ravel() == c], minlength=size) for c in range(num_classes + 1)])
        self._table = counts.argmax(0).astype(np.uint8)  # a colour that was never met is nothing's

    def classes(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(…, H, W, C) uint8 -> the class that each pixel's colour stands for, (…, H, W) uint8."""
        return self._table[_colours(pictures)]

    def shares(self, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(…, H, W, C) uint8 -> (…, K) the share of the pixels that have the colours of each class."""
        told = self.classes(pictures)
        return np.stack([(told == c).mean((-2, -1)) for c in range(1, self.num_classes + 1)], axis=-1)

    def agreement(self, pictures: NDArray[np.uint8], classes: NDArray[np.uint8]) -> dict[int, dict[str, Any]]:
        """By class, on pictures of which it is known: "labelled" pixels, and the table's "precision" and "recall".

        None where no pixel is, or is told to be, of the class.
        """
        told = self.classes(pictures)
        scores = {}
        for c in range(1, self.num_classes + 1):
            hits, found, there = (int(mask.sum()) for mask in ((told == c) & (classes == c), told == c, classes == c))
            scores[c] = {
                "labelled": there,
                "precision": hits / found if found else None,
                "recall": hits / there if there else None,
            }
        return scores


def levels(channels: int) -> int:
    """L: how finely each of so many channels is divided."""
    return _LEVELS.get(channels, 8)


def _colours(pictures: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The number of each pixel's colour, (…, C) uint8 -> (…) int32."""
    count = levels(pictures.shape[-1])
    numbers = np.zeros(pictures.shape[:-1], np.int32)
    for channel in range(pictures.shape[-1]):
        numbers = numbers * count + pictures[..., channel].astype(np.int32) * count // 256
    return numbers

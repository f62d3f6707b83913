"""Classify pixels by colour: a table of object colours learned from labels, for pictures without labels.

In a dream objects are not where they were in the game, so positions cannot be compared, but pixels can be counted.
Letters: N pictures, H W C pixels, K classes of objects, L levels of a channel.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEVELS = {1: 256, 3: 32}  # by number of channels; with as many bins as pixels the table would overfit


class ObjectColours:
    """The most frequent object class of the pixels of each colour.

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
        self._table = counts.argmax(0).astype(np.uint8)  # unseen colours get class 0

    def classes(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(…, H, W, C) uint8 -> the most likely class of each pixel by its colour, (…, H, W) uint8."""
        return self._table[_colours(pictures)]

    def shares(self, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(…, H, W, C) uint8 -> (…, K) share of the pixels with the colours of each class."""
        predicted = self.classes(pictures)
        return np.stack([(predicted == c).mean((-2, -1)) for c in range(1, self.num_classes + 1)], axis=-1)

    def agreement(self, pictures: NDArray[np.uint8], classes: NDArray[np.uint8]) -> dict[int, dict[str, Any]]:
        """Per class, on labelled pictures: "labelled" pixels, and the table's "precision" and "recall".

        None if no pixel has, or is predicted to have, the class.
        """
        predicted = self.classes(pictures)
        scores = {}
        for c in range(1, self.num_classes + 1):
            is_class, is_predicted = classes == c, predicted == c
            hits, found, labelled = (int(mask.sum()) for mask in (is_predicted & is_class, is_predicted, is_class))
            scores[c] = {
                "labelled": labelled,
                "precision": hits / found if found else None,
                "recall": hits / labelled if labelled else None,
            }
        return scores


def levels(channels: int) -> int:
    """L: number of levels per channel."""
    return _LEVELS.get(channels, 8)


def _colours(pictures: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Index of each pixel's colour, (…, C) uint8 -> (…) int32."""
    count = levels(pictures.shape[-1])
    indices = np.zeros(pictures.shape[:-1], np.int32)
    for channel in range(pictures.shape[-1]):
        indices = indices * count + pictures[..., channel].astype(np.int32) * count // 256
    return indices

"""Contrast of labelled objects in pictures: each object against the ring of pixels around it.

Letters: K objects of a frame, V pictures, H W C pixels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RING = 2  # width in pixels of the ring, which shows the background of an object
LEAST_CONTRAST = 12 / 255  # root mean square over the channels; objects below it are considered invisible


class ObjectContrasts(NamedTuple):
    """The objects of one frame that have a ring."""

    classes: NDArray[np.uint8]  # (K,) from 1 on
    sizes: NDArray[np.int64]  # (K,) pixels
    alone: NDArray[np.bool_]  # (K,) whether it touches no other object, which could occlude it
    contrasts: NDArray[np.float32]  # (K, V, C) mean of the object less mean of its ring, in units of [0, 1]


def object_contrasts(pictures: NDArray[np.uint8], labels: NDArray[np.uint8]) -> ObjectContrasts:
    """Contrast of every object in several pictures, each relative to its own ring.

    The ring consists of the pixels within `RING` of the object, also diagonally, that belong to no object. Objects
    without a ring, because others surround them, are skipped.

    Args:
        pictures: (V, H, W, C) uint8, such as a frame and its reconstruction.
        labels: (H, W, 2) uint8, class and object number of each pixel; a number identifies one object.
    """
    numbers, firsts = np.unique(labels[..., 1], return_index=True)
    classes = labels[..., 0].reshape(-1)[firsts][numbers > 0]
    masks = labels[..., 1] == numbers[numbers > 0][:, None, None]
    rings = grow(masks, RING) & (labels[..., 1] == 0)
    touches = (grow(masks, 1) & ~masks & (labels[..., 1] > 0)).any((1, 2))
    sizes, around = masks.sum((1, 2)), rings.sum((1, 2))
    kept = around > 0
    flat = np.moveaxis(pictures, 0, -2).reshape(labels[..., 0].size, -1) / np.float32(255)  # (HW, VC)
    inside, outside = (
        which[kept].reshape(-1, len(flat)).astype(np.float32) @ flat / count[kept, None]
        for which, count in ((masks, sizes), (rings, around))
    )
    contrasts = (inside - outside).astype(np.float32).reshape(-1, len(pictures), pictures.shape[-1])
    return ObjectContrasts(classes[kept], sizes[kept], ~touches[kept], contrasts)


def grow(masks: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Dilate masks (..., H, W) by `reach` pixels in rows and columns."""
    for axis in (-1, -2):
        grown = masks.copy()
        for shift in range(1, reach + 1):
            ahead, behind = [slice(None)] * masks.ndim, [slice(None)] * masks.ndim
            ahead[axis], behind[axis] = slice(shift, None), slice(None, -shift)
            grown[tuple(ahead)] |= masks[tuple(behind)]
            grown[tuple(behind)] |= masks[tuple(ahead)]
        masks = grown
    return masks


def gains(contrasts: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """How much of the first picture's contrast the other pictures show, and which objects are visible in the first.

    Returns: (K, V - 1) the projection <c', c> / <c, c> of each contrast c' on that of the first picture c: 1 is the
    full contrast, 0 none, and below 0 the opposite; and (K,) whether c is at least `LEAST_CONTRAST`.
    """
    truth = contrasts[:, :1]
    power = np.square(truth).sum(-1)
    projections = (contrasts[:, 1:] * truth).sum(-1) / np.maximum(power, np.finfo(np.float32).tiny)
    return projections, power[:, 0] / contrasts.shape[-1] >= LEAST_CONTRAST**2

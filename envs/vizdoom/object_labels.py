"""Which pixels of a shrunken frame show which object, from ViZDoom's labels buffer.

Letters: K objects, H W pixels of the screen, h w those of the frame.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from worldmodel.media.resize import area_resize

if TYPE_CHECKING:
    import vizdoom

OTHER = "other"  # class of objects whose names a scenario does not list
LEAST_SHARE = 0.25  # of a pixel that an object must cover to own it
_SELF = "Self"  # ViZDoom's category of the player and the weapon in hand


def read_labels(state: "vizdoom.GameState", names: Sequence[str], height: int, width: int) -> np.ndarray:
    """The objects of a game's state, (height, width, 2) uint8 as returned by `shrink_labels`.

    Args:
        names: of the classes; the last one is for all unlisted objects. The player and the weapon are not labelled.
    """
    assert state.labels is not None and state.labels_buffer is not None  # the buffer is enabled
    classes = {name: number for number, name in enumerate(names, 1)}
    shown = [label for label in state.labels if label.object_category != _SELF]
    return shrink_labels(
        state.labels_buffer,
        [label.value for label in shown],
        [classes.get(label.object_name, len(names)) for label in shown],
        height,
        width,
    )


def shrink_labels(
    buffer: np.ndarray, values: Sequence[int], classes: Sequence[int], height: int, width: int
) -> np.ndarray:
    """Shrink a labels buffer (H, W) uint8 so that small objects are not lost.

    A pixel belongs to the object that covers most of it, if that is at least a quarter of it. An object that would get
    no pixel gets the one that it covers most, among those that are not another object's only pixel.

    Args:
        values: the objects' values in the buffer, distinct and at least 1.
        classes: the objects' classes, starting at 1.

    Returns: (height, width, 2) uint8, class and value of the object in each pixel; 0 where there is none.
    """
    labels = np.zeros((height, width, 2), np.uint8)
    drawn = set(np.unique(buffer).tolist())
    pairs = [pair for pair in zip(values, classes, strict=True) if pair[0] in drawn]
    if not pairs:
        return labels
    table = np.array(pairs, np.uint8)  # (K, 2) value and class
    masks = (buffer == table[:, :1, None]).astype(np.uint8) * np.uint8(255)
    covered = area_resize(masks[..., None], height, width)[..., 0]  # (K, h, w), 255 is all of the pixel
    owner = covered.argmax(0)
    owned = covered.max(0) >= LEAST_SHARE * 255
    pixels = np.bincount(owner[owned], minlength=len(table))
    for number in np.flatnonzero(pixels == 0).tolist():
        free = np.where(~owned | (pixels[owner] > 1), covered[number], 0)
        if free.any():
            index = np.unravel_index(free.argmax(), owner.shape)
            pixels[owner[index]] -= owned[index]
            owner[index], owned[index], pixels[number] = number, True, 1
    labels[owned] = table[owner[owned]][:, ::-1]
    return labels

"""Captions above and below videos: on one line if they fit, otherwise smaller, on two lines, or cut.

All strips are (CAPTION_HEIGHT, width, 3) uint8 RGB.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BACKGROUND = (24, 24, 24)
TEXT_COLOR = (235, 235, 235)
CAPTION_HEIGHT = 22  # pixels of the text strip above a video
TEXT_SIZE = 14
GAP = 4  # pixels around text
_SIZES = range(TEXT_SIZE, 10, -1)  # font sizes for one line
_SMALL = range(10, 6, -1)  # font sizes for two lines

Strip = NDArray[np.uint8]


class Label(NamedTuple):
    """A short text above a panel."""

    column: int
    room: int  # maximum width in pixels
    text: str


class _Placed(NamedTuple):
    column: int
    row: int
    anchor: str  # PIL's
    text: str
    size: int


def headings(width: int, labels: Sequence[Label], notes: Sequence[str]) -> list[Strip]:
    """One strip per note: the labels at their columns, the note at the right end."""
    size, note_size, rows = _layout(width, labels, max(notes, key=text_width))
    above = [_Placed(label.column, rows[0], "lm", _cut(label.text, label.room, size), size) for label in labels]
    room = width - 2 * GAP
    drawn = {
        note: _draw(width, [*above, _Placed(width - GAP, rows[1], "rm", _cut(note, room, note_size), note_size)])
        for note in set(notes)
    }
    return [drawn[note] for note in notes]


def footings(width: int, texts: Sequence[str]) -> list[Strip]:
    """One strip per text, centred."""
    size = _largest(texts, [width] * len(texts), (*_SIZES, *_SMALL))
    position = width // 2, CAPTION_HEIGHT // 2, "mm"
    drawn = {text: _draw(width, [_Placed(*position, _cut(text, width, size), size)]) for text in set(texts)}
    return [drawn[text] for text in texts]


def _layout(width: int, labels: Sequence[Label], note: str) -> tuple[int, int, tuple[int, int]]:
    """Font sizes of labels and notes, and their rows; `note` is the widest note."""
    texts, rooms = [label.text for label in labels], [label.room for label in labels]
    for size in _SIZES:
        beside = text_width(note, size) + GAP if note else 0
        if _fit(texts, [*rooms[:-1], rooms[-1] - beside], size):
            return size, size, (CAPTION_HEIGHT // 2, CAPTION_HEIGHT // 2)
    rows = CAPTION_HEIGHT // 4, 3 * CAPTION_HEIGHT // 4
    return _largest(texts, rooms, _SMALL), _largest([note], [width - 2 * GAP], _SMALL), rows


def _largest(texts: Sequence[str], rooms: Sequence[float], sizes: Sequence[int]) -> int:
    """The first size at which all texts fit; the last size if none does."""
    return next((size for size in sizes if _fit(texts, rooms, size)), sizes[-1])


def _fit(texts: Sequence[str], rooms: Sequence[float], size: int) -> bool:
    return all(text_width(text, size) <= room for text, room in zip(texts, rooms, strict=True))


def _cut(text: str, room: float, size: int) -> str:
    while text and text_width(text, size) > room:
        text = text[:-1]
    return text


def text_width(text: str, size: int = TEXT_SIZE) -> float:
    """Pixels that a line of text takes."""
    return font(size).getlength(text)


@cache
def font(size: int) -> Any:
    """Pillow's own font; lacks most symbols."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _draw(width: int, texts: Sequence[_Placed]) -> Strip:
    from PIL import Image, ImageDraw

    strip = Image.new("RGB", (width, CAPTION_HEIGHT), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    for column, row, anchor, text, size in texts:
        draw.text((column, row), text, TEXT_COLOR, font(size), anchor=anchor)
    return np.asarray(strip)

"""A canvas for frames, boxes, text that is fitted to its space, and strips of values and names over time.

Letters: H W pixels, T steps, A dimensions of an action. All colours are RGB.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.media.captions import BACKGROUND, TEXT_COLOR, TEXT_SIZE, font, text_width

Color = tuple[int, int, int]

SMALL = 11  # texts shrink to this size before they are cut
FAINT: Color = (150, 150, 150)  # of scales and axes
PANEL: Color = (40, 40, 44)  # behind strips
CURSOR: Color = (255, 255, 255)


class Track(NamedTuple):
    """Layout of the steps of a strip: step t covers `step` columns from `left + t * step` on."""

    left: float
    step: float
    steps: int  # their number

    def begin(self, step: float) -> int:
        """The first column of a step."""
        return round(self.left + step * self.step)


class Canvas:
    """An initially dark image of height x width pixels."""

    def __init__(self, width: int, height: int) -> None:
        from PIL import Image, ImageDraw

        self._image = Image.new("RGB", (width, height), BACKGROUND)
        self._draw = ImageDraw.Draw(self._image)

    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3)."""
        return np.asarray(self._image).copy()

    def copy(self) -> "Canvas":
        """Another canvas with the same image."""
        other = Canvas(*self._image.size)
        other._image.paste(self._image)
        return other

    def picture(self, left: int, top: int, image: NDArray[np.uint8]) -> None:
        """Paste an image (H, W, 3)."""
        from PIL import Image

        self._image.paste(Image.fromarray(np.ascontiguousarray(image)), (left, top))

    def box(self, left: int, top: int, width: int, height: int, color: Color) -> None:
        if width > 0 and height > 0:
            self._draw.rectangle((left, top, left + width - 1, top + height - 1), fill=color)

    def text(
        self,
        left: int,
        middle: int,
        text: str,
        room: int,
        color: Color = TEXT_COLOR,
        align: Literal["left", "center", "right"] = "left",
        size: int = TEXT_SIZE,
    ) -> int:
        """Write one line between the columns `left` and `left + room`, smaller or cut if it is too long.

        Returns: its width in pixels.
        """
        size, text = fitted(text, room, size)
        at = {"left": left, "center": left + room // 2, "right": left + room}[align]
        anchor = {"left": "lm", "center": "mm", "right": "rm"}[align]
        self._draw.text((at, middle), text, color, font(size), anchor=anchor)
        return round(text_width(text, size))

    # --- strips along time -------------------------------------------------------------------------------------------

    def strip(self, track: Track, top: int, height: int) -> None:
        """The empty background of a strip."""
        self.box(track.begin(0), top, track.begin(track.steps) - track.begin(0), height, PANEL)

    def bars(
        self, track: Track, top: int, height: int, values: NDArray, low: float, high: float, colors: Sequence[Color]
    ) -> None:
        """One bar per step, up or down from 0, for values (T,) in [low, high], which contains 0; none for NaN."""
        scale = (height - 1) / (high - low) if high > low else 0.0
        zero = top + round(high * scale)
        for step, (value, color) in enumerate(zip(values, colors, strict=True)):
            if not np.isfinite(value):
                continue
            left, right = track.begin(step), track.begin(step + 1)
            end = top + round((high - float(value)) * scale)
            wide = max(1, right - left - (1 if right - left > 2 else 0))
            self.box(left, min(zero, end), wide, max(1, abs(end - zero)), color)

    def spans(self, track: Track, top: int, height: int, names: Sequence[str], colors: Mapping[str, Color]) -> None:
        """Runs of equal names (T; "" is skipped) as blocks with the name inside, if it fits."""
        for name, group in groupby(range(len(names)), key=lambda step: names[step]):
            steps = list(group)
            if not name:
                continue
            left, right = track.begin(steps[0]), track.begin(steps[-1] + 1) - 1
            self.box(left, top, right - left, height, colors[name])
            if right - left > 2 and text_width(name, SMALL) <= right - left - 4:
                self.text(left + 2, top + height // 2, name, right - left - 4, (255, 255, 255), "center", 12)

    def heat(self, track: Track, top: int, height: int, values: NDArray[np.float32]) -> None:
        """Values (T, A) in [-1, 1] as A rows: blue below 0, dark at 0, orange above; nothing for NaN."""
        count = values.shape[1]
        for step, row in enumerate(values):
            left, right = track.begin(step), track.begin(step + 1)
            for index, value in enumerate(row):
                if np.isfinite(value):
                    end, share = (np.array((230, 159, 0)), value) if value > 0 else (np.array((0, 150, 230)), -value)
                    color = tuple((np.array(PANEL) + (end - PANEL) * min(1.0, float(share))).astype(int).tolist())
                    begin, stop = (top + height * i // count for i in (index, index + 1))
                    self.box(left, begin, right - left, stop - begin, color)  # type: ignore[arg-type]

    def line(self, column: int, top: int, height: int, color: Color) -> None:
        """A vertical line of two pixels."""
        self.box(column - 1, top, 2, height, color)


def fitted(text: str, room: float, size: int = TEXT_SIZE) -> tuple[int, str]:
    """Size and text that fit the room: smaller down to `SMALL`, then cut with an ellipsis."""
    for smaller in range(size, SMALL - 1, -1):
        if text_width(text, smaller) <= room:
            return smaller, text
    size = min(size, SMALL)
    while text and text_width(text + "…", size) > room:
        text = text[:-1]
    return size, text.rstrip() + "…" if text else ""

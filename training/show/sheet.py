"""A story as one picture: a row for each lane, a step for each column, values beneath.

Letters: T steps, H W pixels.
"""

from math import ceil

import numpy as np
from numpy.typing import NDArray

from worldmodel.media.canvas import FAINT, Canvas, Color, Track
from worldmodel.media.captions import GAP, TEXT_COLOR
from worldmodel.media.write import border, upscale
from worldmodel.training.show.lanes import CURVES, END_COLOR, ORIGINS, Lane, Story
from worldmodel.training.show.strips import (
    LINE,
    MARGIN,
    brighter,
    draw_actions,
    draw_curve,
    draw_legend,
    draw_title,
    legend_lines,
    scale_text,
    title_height,
)

LABELS = 118  # pixels left of the rows
_SPANS, _CURVE = 18, 34  # heights of strips


def draw_sheet(story: Story, columns: int = 10, scale: int = 2) -> NDArray[np.uint8]:
    """(H, W, 3): at most `columns` steps at equal distances; strips show every step.

    Args:
        scale: screen pixels per pixel.
    """
    return _Sheet(story, columns, scale).draw()


class _Sheet:
    def __init__(self, story: Story, columns: int, scale: int) -> None:
        self.story, self.scale = story, scale
        self.every = ceil(story.steps / columns)  # steps from one column to the next
        self.shown = range(0, story.steps, self.every)
        _, _, height, width, _ = story.lanes[0].frames.shape
        self.edge = scale + 2
        self.cell = height * scale + 2 * self.edge, width * scale + 2 * self.edge
        self.left = MARGIN + LABELS
        pitch = self.cell[1] + GAP
        self.track = Track(self.left, pitch / self.every, story.steps)
        self.width = max(self.left + pitch * len(self.shown), 480) + MARGIN
        self.legend = legend_lines(story, self.width - 2 * MARGIN)

    def draw(self) -> NDArray[np.uint8]:
        story = self.story
        header = (
            title_height(story.title, self.width - 2 * MARGIN)
            + LINE * (len(self.legend) + 1)
            + MARGIN
            + (_SPANS + GAP) * (story.actions is not None)
        )
        footer = LINE * len(story.curves) + MARGIN
        height = header + sum(self._height(lane) for lane in story.lanes) + footer
        self.canvas = Canvas(self.width, height)
        top = self._header()
        for lane in story.lanes:
            self._lane(lane, top)
            top += self._height(lane)
        for name in story.curves:
            self.canvas.text(MARGIN, top + LINE // 2, CURVES[name], self.width - 2 * MARGIN, FAINT, size=12)
            top += LINE
        return self.canvas.pixels()

    def _height(self, lane: Lane) -> int:
        strips = len(lane.curves) * (_CURVE + GAP) + (lane.actions is not None) * (_SPANS + GAP)
        return self.cell[0] + GAP + strips + 3 * GAP * lane.opens

    def _header(self) -> int:
        canvas, story = self.canvas, self.story
        top = draw_title(canvas, story.title, self.width - 2 * MARGIN)
        for line in self.legend:
            draw_legend(canvas, line, top)
            top += LINE
        top += MARGIN
        self._label("step", top, LINE)
        for column, step in enumerate(self.shown):
            origin = ORIGINS["given" if step < story.given else "dreamt"]
            color = brighter(origin.color)
            left = self.left + column * (self.cell[1] + GAP)
            canvas.text(left, top + LINE // 2, story.step_name(step), self.cell[1], color, "center")
        top += LINE
        if story.actions is not None:
            self._label("action", top, _SPANS)
            self._actions(story.actions, top)
            top += _SPANS + GAP
        return top

    def _lane(self, lane: Lane, top: int) -> None:
        top += 3 * GAP * lane.opens
        self._label(lane.label, top, self.cell[0])
        for column, step in enumerate(self.shown):
            left = self.left + column * (self.cell[1] + GAP)
            if step < len(lane.frames):
                color = ORIGINS[lane.origins[step]].color
                framed = border(upscale(lane.frames[step, -1:], self.scale), color, self.edge)[0]
                self.canvas.picture(left, top, framed)
        if lane.ended:
            self._end(lane, top)
        top += self.cell[0] + GAP
        if lane.actions is not None:
            self._label("action", top, _SPANS)
            self._actions(lane.actions, top)
            top += _SPANS + GAP
        for name in lane.curves:
            self._curve(lane, name, top)
            top += _CURVE + GAP

    def _curve(self, lane: Lane, name: str, top: int) -> None:
        self._label(name, top, _CURVE // 2)
        self._label(scale_text(*self.story.scale(name)), top + _CURVE // 2, _CURVE // 2, FAINT)
        draw_curve(self.canvas, self.track, top, _CURVE, lane, name, self.story)

    def _end(self, lane: Lane, top: int) -> None:
        """Mark the end behind the last column that shows the lane."""
        column = (len(lane.frames) - 1) // self.every + 1
        left = self.left + column * (self.cell[1] + GAP)
        if column < len(self.shown):
            self.canvas.box(left, top, 3, self.cell[0], END_COLOR)
            self.canvas.text(left + 8, top + self.cell[0] // 2, lane.ended, self.cell[1] - 8, brighter(END_COLOR))
        else:
            self.canvas.box(left - GAP, top, 3, self.cell[0], END_COLOR)

    def _actions(self, actions: NDArray, top: int) -> None:
        draw_actions(self.canvas, self.track, top, _SPANS, actions, self.story)

    def _label(self, text: str, top: int, height: int, color: Color = TEXT_COLOR) -> None:
        lines = text.split("\n")
        pitch = min(17, height // len(lines))
        for number, line in enumerate(lines):
            middle = top + height // 2 + round((number - (len(lines) - 1) / 2) * pitch)
            self.canvas.text(MARGIN, middle, line, LABELS - 2 * GAP, color, "right", size=14 if pitch > 15 else 12)

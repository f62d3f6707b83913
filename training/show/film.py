"""A story as a film: a panel for each lane, side by side, and its values beneath with a line at the present step.

Letters: N images, T steps, F frames of a step, H W pixels.
"""

from math import ceil

import numpy as np
from numpy.typing import NDArray

from worldmodel.media.canvas import CURSOR, FAINT, Canvas, Track
from worldmodel.media.captions import GAP
from worldmodel.media.write import border, upscale
from worldmodel.progress import stepwise
from worldmodel.training.show.lanes import END_COLOR, ORIGINS, Lane, Story
from worldmodel.training.show.sample_inputs import action_text
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

_HEADING = 2 * LINE
_SPANS, _CURVE = 16, 26  # heights of strips
_NAME = 14  # height of a strip's name


def draw_film(story: Story, columns: int = 4, scale: int = 4) -> NDArray[np.uint8]:
    """(N, H, W, 3), N = T * F images; a lane that ends before the others keeps its last frame.

    Args:
        columns: most panels in a row.
        scale: screen pixels per pixel.
    """
    return _Film(story, columns, scale).draw()


class _Film:
    def __init__(self, story: Story, columns: int, scale: int) -> None:
        self.story, self.scale = story, scale
        _, self.per_step, height, width, _ = story.lanes[0].frames.shape
        self.edge = scale
        self.picture = height * scale + 2 * self.edge, width * scale + 2 * self.edge
        self.columns = min(columns, len(story.lanes))
        self.width = max(self.columns * (self.picture[1] + MARGIN), 480) + MARGIN
        self.legend = legend_lines(story, self.width - 2 * MARGIN)
        self.title = title_height(story.title, self.width - 2 * MARGIN)
        self.top = self.title + LINE * len(self.legend) + MARGIN
        curves = len(story.curves) * (_NAME + _CURVE)
        self.panel = _HEADING + self.picture[0] + GAP + self._has_actions * (_SPANS + GAP) + curves + 2 * MARGIN

    @property
    def _has_actions(self) -> bool:
        return self.story.actions is not None or any(lane.actions is not None for lane in self.story.lanes)

    def draw(self) -> NDArray[np.uint8]:
        story = self.story
        still = Canvas(self.width, self.top + self.panel * ceil(len(story.lanes) / self.columns))
        draw_title(still, story.title, self.width - 2 * MARGIN)
        for number, line in enumerate(self.legend):
            draw_legend(still, line, self.title + LINE * number)
        for index, lane in enumerate(story.lanes):
            self._strips(still, lane, *self._corner(index))
        images = []
        for step in stepwise(range(story.steps), "step", "draw"):
            for frame in range(self.per_step):
                canvas = still.copy()
                for index, lane in enumerate(story.lanes):
                    self._present(canvas, lane, *self._corner(index), step, frame)
                images.append(canvas.pixels())
        return np.stack(images)

    def _corner(self, index: int) -> tuple[int, int]:
        row, column = divmod(index, self.columns)
        return MARGIN + column * (self.picture[1] + MARGIN), self.top + row * self.panel

    def _track(self, left: int) -> Track:
        return Track(left, self.picture[1] / self.story.steps, self.story.steps)

    def _strips(self, canvas: Canvas, lane: Lane, left: int, top: int) -> None:
        """What stays the same: the values of all steps."""
        width, track = self.picture[1], self._track(left)
        top += _HEADING + self.picture[0] + GAP
        if (actions := self._actions_of(lane)) is not None:
            draw_actions(canvas, track, top, _SPANS, actions, self.story)
        top += self._has_actions * (_SPANS + GAP)
        for name in self.story.curves:
            if name not in lane.curves:
                top += _NAME + _CURVE
                continue
            canvas.text(left, top + _NAME // 2, name, width // 2, FAINT, size=11)
            scale = scale_text(*self.story.scale(name))
            canvas.text(left + width // 2, top + _NAME // 2, scale, width // 2, FAINT, "right", size=11)
            draw_curve(canvas, track, top + _NAME, _CURVE, lane, name, self.story)
            top += _NAME + _CURVE

    def _present(self, canvas: Canvas, lane: Lane, left: int, top: int, step: int, frame: int) -> None:
        """What changes: the frame, what it is, and the line through the strips."""
        height, width = self.picture
        last = len(lane.frames) - 1
        over = bool(lane.ended) and step > last
        present = min(step, last)
        origin = ORIGINS[lane.origins[present]]
        color = END_COLOR if over else origin.color
        note = lane.ended if over else self._note(lane, present)
        canvas.text(left, top + LINE // 2, lane.label.replace("\n", " "), width)
        canvas.text(left, top + LINE + LINE // 2, note, width, brighter(color))
        image = upscale(lane.frames[present, None, -1 if over else frame], self.scale)
        if over:
            image = image // 2  # darker
        canvas.picture(left, top + _HEADING, border(image, color, self.edge)[0])
        if not over and (self._has_actions or lane.curves):
            curves = len(self.story.curves) if lane.curves else 0
            tall = self._has_actions * _SPANS + curves * (_NAME + _CURVE) + GAP * bool(curves)
            track, begin = self._track(left), top + _HEADING + height + GAP
            middle = round(track.left + (present + (frame + 0.5) / self.per_step) * track.step)
            canvas.line(middle, begin, tall, CURSOR)

    def _note(self, lane: Lane, step: int) -> str:
        """The step and the action that led to it."""
        actions, spec = self._actions_of(lane), self.story.spec
        doing = "" if actions is None or not step or spec.kind != "discrete" else action_text(actions[step - 1], spec)
        return ", ".join(part for part in (f"step {self.story.step_name(step)}", doing) if part)

    def _actions_of(self, lane: Lane) -> NDArray | None:
        return self.story.actions if lane.actions is None else lane.actions

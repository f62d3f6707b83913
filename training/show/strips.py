"""What sheets and films have in common: strips of actions and values along time, the legend.

Letters: T steps.
"""

import numpy as np
from numpy.typing import NDArray

from worldmodel.media.canvas import Canvas, Color, Track
from worldmodel.media.captions import text_width
from worldmodel.training.show.lanes import END_COLOR, ORIGINS, Lane, Story, signed
from worldmodel.training.show.sample_inputs import action_text

MARGIN = 8
LINE = 20  # height of a line of text
TITLE_SIZE = 16
_SWATCH = 12


def draw_curve(canvas: Canvas, track: Track, top: int, height: int, lane: Lane, name: str, story: Story) -> None:
    """A curve of a lane along time, in the colours of its frames, with the end of the episode."""
    canvas.strip(track, top, height)
    colors = [ORIGINS[origin].color for origin in lane.origins]
    canvas.bars(track, top, height, lane.curves[name], *story.scale(name), colors)
    if lane.ended:
        canvas.line(track.begin(len(lane.frames)), top, height, END_COLOR)


def draw_actions(canvas: Canvas, track: Track, top: int, height: int, actions: NDArray, story: Story) -> None:
    """The actions (T-1, …) along time, each in the step that it led to."""
    canvas.strip(track, top, height)
    if story.spec.kind == "discrete":
        names = ["", *(action_text(action, story.spec) for action in actions)]
        canvas.spans(track, top, height, names, story.action_colors)
    else:
        values = signed(actions, story.spec)
        canvas.heat(track, top, height, np.concatenate((np.full_like(values[:1], np.nan), values)))


def scale_text(low: float, high: float) -> str:
    """The range of a curve in a few letters."""
    return f"{_short(low)} to {_short(high)}" if high > low else "always 0"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"


def brighter(color: Color) -> Color:
    """Readable as text on dark."""
    return tuple(min(255, 70 + channel) for channel in color)  # type: ignore[return-value]


# --- title and legend ------------------------------------------------------------------------------------------------

Entry = tuple[int, str, Color]  # column, words, colour


def draw_title(canvas: Canvas, title: str, room: int) -> int:
    """The title in as many lines as it needs; returns its height in pixels."""
    lines = title_lines(title, room)
    for number, line in enumerate(lines):
        canvas.text(MARGIN, LINE * number + LINE // 2 + 5, line, room, size=TITLE_SIZE)
    return title_height(title, room)


def title_height(title: str, room: int) -> int:
    return LINE * len(title_lines(title, room)) + 8


def title_lines(title: str, room: int) -> list[str]:
    """A title of words, wrapped."""
    lines: list[str] = []
    for word in title.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, TITLE_SIZE) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def legend_lines(story: Story, room: int) -> list[list[Entry]]:
    """The legend in as many lines as it needs."""
    lines: list[list[Entry]] = [[]]
    entries = [(origin.words, origin.color) for origin in story.legend]
    if any(lane.ended for lane in story.lanes):
        entries.append(("end of the episode", END_COLOR))
    entries += story.shown_actions.items()
    column = MARGIN
    for words, color in entries:
        wide = _SWATCH + 6 + round(text_width(words)) + 18
        if lines[-1] and column + wide - 18 > room + MARGIN:
            lines.append([])
            column = MARGIN
        lines[-1].append((column, words, color))
        column += wide
    return lines


def draw_legend(canvas: Canvas, line: list[Entry], top: int) -> None:
    """One line of the legend, 20 pixels high."""
    for column, words, color in line:
        canvas.box(column, top + (LINE - _SWATCH) // 2, _SWATCH, _SWATCH, color)
        canvas.text(column + _SWATCH + 6, top + LINE // 2, words, 10_000)

"""Sheets and films: which colours are where, and that nothing leaves its place."""

import numpy as np
import pytest

from worldmodel.data import ActionSpec
from worldmodel.media.captions import GAP, text_width
from worldmodel.training.show.film import draw_film
from worldmodel.training.show.lanes import (
    DREAMT,
    END_COLOR,
    GIVEN,
    ORIGINS,
    REAL,
    REWARD,
    SURPRISE,
    Lane,
    Story,
    code_frames,
    curve,
    signed,
)
from worldmodel.training.show.sheet import LABELS, draw_sheet
from worldmodel.training.show.strips import LINE, MARGIN, TITLE_SIZE, legend_lines, title_lines

SPEC = ActionSpec(kind="discrete", n=3, names=("noop", "left", "right"))
BLUE, ORANGE, GRAY = (ORIGINS[name].color for name in (GIVEN, DREAMT, REAL))


def frames(steps: int, level: int) -> np.ndarray:
    """Every step has its own colour, which no text has."""
    shown = np.empty((steps, 2, 16, 16, 3), np.uint8)
    shown[:] = np.array([color_of(level + step) for step in range(steps)])[:, None, None, None]
    return shown


def color_of(level: int) -> tuple[int, int, int]:
    return level, 4, 250


def story(**changes) -> Story:
    actions = np.array([1, 1, 2, 2, 2])
    real = Lane("real game", frames(6, 50), (GIVEN,) * 2 + (REAL,) * 4, {SURPRISE: curve([1, 2, 3, 4], 2)})
    dream = Lane("dream", frames(4, 90), (GIVEN,) * 2 + (DREAMT,) * 2, {SURPRISE: curve([4, 2], 2)}, ended="ended")
    return Story("a title", (real, dream), 2, SPEC, 8.75, actions)._replace(**changes)


def rows_of(image: np.ndarray, color) -> np.ndarray:
    return np.flatnonzero((image == color).all(-1).any(1))


def columns_of(image: np.ndarray, color) -> np.ndarray:
    return np.flatnonzero((image == color).all(-1).any(0))


def test_frames_stand_in_the_column_of_their_step_with_the_colour_of_their_origin():
    image = draw_sheet(story(), columns=6, scale=2)
    edge, pitch = 4, 16 * 2 + 2 * 4 + GAP
    for step in range(6):
        left = MARGIN + LABELS + step * pitch
        top = rows_of(image[:, left + edge : left + edge + 32], color_of(50 + step))
        assert len(top) == 32  # each pixel twice
        assert tuple(image[top[0] - 1, left]) == (BLUE if step < 2 else GRAY)
        assert (image[top[0] : top[0] + 32, left + edge : left + edge + 32] == color_of(50 + step)).all()
    assert len(rows_of(image, color_of(93))) == 32 and not len(rows_of(image, color_of(94)))  # ended after four steps


def test_a_sheet_with_fewer_columns_shows_steps_at_equal_distances():
    image = draw_sheet(story(), columns=3)
    shown = [step for step in range(6) if len(rows_of(image, color_of(50 + step))) >= 32]
    assert shown == [0, 2, 4]


def test_an_end_is_marked_behind_the_last_frame():
    image = draw_sheet(story(), columns=6)
    below = image[rows_of(image, color_of(93))]
    left = MARGIN + LABELS + 4 * (16 * 2 + 2 * 4 + GAP)
    assert columns_of(below, END_COLOR)[0] == left
    running = story(lanes=tuple(lane._replace(ended="") for lane in story().lanes))
    assert not len(rows_of(draw_sheet(running, columns=6), END_COLOR))


def test_curves_of_all_lanes_have_one_scale():
    assert story().scale(SURPRISE) == (0.0, 4.0)
    negative = story().lanes[0]._replace(curves={REWARD: np.array([np.nan, -2.0])})
    assert story(lanes=(negative,)).scale(REWARD) == (-2.0, 0.0)


def test_the_legend_names_what_occurs_and_nothing_else():
    words = [words for line in legend_lines(story(), 2000) for _, words, _ in line]
    assert words == [
        ORIGINS[GIVEN].words,
        ORIGINS[DREAMT].words,
        ORIGINS[REAL].words,
        "end of the episode",
        "left",
        "right",
    ]


@pytest.mark.parametrize("room", [200, 400, 900])
def test_legend_and_title_are_wrapped_and_not_cut(room):
    for line in legend_lines(story(), room):
        column, words, _ = line[-1]
        assert len(line) == 1 or column + 18 + text_width(words) <= room + MARGIN
    title = "some model: 4 steps of the real game given, then dreamt by the same actions (a step is 0.11 s)"
    lines = title_lines(title, room)
    assert " ".join(lines) == title and all(text_width(line, TITLE_SIZE) <= room for line in lines)


def test_a_film_shows_every_frame_of_every_step_in_its_panel():
    film = draw_film(story(), columns=2, scale=3)
    assert len(film) == 12
    width = 16 * 3 + 2 * 3
    for index, image in enumerate(film):
        step = index // 2
        panel = image[:, MARGIN : MARGIN + width]
        assert len(rows_of(panel, color_of(50 + step))) == 48
        color = BLUE if step < 2 else GRAY
        assert tuple(panel[rows_of(panel, color_of(50 + step))[0], 0]) == color
    second = film[-1][:, MARGIN + width + MARGIN :]
    held = rows_of(second, (46, 2, 125))  # ended: the last frame, darker
    assert len(held) == 48 and tuple(second[held[0], 0]) == END_COLOR


def test_the_line_of_a_film_moves_along_the_strips():
    film = draw_film(story(), columns=2, scale=3)
    places = [columns_of(image[-20:-10, : MARGIN + 54], (255, 255, 255))[0] for image in film]
    assert places == sorted(places) and places[0] < places[6] < places[-1]


def test_panels_that_do_not_fit_in_a_row_go_below():
    beside, below = (draw_film(story(), columns=columns, scale=3) for columns in (2, 1))
    assert below.shape[1] > 1.5 * beside.shape[1] - 3 * LINE


def test_a_code_covers_its_part_of_the_picture():
    images = np.arange(8, dtype=np.uint8).reshape(1, 1, 2, 4, 1).repeat(3, -1)
    shown = code_frames(images, (2, 16, 16))
    assert shown.shape == (1, 2, 16, 16, 3)
    assert (shown[0, :, :8, :4] == 0).all() and (shown[0, :, 8:, 12:] == 7).all() and (shown[0, :, 8:, 4:8] == 5).all()


def test_continuous_actions_are_drawn_within_their_bounds():
    spec = ActionSpec(kind="box", n=2, low=(-2.0, 0.0), high=(2.0, 1.0))
    np.testing.assert_allclose(signed(np.array([[2.0, 0.5], [-1.0, 0.0]], np.float32), spec), [[1, 0], [-0.5, -1]])
    moved = story(spec=spec, actions=np.array([[2.0, 0.0]] * 5, np.float32))
    assert moved.shown_actions == {}
    assert len(columns_of(draw_sheet(moved, columns=6), ORANGE)) > 100  # a whole row of the strip

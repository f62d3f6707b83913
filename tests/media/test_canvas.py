"""What is drawn where: texts that fit, bars, spans and heat along time."""

import numpy as np
import pytest

from worldmodel.media.canvas import PANEL, SMALL, Canvas, Track, fitted
from worldmodel.media.captions import TEXT_SIZE, text_width

RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_text_gets_smaller_before_it_is_cut():
    assert fitted("short", 200) == (TEXT_SIZE, "short")
    long = "a rather long label"
    size, text = fitted(long, text_width(long, SMALL) + 1)
    assert (size, text) == (SMALL, long)
    size, text = fitted(long, 50)
    assert size == SMALL and text.endswith("…") and text_width(text, SMALL) <= 50
    assert fitted("anything", 0) == (SMALL, "")


@pytest.mark.parametrize("align", ["left", "center", "right"])
def test_text_stays_in_its_room(align):
    canvas = Canvas(300, 40)
    before = canvas.pixels()
    canvas.text(100, 20, "words that are far too long for so little room", 80, align=align)
    drawn = np.flatnonzero((canvas.pixels() != before).any((0, 2)))
    assert len(drawn) and drawn.min() >= 99 and drawn.max() <= 181


def test_bars_stand_on_zero_and_fill_their_step():
    canvas = Canvas(40, 21)
    canvas.bars(Track(0, 10, 4), 0, 21, np.array([1.0, -1.0, np.nan, 0.5]), -1.0, 1.0, [RED, BLUE, RED, RED])
    pixels = canvas.pixels()
    assert (pixels[0:10, 0:9] == RED).all() and (pixels[12:, 0:9] != RED).any(-1).all()
    assert (pixels[10:20, 10:19] == BLUE).all() and (pixels[:9, 10:19] != BLUE).any(-1).all()
    assert (pixels[:, 20:30] == pixels[20, 25]).all()  # nothing where there is no value
    assert (pixels[5:10, 30:39] == RED).all() and (pixels[:4, 30:39] != RED).any(-1).all()


def test_spans_cover_runs_of_equal_names():
    canvas = Canvas(100, 10)
    canvas.spans(Track(0, 10, 10), 0, 10, ["", "a", "a", "b", *[""] * 6], {"a": RED, "b": BLUE})
    pixels = canvas.pixels()
    assert (pixels[0, 10:28] == RED).all() and (pixels[0, 30:38] == BLUE).all()
    assert (pixels[0, :10] != RED).any(-1).all() and (pixels[0, 40:] == pixels[0, 99]).all()


def test_heat_is_orange_above_zero_and_blue_below():
    canvas = Canvas(20, 10)
    canvas.heat(Track(0, 10, 2), 0, 10, np.array([[1.0, 0.0], [-1.0, np.nan]], np.float32))
    pixels = canvas.pixels().astype(int)
    assert pixels[2, 5, 0] > pixels[2, 5, 2] and pixels[2, 15, 2] > pixels[2, 15, 0]
    assert tuple(pixels[8, 5]) == PANEL and tuple(pixels[8, 15]) != PANEL


def test_a_copy_is_drawn_on_alone():
    canvas = Canvas(10, 10)
    other = canvas.copy()
    other.box(0, 0, 10, 10, RED)
    assert (other.pixels() == RED).all() and not (canvas.pixels() == RED).all()

"""The progress bar counts from where a resumed job stands, and appears for all long work."""

import re
import time

import numpy as np
import pytest
import torch

from tests.tiny import tiny_world
from tests.training.recorded import recorded_store
from worldmodel import progress as module
from worldmodel import visualize
from worldmodel.data.clips import sample_frames
from worldmodel.evaluation.danger_probe import danger_probe
from worldmodel.evaluation.held_out import encode_segments
from worldmodel.evaluation.open_loop import open_loop
from worldmodel.evaluation.scores import encode_decode, predictions
from worldmodel.media.read import read_images
from worldmodel.media.write import write_video
from worldmodel.progress import progress, progress_if_long, stepwise


def test_the_bar_shows_label_count_and_note_on_standard_error(capsys):
    with progress(10, "step", "training", initial=4) as bar:
        bar.note("loss 0.25")
        bar.update(6)
    output = capsys.readouterr()
    last = output.err.rstrip().split("\r")[-1]
    assert last.startswith("training: 100%")
    assert "10/10" in last
    assert "loss 0.25" in last
    assert output.out == ""


def test_a_log_file_gets_few_lines(capsys):
    with progress(3, "step", "training") as bar:
        for _ in range(3):
            time.sleep(0.21)  # a terminal would be repainted after each
            bar.update()
    assert capsys.readouterr().err.count("training") == 2  # at the start and at the end


def test_nested_bars_write_no_movements_of_the_cursor_into_a_log_file(capsys):
    with progress(2, "step", "outer") as outer, progress(1, "step", "inner", delay=0.01) as inner:
        time.sleep(0.05)
        inner.update()
        outer.update()
    err = capsys.readouterr().err
    assert "outer" in err and "inner" in err
    assert "\x1b" not in err


def test_a_bar_of_short_work_never_appears(capsys):
    assert list(stepwise(range(3), "step", "work")) == [0, 1, 2]
    with progress_if_long(3, "step", "work") as bar:
        bar.update(3)
        assert bar.done == 3
    assert capsys.readouterr().err == ""


def test_a_bar_of_long_work_appears_and_vanishes(capsys, monkeypatch):
    monkeypatch.setattr(module, "LONG", 0.05)
    for _ in stepwise(range(4), "step", "work"):
        time.sleep(0.06)
    err = capsys.readouterr().err
    assert ("work:" in err and "/4" in err and "step/s" in err) or "s/step" in err
    assert err.endswith("\r")  # wiped


@pytest.fixture
def at_once(monkeypatch):
    """Bars of work of any length."""
    monkeypatch.setattr(module, "LONG", 1e-9)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return recorded_store(tmp_path_factory.mktemp("store") / "data", lengths=(20,) * 20)


# What may take longer than five seconds: label of its bar, and how to start it.
LONG_WORK = {
    "read frames": lambda world, store, out: sample_frames(store, 4, np.random.default_rng(0), "train"),
    "encode": lambda world, store, out: encode_segments(world, store, "test", 8),
    "encode and decode": lambda world, store, out: encode_decode(
        world.tokenizer, torch.zeros(2, 1, *FRAME, dtype=torch.uint8), "cpu"
    ),
    "predict": lambda world, store, out: predictions(world, encode_segments(world, store, "test", 8)),
    "dream": lambda world, store, out: open_loop(world, store, "test", 2, 2, 1.0, num_steps=3),
    "sample": lambda world, store, out: world.sample(1, 3, torch.zeros(1, 1, *FRAME, dtype=torch.uint8), [[1, 2]]),
    "encode for probes, train": lambda world, store, out: danger_probe(world.tokenizer, store, 64),
    "write an mp4": lambda world, store, out: write_video(out / "film.mp4", FILM, 10),
    "write a gif": lambda world, store, out: write_video(out / "film.gif", FILM, 10),
    "read film.mp4": lambda world, store, out: read_images(write_video(out / "film.mp4", FILM, 10)[0], 3),
    "draw": lambda world, store, out: visualize.futures(world, n=1, steps=2).film(),
}
FRAME = (2, 16, 16, 3)
FILM = np.zeros((5, 16, 16, 3), np.uint8)


@pytest.mark.parametrize("label", LONG_WORK)
def test_long_work_shows_how_far_it_is(at_once, store, tmp_path, capsys, label):
    LONG_WORK[label](tiny_world(), store, tmp_path)
    err = capsys.readouterr().err
    assert f"{label}: " in err and re.search(rf"{label}: .*[1-9]\d*/[1-9]\d*", err)

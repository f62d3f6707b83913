"""Tests for training/run_folder.py: a training's folder holds nothing else, and one training at a time."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch.utils.tensorboard

from tests.data.makers import make_store
from tests.kills import kill_everywhere, litter
from tests.tiny import tiny_world
from tests.training.test_fit import CONFIG, make_task, weights
from worldmodel.files import write_json
from worldmodel.replacing import replacing
from worldmodel.tokenizer.files import save_tokenizer
from worldmodel.training.fit import fit
from worldmodel.training.run_folder import own_folder
from worldmodel.training.train_dynamics import train_dynamics
from worldmodel.training.train_tokenizer import train_tokenizer


def contents(folder) -> dict:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


OTHERS = {
    "a world": lambda folder: tiny_world().save_pretrained(folder),
    "a tokenizer": lambda folder: save_tokenizer(folder, tiny_world().tokenizer),
    "a store": make_store,
    "an agent's run": lambda folder: write_json(folder / "config.json", {"steps": 3, "finished": True}),
    "a demo": lambda folder: write_json(folder / "config.json", {"tokenizer": {"loop": {}}}),
    "another training": lambda folder: write_json(folder / "config.json", {"command": "other", "loop": {}}),
    "somebody's files": lambda folder: write_json(folder / "metrics.jsonl", {"step": 1}),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_a_training_refuses_a_folder_that_holds_something_else(tmp_path, make):
    make(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path.name} holds something other than a run of this training"):
        fit(make_task(), CONFIG, tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("train", ["tokenizer", "dynamics"])
def test_the_commands_refuse_the_folder_of_a_world(tmp_path, train):
    from tests.training import test_train_dynamics, test_train_tokenizer

    world = tmp_path / "world"
    tiny_world().save_pretrained(world)
    test_train_dynamics.recorded_store(tmp_path / "data", lengths=(40, 9, 3, 17) * 8)
    before = contents(world)
    with pytest.raises(ValueError, match="holds something other than a run of train-"):
        if train == "tokenizer":
            config = replace(test_train_tokenizer.CONFIG, model=tiny_world().tokenizer.config)
            train_tokenizer(tmp_path / "data", world, config)
        else:
            train_dynamics(tmp_path / "data", world, world, test_train_dynamics.CONFIG)
    assert contents(world) == before


def test_a_file_is_refused_as_a_run_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is not a folder, and a training needs one"):
        fit(make_task(), CONFIG, tmp_path / "file")


def test_a_training_refuses_a_folder_while_another_process_trains_in_it(tmp_path):
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom worldmodel.locks import only_process\n"
        "with only_process(Path(sys.argv[1]), 'training'):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=root, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        began = time.monotonic()
        with pytest.raises(ValueError, match=f"another training is running in .*{tmp_path.name}"):
            fit(make_task(), CONFIG, tmp_path)
        assert time.monotonic() - began < 5 and [path.name for path in tmp_path.iterdir()] == [".lock"]
        other.kill()
    fit(make_task(), CONFIG, tmp_path)


def test_a_training_refuses_a_folder_in_which_another_thread_trains(tmp_path):
    found = []

    def train():
        try:
            fit(make_task(), CONFIG, tmp_path)
        except ValueError as error:
            found.append(str(error))

    with own_folder(tmp_path, ""):
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
        assert "another training is running" in found[0]
        fit(make_task(), CONFIG, tmp_path)  # the holder itself may


class NoEvents:
    def __init__(self, *_, **__) -> None: ...
    def add_scalar(self, *_) -> None: ...
    def close(self) -> None: ...


@pytest.fixture
def quick(monkeypatch):
    """Without what takes time and does not matter here: waits for the disk, and TensorBoard's files."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(torch.utils.tensorboard, "SummaryWriter", NoEvents)


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_a_training_killed_at_any_file_operation_resumes_to_the_same_weights(tmp_path, quick, every):
    config = replace(CONFIG, steps=2, evaluate_every=2, save_every=1)

    def save(place):
        with replacing(place) as fresh:
            write_json(fresh / "config.json", place.name)

    def run(folder):
        task = replace(make_task(), save=save)
        scores = fit(task, config, folder)
        return weights(task).tolist(), scores

    wanted = run(tmp_path / "unbroken")
    log = (tmp_path / "unbroken" / "metrics.jsonl").read_text()
    names, kills = contents(tmp_path / "unbroken").keys(), 0
    for _ in kill_everywhere(tmp_path / "none", tmp_path / "runs" / "killed", run, every=every):
        kills += 1
        assert run(tmp_path / "runs" / "killed") == wanted
        assert litter(tmp_path) == []
        assert (tmp_path / "runs" / "killed" / "metrics.jsonl").read_text() == log
        assert contents(tmp_path / "runs" / "killed").keys() == names
    assert kills * every > 40

"""A comparison killed at some of its file operations ends as an unbroken one when the same command is run again."""

import os

import pytest

from tests.kills import kill_everywhere, litter
from tests.training.pipeline.test_demo_killed import contents
from tests.training.telling_store import telling_store
from worldmodel.data import EpisodeStorage
from worldmodel.files import write_json
from worldmodel.training.ablations import run as module
from worldmodel.training.ablations.run import ablate


def train(_, *arguments, **__):
    """Leaves one file, as a training in a folder that it holds leaves many."""
    write_json(arguments[-2] / "weights.json", 1)


def measure(folder, *_):
    write_json(folder / "measured.json", {"metrics": {"nmse": 0.5}})


@pytest.mark.parametrize("every", [61, pytest.param(7, marks=pytest.mark.slow)])
def test_a_comparison_killed_at_some_of_its_file_operations_ends_by_the_same_command(tmp_path, monkeypatch, every):
    store = telling_store(tmp_path / "play")
    stubs = {"train_tokenizer": train, "train_dynamics": train, "measure_tokenizer": measure, "measure_prior": measure}
    stubs |= {"prepare": lambda _: None, "floor_of": lambda _: {}, "floor_source": lambda _: "nothing"}
    for name, stub in stubs.items():
        monkeypatch.setattr(module, name, stub)
    monkeypatch.setattr(module.time, "monotonic", lambda: 0.0)
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def run(out):
        ablate("lvt-codebooks", store.root, out, "smoke", command="videogen-dream ablate")

    run(tmp_path / "unbroken")
    wanted, kills, out = contents(tmp_path / "unbroken"), 0, tmp_path / "runs" / "ablations"
    assert "lvt-codebooks.md" in wanted and any(name.endswith("weights.json") for name in wanted)
    for _ in kill_everywhere(tmp_path / "none", out, run, every=every):
        kills += 1
        run(out)
        assert contents(out) == wanted and litter(tmp_path) == []
        for data in out.glob("data-*"):
            assert EpisodeStorage.open(data).num_steps > 0
    assert kills > 1

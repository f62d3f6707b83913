"""A demo killed at any file operation, also with --fresh, ends like an unbroken one when the same command is rerun."""

import os
from dataclasses import replace

import pytest

from tests.data.makers import INFO, make_episode
from tests.kills import kill_everywhere, litter
from tests.training.pipeline.test_demo import SMALL
from worldmodel.data import EpisodeStorage
from worldmodel.files import atomic_write, write_json
from worldmodel.replacing import replacing
from worldmodel.training.pipeline import demo as module
from worldmodel.training.pipeline import round as round_module
from worldmodel.training.pipeline.demo import demo
from worldmodel.training.run_folder import own_folder


def collect(_, out, **__):
    """Plays two episodes, as many as are missing."""
    there = (out / "data" / "metadata.json").exists()
    with EpisodeStorage.open(out) if there else EpisodeStorage.create(out, INFO) as store:
        for number in store.missing_ids(2):
            store.write_pending(make_episode(3, number), number)


def train(_, *arguments, **__):
    """Writes the files that a training writes; the training itself has its own tests."""
    out = arguments[-2]
    with own_folder(out, "train"):
        write_json(out / "config.json", {"command": "train", "loop": {}})
        for name in ("best", "best", "last"):
            with replacing(out / name) as fresh:
                write_json(fresh / "config.json", name)


def train_agent(world, out, config, **_):
    """Continues the unfinished agent of a killed attempt, as the real one does."""
    assert (world / "config.json").exists()
    write_json(out / "metrics.jsonl", 1)
    write_json(out / "agent" / "config.json", 1)


def report(out, *_):
    for name in ("report.md", "dream_vs_real.gif"):
        with atomic_write(out / name) as temporary:
            temporary.write_text(name)


def contents(folder):
    # The minutes of stages.json are those of all attempts, and a file of HDF5 holds times.
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".hdf5")
    files = (path for path in files if path.name != "stages.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def one_file(*arguments, **_):
    """The least work that a stage can do."""
    write_json(arguments[1 if len(arguments) < 4 and isinstance(arguments[0], str) else -2] / "file.json", 1)


STAGES = {"collect": collect, "train_tokenizer": train, "train_dynamics": train, "train_agent": train_agent}


def use(monkeypatch, stages):
    for name, stage in stages.items():
        monkeypatch.setattr(round_module, name, stage)
    for name, stage in {"_judge": lambda *_: [], "_report": report}.items():
        monkeypatch.setattr(module, name, stage)
    monkeypatch.setattr(os, "fsync", lambda _: None)


CASES = {
    "from nothing": (None, False),
    "afresh from nothing": (None, True),
    "afresh after the same": (SMALL, True),
    "afresh after another": (replace(SMALL, seed=7), True),
}


@pytest.mark.parametrize(
    ("stages", "case", "every"),
    [
        *(pytest.param(STAGES, case, 1, marks=pytest.mark.slow, id=f"{case}, stages of many files") for case in CASES),
        *(
            pytest.param(dict.fromkeys(STAGES, one_file), case, every, marks=marks, id=f"{case}, stages of one file")
            for case, every, marks in (("from nothing", 3, ()), ("afresh after another", 1, pytest.mark.slow))
        ),
    ],
)
def test_a_demo_killed_at_any_file_operation_ends_by_the_same_command(tmp_path, monkeypatch, stages, case, every):
    use(monkeypatch, stages)
    earlier, fresh = CASES[case]
    if earlier is not None:
        demo(tmp_path / "before", earlier)
        (tmp_path / "before" / "old").mkdir()
        (tmp_path / "before" / "old" / "notes").write_text("goes with --fresh")
    demo(tmp_path / "unbroken", SMALL)
    wanted, kills, out = contents(tmp_path / "unbroken"), 0, tmp_path / "runs" / "demo"
    for _ in kill_everywhere(tmp_path / "before", out, lambda out: demo(out, SMALL, fresh=fresh), every=every):
        kills += 1
        demo(out, SMALL, fresh=fresh)
        assert contents(out) == wanted and litter(tmp_path) == []
    assert kills * every > 50


def test_a_demo_killed_while_it_deletes_an_earlier_one_starts_over_without_fresh_too(tmp_path, monkeypatch):
    use(monkeypatch, dict.fromkeys(STAGES, one_file))
    demo(tmp_path / "before", SMALL)
    wanted, out = contents(tmp_path / "before"), tmp_path / "runs" / "demo"
    for _ in kill_everywhere(tmp_path / "before", out, lambda out: demo(out, SMALL, fresh=True), every=4):
        demo(out, SMALL)
        assert contents(out) == wanted

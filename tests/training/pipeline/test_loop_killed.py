"""A loop killed at some of its file operations ends as an unbroken one when the same command is run again."""

import os
from dataclasses import replace

import pytest

from tests.kills import kill_everywhere, litter
from tests.training.pipeline.test_demo_killed import STAGES, collect, contents, one_file
from tests.training.pipeline.test_loop import SMALL
from worldmodel.files import write_json
from worldmodel.training.pipeline import loop as module
from worldmodel.training.pipeline import round as round_module
from worldmodel.training.pipeline.loop import FACTS, iterate, round_folder


def report(out, config, minutes):
    write_json(out / "report.md", list(minutes))
    return out / "report.md"


@pytest.mark.parametrize("every", [47, pytest.param(5, marks=pytest.mark.slow)])
def test_a_loop_killed_at_some_of_its_file_operations_ends_by_the_same_command(tmp_path, monkeypatch, every):
    for name in STAGES:
        monkeypatch.setattr(round_module, name, collect if name == "collect" else one_file)
    monkeypatch.setattr(module, "_judge_random", lambda out, _: write_json(out / "random.json", 1))
    monkeypatch.setattr(
        module, "_judge", lambda out, number, _: write_json(round_folder(out, number) / FACTS, [number])
    )
    monkeypatch.setattr(module, "write_rounds", report)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    config = replace(SMALL, rounds=2)
    iterate(tmp_path / "unbroken", config)
    wanted, kills, out = contents(tmp_path / "unbroken"), 0, tmp_path / "runs" / "loop"
    assert {f"round-{number}/{FACTS}" for number in range(2)} <= wanted.keys()
    for _ in kill_everywhere(tmp_path / "none", out, lambda out: iterate(out, config), every=every):
        kills += 1
        iterate(out, config)
        assert contents(out) == wanted and litter(tmp_path) == []
    assert kills > 2

"""Imports killed at some of their file operations end as unbroken ones when the same command is run again."""

import os

import numpy as np
import pytest

from tests.data.lerobot.makers import make_store
from tests.kills import kill_everywhere
from worldmodel.data import EpisodeStorage
from worldmodel.data.lerobot.exporter import export_lerobot
from worldmodel.data.lerobot.importer import import_lerobot
from worldmodel.data.user_video.importer import import_video


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    for number in range(2):
        np.save(
            folder / f"{number}.npy", np.random.default_rng(number).integers(256, size=(7, 8, 8, 3), dtype=np.uint8)
        )
    export_lerobot(make_store(folder / "store", (4, 2)), folder / "lerobot")
    return folder


IMPORTS = {
    "videos": lambda sources, out: import_video([sources / "0.npy", sources / "1.npy"], out),
    "LeRobot": lambda sources, out: import_lerobot(sources / "lerobot", out),
}


def content(store: EpisodeStorage) -> list:
    return [(store.frames(e).tobytes(), store.actions(e).tobytes(), store.ended(e)) for e in range(len(store))]


@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", IMPORTS)
def test_an_import_killed_at_some_of_its_file_operations_ends_by_the_same_command(
    sources, tmp_path, monkeypatch, name, every
):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    wanted, kills = content(IMPORTS[name](sources, tmp_path / "unbroken")), 0
    assert len(wanted) == 2
    out = tmp_path / "runs" / "new"
    for _ in kill_everywhere(tmp_path / "none", out, lambda out: IMPORTS[name](sources, out), every=every):
        kills += 1
        assert content(IMPORTS[name](sources, out)) == wanted
        assert content(EpisodeStorage.open(out)) == wanted
    assert kills * every > 25


@pytest.mark.parametrize("every", [19, pytest.param(2, marks=pytest.mark.slow)])
def test_an_export_killed_at_some_of_its_file_operations_ends_by_the_same_command(tmp_path, monkeypatch, every):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    store, kills = make_store(tmp_path / "store", (4, 2)), 0
    wanted = [episode[1:] for episode in content(store)]  # films are not exact
    out = tmp_path / "runs" / "set"
    for at in kill_everywhere(tmp_path / "none", out, lambda out: export_lerobot(store, out), every=every):
        kills += 1
        if not out.exists():
            export_lerobot(store, out)
        assert [episode[1:] for episode in content(import_lerobot(out, tmp_path / f"again-{at}"))] == wanted
    assert kills * every > 30

"""Tests for worldmodel/replacing.py: checkpoints that are replaced, and processes that die meanwhile."""

import os
import stat
import time

import pytest
import torch
from safetensors.torch import load_file

from tests.kills import kill_everywhere, litter
from tests.tiny import tiny_world
from worldmodel import WorldModel, leftovers
from worldmodel.checksums import check_sums
from worldmodel.replacing import finish_replacing, replacing


def bias(folder) -> float:
    return WorldModel.from_pretrained(folder, dtype=torch.float32).heads.end_shift.item()


def saved_bias(folder) -> float:
    """The same without building a model: of files that fit their checksums."""
    check_sums(folder)
    return load_file(folder / "model.safetensors")["heads.end_shift"].item()


def world(value: float) -> WorldModel:
    model = tiny_world(layers=1)
    model.heads.end_shift.fill_(value)
    return model


def test_a_save_killed_at_any_file_operation_leaves_a_whole_checkpoint(tmp_path):
    old, new = world(1.0), world(2.0)
    (tmp_path / "run").mkdir()
    old.save_pretrained(tmp_path / "before")
    found = []
    for _ in kill_everywhere(tmp_path / "before", tmp_path / "run" / "best", new.save_pretrained):
        found.append(bias(tmp_path / "run"))  # the run is resolved to its best checkpoint
        new.save_pretrained(tmp_path / "run" / "best")
        assert saved_bias(tmp_path / "run" / "best") == 2.0
        assert litter(tmp_path) == []
    assert set(found) == {1.0, 2.0} and len(found) > 10


def test_a_first_save_killed_at_any_file_operation_can_be_repeated(tmp_path):
    model = world(2.0)
    (tmp_path / "run").mkdir()
    for _ in kill_everywhere(tmp_path / "none", tmp_path / "run" / "best", model.save_pretrained):
        model.save_pretrained(tmp_path / "run" / "best")
        assert saved_bias(tmp_path / "run" / "best") == 2.0
        assert litter(tmp_path) == []
    assert bias(tmp_path / "run" / "best") == 2.0


def test_a_world_in_a_folder_that_may_not_be_listed_is_loaded(tmp_path, monkeypatch):
    world(2.0).save_pretrained(tmp_path / "home" / "world")
    scandir = os.scandir

    def forbidding(folder):
        if os.path.samefile(folder, tmp_path / "home"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", forbidding)
    assert bias(tmp_path / "home" / "world") == 2.0


def test_an_exchange_of_a_running_process_is_left_alone(tmp_path):
    with replacing(tmp_path / "best") as fresh:
        (fresh / "file").write_text("half")
        finish_replacing(tmp_path / "best")
        assert (fresh / "file").exists()
    assert (tmp_path / "best" / "file").read_text() == "half"


def test_an_exchange_that_another_machine_makes_is_left_alone_until_it_has_not_changed_for_an_hour(
    tmp_path, monkeypatch
):
    with leftovers.name_beside(tmp_path / "best") as work:
        (work / "new").mkdir(parents=True)
        (work / "new" / "file").write_text("half")
    monkeypatch.setattr(leftovers, "_place", lambda: "0123abcd")  # read on a machine with such a process, too
    finish_replacing(tmp_path / "best")
    assert (work / "new" / "file").exists() and leftovers.is_temporary(work.name)
    hour_ago = time.time() - 3700
    for path in (work / "new" / "file", work / "new"):
        os.utime(path, (hour_ago, hour_ago))
    finish_replacing(tmp_path / "best")
    assert work.exists()
    os.utime(work, (hour_ago, hour_ago))
    finish_replacing(tmp_path / "best")
    assert litter(tmp_path) == []


def test_whoever_holds_a_folder_removes_what_another_machine_left(tmp_path, monkeypatch):
    with leftovers.name_beside(tmp_path / "best") as work:
        (work / "new").mkdir(parents=True)
    monkeypatch.setattr(leftovers, "_place", lambda: "0123abcd")
    finish_replacing(tmp_path / "best", alone=True)
    assert litter(tmp_path) == []


def test_permissions_of_a_checkpoint_are_kept_and_new_files_get_the_usual_ones(tmp_path):
    folder, usual = tmp_path / "best", tmp_path / "usual"
    usual.touch()
    world(1.0).save_pretrained(folder)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {stat.S_IMODE(usual.stat().st_mode)}
    folder.chmod(0o750)
    (folder / "model.safetensors").chmod(0o640)
    world(2.0).save_pretrained(folder)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "model.safetensors")]
    assert modes == [0o750, 0o640] and bias(folder) == 2.0


@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_a_read_only_checkpoint_is_refused_and_stays(tmp_path, name):
    folder = tmp_path / "best"
    world(1.0).save_pretrained(folder)
    mode = (folder / name).stat().st_mode
    (folder / name).chmod(mode & ~0o222)
    with pytest.raises(PermissionError, match=r"read-only.*best"):
        world(2.0).save_pretrained(folder)
    assert bias(folder) == 1.0 and os.listdir(tmp_path) == ["best"]


def test_a_linked_checkpoint_is_replaced_where_it_lies(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "best").symlink_to("disk")
    world(1.0).save_pretrained(tmp_path / "best")
    world(2.0).save_pretrained(tmp_path / "best")
    assert (tmp_path / "best").is_symlink() and bias(tmp_path / "disk") == 2.0


def test_a_file_or_device_is_no_place_for_a_checkpoint(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", "/dev/null"):
        with pytest.raises(NotADirectoryError, match="is not a folder, but a world model is saved as one"):
            world(1.0).save_pretrained(path)

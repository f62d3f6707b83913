import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tests.tiny import tiny_world
from worldmodel import checkpoint
from worldmodel.model import WorldModel, WorldModelConfig
from worldmodel.tokenizer.files import load_tokenizer, save_tokenizer


@pytest.fixture
def folder(tmp_path):
    return tiny_world().save_pretrained(tmp_path / "world", card="# tiny\n")


def change(folder, **keys):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def test_a_loaded_world_equals_the_saved_one(folder):
    saved, loaded = tiny_world(), WorldModel.from_pretrained(folder, dtype=torch.float32)
    assert loaded.config == saved.config
    assert all(torch.equal(t, loaded.state_dict()[name]) for name, t in saved.state_dict().items())
    assert all(torch.equal(t, loaded.starts.packed()[name]) for name, t in saved.starts.packed().items())
    assert loaded.starts.first is None
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert (folder / "README.md").read_text() == "# tiny\n"


def test_first_steps_of_episodes_are_saved_beside_the_other_starts(tmp_path):
    world = tiny_world(first=4)
    folder = world.save_pretrained(tmp_path / "world")
    names = {"codes", "actions", "signals", "first_codes", "first_actions", "first_signals"}
    assert set(load_file(folder / "starts.safetensors")) == names
    first = WorldModel.from_pretrained(folder).starts.first
    assert first.codes.shape[:2] == (4, 1) and first.actions.shape == (4, 0) and first.first is None
    for ours, theirs in zip(first[:3], world.starts.first[:3], strict=True):
        assert torch.equal(ours, theirs)


def test_a_bf16_checkpoint_is_about_half_as_large_and_loads_into_any_dtype(tmp_path, folder):
    half = tiny_world().prepare(torch.bfloat16).save_pretrained(tmp_path / "half")
    assert (half / "model.safetensors").stat().st_size < 0.75 * (folder / "model.safetensors").stat().st_size
    WorldModel.from_pretrained(half, dtype=torch.float32)


def test_another_format_version_is_refused(folder):
    change(folder, format_version=99)
    with pytest.raises(ValueError, match="format version 99; this release reads 1"):
        WorldModel.from_pretrained(folder)


def test_a_run_folder_stands_for_its_best_checkpoint(tmp_path):
    wanted = tiny_world().save_pretrained(tmp_path / "run" / "dynamics" / "best")
    for given in (tmp_path / "run", tmp_path / "run" / "dynamics", wanted):
        assert checkpoint.resolve(given) == wanted
        WorldModel.from_pretrained(given)
    save_tokenizer(tmp_path / "tokenizer" / "best", tiny_world().tokenizer)
    load_tokenizer(tmp_path / "tokenizer")


def test_a_run_folder_without_a_best_names_the_checkpoints_inside(folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"steps": 3}')
    with pytest.raises(ValueError, match=r"not a checkpoint folder .* \(its config.json names no format\)$"):
        WorldModel.from_pretrained(run)
    tiny_world().save_pretrained(run / "last")
    save_tokenizer(run / "agent", tiny_world().tokenizer)  # another kind
    with pytest.raises(ValueError, match=rf"a run folder with checkpoints: give {run / 'last'}\)?$"):
        WorldModel.from_pretrained(run)


def test_a_run_folder_of_an_unfinished_training_says_so(tmp_path):
    (tmp_path / "config.json").write_text('{"steps": 3}')
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(ValueError, match="has saved no checkpoint yet"):
        WorldModel.from_pretrained(tmp_path)


def test_a_store_given_in_place_of_a_model_is_called_a_store(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.json").touch()
    with pytest.raises(FileNotFoundError, match="is a store of recorded play, wanted a world model"):
        WorldModel.from_pretrained(tmp_path)


def test_a_missing_folder_of_an_agent_is_called_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nobody, wanted an agent"):
        checkpoint.load_config(tmp_path / "nobody", "agent", WorldModelConfig)


def test_unknown_keys_are_refused_by_name(folder):
    change(folder, colour="blue")
    with pytest.raises(ValueError, match="colour"):
        WorldModel.from_pretrained(folder)


def test_impossible_values_are_refused_by_name(folder):
    data = json.loads((folder / "config.json").read_text())
    change(folder, dynamics=data["dynamics"] | {"window": 1})
    with pytest.raises(ValueError, match="window must be at least 2"):
        WorldModel.from_pretrained(folder)


def test_missing_extra_and_misshapen_tensors_are_named(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({n: t for n, t in tensors.items() if n != "heads.threshold"}, path)
    with pytest.raises(ValueError, match=r"missing heads\.threshold"):
        WorldModel.from_pretrained(folder)
    save_file(tensors | {"heads.extra": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"unknown heads\.extra"):
        WorldModel.from_pretrained(folder)
    save_file(tensors | {"heads.threshold": torch.zeros(7)}, path)
    with pytest.raises(ValueError, match=r"heads\.threshold has shape \(7,\), wanted \(\)"):
        WorldModel.from_pretrained(folder)


LATER = ("heads.end_scale", "heads.end_shift", "heads.signal_low", "heads.signal_high")


@pytest.fixture
def older(tmp_path):
    """A checkpoint from before models named their class, and heads read signals and had a calibration and a range."""
    folder = blind_world().save_pretrained(tmp_path / "older")
    data = json.loads((folder / "config.json").read_text())
    del data["heads"]["read_signals"], data["tokenizer"]["net"], data["dynamics"]["net"]
    (folder / "config.json").write_text(json.dumps(data))
    tensors = load_file(folder / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if n not in LATER}, folder / "model.safetensors")
    (folder / "SHA256SUMS").unlink()
    return folder


def blind_world():
    """A world whose rewards and changes are predicted without the signals, and without calibration."""
    return tiny_world(heads={"read_signals": False})


def test_an_older_checkpoint_dreams_as_it_did(older):
    worlds = WorldModel.from_pretrained(older, dtype=torch.float32), blind_world()
    assert worlds[0].config == worlds[1].config
    outs = []
    for world in worlds:
        starts = world.starts
        state = world.start_codes(starts.codes, starts.actions, starts.signals[:, -1] + 1e4)  # beyond any range
        outs.append([world.step(state.clone(), torch.full((5,), action))[1] for action in range(3)])
    for ours, theirs in zip(*outs, strict=True):
        for name in ("codes", "reward", "termination_probability", "terminated", "signals"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert ours.signals.min() > 5e3


def test_a_saved_older_checkpoint_is_a_new_one(tmp_path, older):
    again = WorldModel.from_pretrained(older).save_pretrained(tmp_path / "again")
    assert json.loads((again / "config.json").read_text())["heads"]["read_signals"] is False
    assert set(LATER) <= load_file(again / "model.safetensors").keys()


def test_a_checkpoint_that_lost_some_of_what_older_ones_lack_is_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if n != "heads.end_scale"}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"json: missing heads\.end_scale$"):
        WorldModel.from_pretrained(folder)


def test_a_truncated_file_is_refused_by_name(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read"):
        WorldModel.from_pretrained(folder)


def test_an_unknown_name_gives_the_shipped_ones():
    with pytest.raises(FileNotFoundError, match="neither shipped nor a folder"):
        WorldModel.from_pretrained("doom-hsg")


def test_a_folder_without_config_is_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        WorldModel.from_pretrained(tmp_path)


def test_a_failed_save_leaves_the_old_checkpoint(folder, monkeypatch):
    before = (folder / "model.safetensors").read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "write_json", fail)
    with pytest.raises(OSError, match="disk full"):
        tiny_world(seed=1).save_pretrained(folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert sorted(p.name for p in folder.parent.iterdir()) == ["world"]


def test_a_failed_exchange_puts_the_old_checkpoint_back(folder, monkeypatch):
    before, replace = (folder / "model.safetensors").read_bytes(), os.replace
    moves = []

    def fail_at_the_second(source, target):
        if "config.json" not in str(target):  # of folders
            moves.append(target)
            if len(moves) == 2:
                raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        tiny_world(seed=1).save_pretrained(folder)
    assert len(moves) == 3 and (folder / "model.safetensors").read_bytes() == before
    assert sorted(p.name for p in folder.parent.iterdir()) == ["world"]


def test_what_killed_processes_left_is_in_nobodys_way(folder):
    for name in (f".world.{os.getpid()}.tmp", f".world.{os.getpid()}.old"):
        (folder.parent / name).mkdir()
        (folder.parent / name / "model.safetensors").write_text("half")
    tiny_world(seed=1).save_pretrained(folder)
    WorldModel.from_pretrained(folder)


@pytest.mark.parametrize("config", [None, '{"steps": 3}', '{"format_version": 1, "kind": "tokenizer"}'])
def test_a_folder_that_holds_something_else_is_not_changed(tmp_path, config):
    (tmp_path / "notes.txt").write_text("precious")
    if config:
        (tmp_path / "config.json").write_text(config)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileExistsError, match=f"{tmp_path.name} holds something other than a world model"):
        tiny_world().save_pretrained(tmp_path)
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "notes.txt").read_text() == "precious"


def test_a_repository_of_git_is_not_deleted_with_its_earlier_checkpoint(folder):
    (folder / ".git").mkdir()
    with pytest.raises(FileExistsError, match="a repository of git, which saving would delete"):
        tiny_world(seed=1).save_pretrained(folder)
    assert (folder / ".git").is_dir()


def test_an_empty_folder_and_the_working_folder_can_be_saved_to(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    tiny_world().save_pretrained(".")
    WorldModel.from_pretrained(tmp_path / "here")
    assert Path("config.json").is_file()  # still at work in the folder of that name


def test_a_full_disk_is_told_with_the_folder(folder, monkeypatch):
    def fail(*_):
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="world could not be written: No space left on device"):
        tiny_world().save_pretrained(folder)
    WorldModel.from_pretrained(folder)


def test_saving_again_replaces_the_checkpoint(folder):
    tiny_world(seed=1).save_pretrained(folder)
    loaded = WorldModel.from_pretrained(folder, dtype=torch.float32)
    assert torch.equal(loaded.state_dict()["heads.trunk.weight"], tiny_world(seed=1).state_dict()["heads.trunk.weight"])

"""train-dynamics killed at any file operation after its last step: the same command then gives the same world."""

import os

import pytest
import torch.utils.tensorboard

from tests.kills import KilledError, kill_everywhere, litter
from tests.tiny import tiny_world
from tests.training.recorded import recorded_store
from tests.training.test_run_folder import NoEvents
from tests.training.test_train_dynamics import CONFIG
from worldmodel.checkpoint import weights_name
from worldmodel.tokenizer.files import save_tokenizer
from worldmodel.training import train_dynamics as module


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Trains into a folder. Of the two runs made here, "before" is not calibrated and "unbroken" is."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(torch.utils.tensorboard, "SummaryWriter", NoEvents)
    save_tokenizer(tmp_path / "tokenizer", tiny_world().tokenizer)
    store = recorded_store(tmp_path / "data", lengths=(40, 9, 3, 17))

    def train(out):
        module.train_dynamics(store, tmp_path / "tokenizer", out, CONFIG)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_calibrate_both", lambda *_: None)
        train(tmp_path / "before")
    train(tmp_path / "unbroken")
    return train


def names(out):
    return [weights_name(out / name) for name in ("best", "last")]


@pytest.mark.parametrize("name", ["best", pytest.param("last", marks=pytest.mark.slow)])
def test_a_calibration_killed_between_the_two_moves_of_a_checkpoint_is_repeated(tmp_path, run, name):
    move = os.replace
    out = tmp_path / "before"

    def die(source, target):
        if os.path.dirname(source).endswith(".tmp") and os.path.basename(target) == name:
            (tmp_path / "killed").touch()
            raise KilledError
        if (tmp_path / "killed").exists():
            raise KilledError
        move(source, target)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(os, "replace", die)
        run(out)
    assert not (out / name).exists()
    run(out)
    assert names(out) == names(tmp_path / "unbroken") and litter(tmp_path) == []


@pytest.mark.slow
def test_a_calibration_killed_at_any_file_operation_is_repeated(tmp_path, run):
    out, kills = tmp_path / "runs" / "dynamics", 0
    for _ in kill_everywhere(tmp_path / "before", out, run):
        kills += 1
        run(out)
        assert names(out) == names(tmp_path / "unbroken") and litter(tmp_path) == []
    assert kills > 50

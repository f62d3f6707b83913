"""Fixtures shared by tests of training; a file that needs other episodes defines its own `store`."""

import pytest
import torch

from tests.tiny import tiny_world
from tests.training.recorded import recorded_store
from tests.training.stand_ins import Means, save_script
from worldmodel.training.code_segments import CodeStore


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return recorded_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def world():
    return tiny_world()


@pytest.fixture(scope="module")
def i3d_file(tmp_path_factory):
    """A TorchScript file in place of I3D: its logits are known by hand."""
    return save_script(Means(), tmp_path_factory.mktemp("i3d") / "means.pt")


@pytest.fixture
def unrendered(monkeypatch):
    """Plots as files without a picture: rendering one takes half a second."""

    def save(_, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    for module in ("reports", "dream_vs_real"):
        monkeypatch.setattr(f"worldmodel.training.{module}.plots.save", save)


@pytest.fixture
def codes(store):
    """Codes that show where they come from: all of step t of episode e are 100 e + t, as a (1, 1, 1) grid."""
    marks = [torch.arange(n + 1).view(-1, 1, 1, 1) + 100 * e for e, n in enumerate(store.lengths)]
    return CodeStore(store, [m.to(torch.int16) for m in marks], "train")

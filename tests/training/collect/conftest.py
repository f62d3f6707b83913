"""Fixtures shared by the tests of collection."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.training.counting_game import GAME_ID
from worldmodel.agents.policy import Policy
from worldmodel.training.collect.collect import collect


@pytest.fixture(scope="package")
def ten_episodes(tmp_path_factory) -> Path:
    """Ten episodes from one worker."""
    out = tmp_path_factory.mktemp("ten") / "store"
    collect(GAME_ID, out, episodes=10, workers=1)
    return out


class FakeAgent(Policy):
    """Records its calls."""

    def __init__(self, spec) -> None:
        self.action_spec = spec
        self.meta = SimpleNamespace(view="real", world_model="a-model")
        self.calls = []

    def view(self):
        return None if self.meta.view == "real" else (self.meta.world_model, self.meta.view)

    def reset(self, rows=None) -> None:
        self.calls.append("reset")

    def seed_rows(self, rows, seeds) -> None:
        self.calls.append(("seed", list(rows), list(seeds)))

    def act(self, observations: np.ndarray) -> np.ndarray:
        assert observations.shape == (1, 8, 8, 3)
        return np.array([1])


@pytest.fixture
def fake_agent(monkeypatch):
    """An agent that load_agent returns for any folder."""
    from tests.training.counting_game import CountingGame

    agent = FakeAgent(CountingGame.action_spec)
    monkeypatch.setitem(sys.modules, "worldmodel.agents.sb3.agent", SimpleNamespace(load_agent=lambda folder: agent))
    return agent

import json
import os
from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_world
from worldmodel.agents.sb3_agent import load_agent
from worldmodel.agents.sb3_config import AgentConfig
from worldmodel.training.train_agent import DreamTraining, train_agent

CONFIG = DreamTraining(agent=AgentConfig(steps=16, num_envs=4, n_steps=4, batch_size=8), horizon=4)


@pytest.fixture
def world(tmp_path):
    return tiny_world().save_pretrained(tmp_path / "world")


def test_a_finished_agent_is_kept_and_any_other_refused(world, tmp_path, capsys):
    folder = train_agent(world, tmp_path / "run", CONFIG, device="cpu")
    written = (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns
    assert train_agent(world, tmp_path / "run", CONFIG, device="cpu") == folder
    assert "has its 16 steps already" in capsys.readouterr().out
    with pytest.raises(ValueError, match="other settings; use another --out"):
        train_agent(world, tmp_path / "run", replace(CONFIG, horizon=5), device="cpu")
    tiny_world(seed=1).save_pretrained(world)
    with pytest.raises(ValueError, match="other settings; use another --out"):
        train_agent(world, tmp_path / "run", CONFIG, device="cpu")
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns == written


def test_an_agent_knows_its_world_from_any_working_folder(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = train_agent(os.path.relpath(world), tmp_path / "run", CONFIG, device="cpu")
    assert load_agent(folder).meta.world_model == str(world.resolve())
    assert json.loads((tmp_path / "run" / "config.json").read_text())["horizon"] == 4


def test_an_agent_goes_on_from_another_and_is_then_another(world, tmp_path):
    first = train_agent(world, tmp_path / "first", CONFIG, device="cpu")
    still = replace(CONFIG, agent=replace(CONFIG.agent, learning_rate=1e-12, seed=1))
    second = train_agent(world, tmp_path / "second", still, start_from=first, device="cpu")
    weights = [load_agent(folder).policy.state_dict() for folder in (first, second)]
    assert all(torch.allclose(weight, weights[1][name], atol=1e-6) for name, weight in weights[0].items())
    assert train_agent(world, tmp_path / "second", still, start_from=first, device="cpu") == second
    with pytest.raises(ValueError, match="other settings; use another --out"):
        train_agent(world, tmp_path / "second", still, device="cpu")


def test_a_world_is_no_agent_to_start_from(world, tmp_path):
    with pytest.raises(ValueError, match="holds a 'world_model', wanted a 'agent'"):
        train_agent(world, tmp_path / "run", CONFIG, start_from=world, device="cpu")
    assert not (tmp_path / "run").exists()

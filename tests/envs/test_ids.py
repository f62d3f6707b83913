"""A world or an agent from a stranger imports nothing and downloads nothing, wherever it is used."""

import sys
from dataclasses import replace

import gymnasium as gym
import pytest

from tests.tiny import tiny_world
from worldmodel import WorldModel
from worldmodel.agents.sb3.agent import load_agent
from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.envs.ids import confirmed_id
from worldmodel.training.cli.main import main
from worldmodel.training.train_agent import DreamTraining, train_agent

TINY = DreamTraining(agent=AgentConfig(steps=16, num_envs=4, n_steps=4, batch_size=8), horizon=4)
JUDGED = replace(TINY, eval_every=16, eval_episodes=1)
EVIL = "strangers_module:Stranger-v0"


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A module that writes a file when it is imported, and registers a game."""
    trace = tmp_path / "imported"
    code = f"""
import gymnasium
from tests.toy_game import ToyGame
open({str(trace)!r}, "w").close()
gymnasium.register("Stranger-v0", entry_point=ToyGame)
"""
    (tmp_path / "strangers_module.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield trace
    sys.modules.pop("strangers_module", None)
    gym.registry.pop("Stranger-v0", None)


@pytest.fixture
def world(tmp_path):
    """Folder of a world whose config names the planted module."""
    world = tiny_world()
    world.config = replace(world.config, env_id=EVIL)
    return world.save_pretrained(tmp_path / "world")


def test_a_worlds_config_imports_no_module_for_evaluations_during_training(planted, world, tmp_path):
    with pytest.raises(ValueError, match=r"config\.json names the game 'strangers_module:.*--allow-env strangers_mod"):
        train_agent(world, tmp_path / "run", JUDGED, device="cpu")
    assert not planted.exists() and not (tmp_path / "run").exists()


def test_a_worlds_config_imports_no_module_for_rllib(planted, world):
    from worldmodel.agents.rllib.config import dream_ppo

    with pytest.raises(ValueError, match=r"config\.json names the game 'strangers_module:.*pass real_env_id="):
        dream_ppo(env_config={"model": str(world), "device": "cpu"})
    assert not planted.exists()


def test_loading_inspecting_dreaming_and_training_import_nothing(planted, world, tmp_path, capsys):
    agent = train_agent(world, tmp_path / "run", TINY, device="cpu")
    assert main(["inspect", str(world)]) == 0 and main(["inspect", str(agent)]) == 0
    assert EVIL in capsys.readouterr().out
    with gym.make("VideoGenDream-Doom", model=str(world), device="cpu") as env:
        env.reset(seed=0)
    play = ["evaluate", str(agent), "--env", "VideoGenDream-Doom", "--world", str(world), "--horizon", "2"]
    assert main([*play, "--episodes", "1"]) == 0
    assert load_agent(agent).view() is not None
    assert WorldModel.from_pretrained(world).config.env_id == EVIL
    assert not planted.exists()


def test_an_id_that_the_caller_confirms_is_imported(planted, world, tmp_path):
    sizes = ["--agent.steps", "16", "--agent.num-envs", "4", "--agent.n-steps", "4", "--agent.batch-size", "8"]
    judged = ["--eval-every", "16", "--eval-episodes", "1", "--device", "cpu", *sizes]
    run = ["train-agent", "--world", str(world), "--out", str(tmp_path / "run"), *judged]
    assert main([*run, "--allow-env", "another:Game-v0"]) == 2
    assert not planted.exists()
    assert main([*run, "--allow-env", EVIL]) == 0
    assert planted.exists() and (tmp_path / "run" / "best" / "model.safetensors").is_file()


def test_an_unused_confirmation_is_refused(world, tmp_path):
    with pytest.raises(ValueError, match="is for eval_every, which is 0"):
        train_agent(world, tmp_path / "run", TINY, device="cpu", allow_env=EVIL)


def test_a_registered_id_is_made_without_its_module(monkeypatch, planted):
    monkeypatch.setitem(gym.registry, "Stranger-v0", gym.spec("CartPole-v1"))
    assert confirmed_id(EVIL, "config.json") == "Stranger-v0"
    assert confirmed_id("Stranger-v0", "config.json") == "Stranger-v0"
    assert not planted.exists()


def test_an_agents_config_downloads_no_world(tmp_path, hub):
    agent = train_agent(tiny_world().save_pretrained(tmp_path / "world"), tmp_path / "run", TINY, device="cpu")
    agent = load_agent(agent)
    agent.file = replace(agent.file, meta=replace(agent.meta, world_model="stranger/world"))
    tiny_world().push_to_hub("stranger/world", token="hf_owner")
    hub.requests.clear()
    with pytest.raises(
        FileNotFoundError, match=r"If you trust it, download it first: videogen-dream inspect stranger/"
    ):
        agent.view()
    assert hub.requests == []
    agent.view("stranger/world")  # named by the caller
    assert hub.requests
    hub.requests.clear()
    assert agent.view() is not None  # here by now
    assert hub.requests == []

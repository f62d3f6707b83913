import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecFrameStack, VecMonitor

from tests.toy_game import ToyGame, registered_game, seeing_world, toys
from worldmodel.agents.evaluate import evaluate
from worldmodel.agents.sb3.agent import Agent, load_agent, save_agent
from worldmodel.agents.sb3.config import AgentConfig, AgentMeta
from worldmodel.agents.sb3.eval_callback import RealEvalCallback, real_games
from worldmodel.agents.sb3.generators import restored_generators
from worldmodel.agents.sb3.train import train_ppo
from worldmodel.agents.sb3.vec_env import SB3VecEnv
from worldmodel.envs.wrappers import DreamViewVector

GAME = "EvalToy-v0"
CONFIG = AgentConfig(
    steps=64, num_envs=4, frame_stack=2, n_steps=4, batch_size=8, n_epochs=1, features_dim=8, channels=4
)
META = AgentMeta(env_id=GAME)


registered = registered_game(GAME, ToyGame)


def lines_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_evaluations_are_logged_and_the_best_agent_is_kept(tmp_path):
    best = []

    def on_best(model):
        best.append(model.num_timesteps)
        save_agent(model, tmp_path / "best", CONFIG, META)

    callback = RealEvalCallback(real_games(GAME, 3, frame_stack=2), 20, 6, on_best=on_best)
    train_ppo(toys(), CONFIG, tmp_path, META, callback=callback)
    judged = [line for line in lines_of(tmp_path) if "eval/mean_reward" in line]
    assert [line["time/total_timesteps"] for line in judged] == [32, 64]  # whole rollouts of 16, and the end
    assert all(2 <= line["eval/mean_ep_length"] <= 6 for line in judged)
    means = [line["eval/mean_reward"] for line in judged]
    assert callback.best_mean_reward == max(means)
    assert callback.best_timesteps == best[-1] == 32 * (1 + np.argmax(means))
    load_agent(tmp_path / "best")


def test_an_agent_is_evaluated_as_by_evaluate(tmp_path):
    """The same episodes in native reward, where the likeliest actions leave nothing to chance."""
    judge = RealEvalCallback(real_games(GAME, 5, frame_stack=2), 1000, 5, seed=7, deterministic=True)
    model = train_ppo(toys(), CONFIG, tmp_path, META, callback=judge)

    class Likeliest(Agent):
        def act(self, observations):
            return super().act(observations, deterministic=True)

    assert judge.best_mean_reward == pytest.approx(evaluate(Likeliest.of(model, CONFIG, META), GAME, 5, seed=7).mean)
    assert judge.best_mean_reward <= 6  # native: at most 1 a step; the env's own reward is ten times as high


def test_training_is_the_same_with_and_without_evaluations(tmp_path):
    agents = []
    for run, callback in (("a", None), ("b", RealEvalCallback(real_games(GAME, 2, frame_stack=2), 16, 2))):
        train_ppo(toys(), CONFIG, tmp_path / run, META, callback=callback)
        agents.append(load_file(tmp_path / run / "agent" / "model.safetensors"))
    assert all(torch.equal(agents[0][name], agents[1][name]) for name in agents[0])


def test_every_evaluation_uses_the_same_episodes():
    with restored_generators(0):
        model = A2C("MlpPolicy", VecMonitor(SB3VecEnv(toys(2))), learning_rate=0.0, n_steps=4)
        callback = RealEvalCallback(real_games(GAME, 2), 8, 4)
        means = []
        for _ in range(2):
            model.learn(32, callback=callback, reset_num_timesteps=False)
            means.append(callback.last_mean_reward)
    assert means[0] == means[1] > 0 and callback.best_timesteps == 8  # no later one was better


def test_the_game_is_shown_with_the_agents_view(tmp_path):
    world = seeing_world()
    games = real_games(GAME, 2, view=(world, "latent"), frame_stack=2)
    config, meta = CONFIG, AgentMeta(env_id=GAME, view="latent", world_model="doom-hg")
    callback = RealEvalCallback(games, 64, 2)
    train_ppo(DreamViewVector(toys(), world, "latent"), config, tmp_path, meta, callback=callback)
    assert games.observation_space.shape == (2, 2, 16) and callback.best_timesteps == 64


def test_games_that_look_different_are_refused():
    with restored_generators():
        model = A2C("MlpPolicy", VecFrameStack(SB3VecEnv(toys(2)), 3))
    with pytest.raises(ValueError, match=r"learns from uint8 \(9, 16, 16\), .* on uint8 \(6, 16, 16\): pass the view"):
        model.learn(10, callback=RealEvalCallback(real_games(GAME, 2, frame_stack=2), 10))


def test_stable_baselines3s_own_callbacks_are_called_after_evaluations(tmp_path):
    class Counts(BaseCallback):
        def __init__(self, last):
            super().__init__()
            self.heard, self.last = [], last

        def _on_step(self):
            self.heard.append(self.parent.last_mean_reward)
            return len(self.heard) < self.last

    best, after = Counts(9), Counts(2)
    callback = RealEvalCallback(
        real_games(GAME, 2, frame_stack=2), 16, 2, callback_on_new_best=best, callback_after_eval=after
    )
    model = train_ppo(toys(), CONFIG, tmp_path, META, callback=callback)
    assert len(after.heard) == 2 and best.heard[-1] == max(after.heard) and best.model is after.model is model
    assert model.num_timesteps == 36  # the second evaluation was known to be the last


def test_a_dream_is_refused_as_the_real_game():
    with pytest.raises(ValueError, match="VideoGenDream-Doom is a dream; give the real game's id"):
        real_games("VideoGenDream-Doom", 2, model=seeing_world())


def test_games_are_closed_if_the_view_cannot_be_made(monkeypatch):
    closed = []
    monkeypatch.setattr(ToyGame, "close", lambda self: closed.append(self))
    with pytest.raises(FileNotFoundError) as error:
        real_games(GAME, 2, view=("no-such-world", "latent"))
    assert len(closed) == 2, f"not closed, although nobody needs them after {error}"


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="every and episodes must be at least 1, got 0 and 10"):
        RealEvalCallback(real_games(GAME, 1), 0)

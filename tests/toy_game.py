"""A stand-in for a real game: tiny random frames, all that `VideoGenReal-…` envs put into `info`, no start-up time."""

import threading

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests.tiny import tiny_world
from worldmodel.data import ActionSpec
from worldmodel.model import WorldModel

FRAMES = (2, 16, 16, 3)


class ToyGame(gym.Env):
    """Episodes of 2 to 6 steps. The first quarter shows the action that earns 1 native reward (10 for the env)."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(0, 255, FRAMES[1:], np.uint8)
        self.action_space = gym.spaces.Discrete(3)
        self.action_spec = ActionSpec(kind="discrete", n=3)
        self.metadata = {"render_modes": ["rgb_array"]}
        self.render_mode = "rgb_array"

    def _look(self, native_reward):
        # One colour per quarter: even a tokenizer with random weights distinguishes such frames.
        quarters = self.np_random.integers(256, size=(2, 2, 2, 3), dtype=np.uint8)
        self.frames = quarters.repeat(8, axis=1).repeat(8, axis=2)
        return self.frames[-1].copy(), {
            "frames": self.frames,
            "native_reward": native_reward,
            "HEALTH": 50.0 + self.left,
        }

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(2, 7))
        self.dies = bool(self.np_random.integers(2))
        return self._look(0.0)

    def step(self, action):
        assert self.left > 0, "stepped after the end"
        native_reward = float(np.all(action == best_action(self.frames[-1])))
        self.left -= 1
        over = self.left == 0
        observation, info = self._look(native_reward)
        return observation, 10 * native_reward, over and self.dies, over and not self.dies, info

    def render(self):
        return self.frames[-1]


def registered_game(env_id: str, game: type[gym.Env], scope="function"):
    """A fixture that registers a game while a test, or all tests of a module, run; bind it to the name `registered`."""

    @pytest.fixture(autouse=True, scope=scope)
    def registered():
        gym.register(env_id, entry_point=game)
        yield
        del gym.registry[env_id]

    return registered


def toys(num_envs: int = 4) -> SyncVectorEnv:
    """Several games in same-step autoreset."""
    return SyncVectorEnv([ToyGame] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def best_action(observation):
    """The action that earns the reward, for observations (..., H, W, C): is its red dark, middling or bright?"""
    return (observation[..., 0, 0, 0] // 86).astype(np.int64)


def seeing_world() -> WorldModel:
    """A tiny world whose codes distinguish the toy game's frames: its codebook starts from them."""
    world = tiny_world()
    game = ToyGame()
    frames = np.stack([game.reset(seed=seed)[1]["frames"] for seed in range(64)])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        world.tokenizer.train().loss(torch.from_numpy(frames)[:, None])
    return world.prepare(torch.float32)


class BoundGame(ToyGame):
    """Like a game with an OpenGL context: works only in the thread that made it."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()

    def reset(self, **kwargs):
        self.check_thread()
        return super().reset(**kwargs)

    def step(self, action):
        self.check_thread()
        return super().step(action)

    def render(self):
        self.check_thread()
        return super().render()

    def close(self):
        self.check_thread()

    def check_thread(self) -> int:
        if threading.get_ident() != self.thread:
            raise RuntimeError("the drawing context belongs to another thread")
        return self.thread

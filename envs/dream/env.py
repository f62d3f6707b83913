"""One dream as a Gymnasium environment: a batch of one of `DreamVectorEnv`."""

import inspect
import os
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from worldmodel.data import ActionSpec
from worldmodel.dynamics import DreamState
from worldmodel.envs.actions import valid_actions
from worldmodel.envs.dream.rules import DreamRules, EndCondition, RewardFunction
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.envs.ids import env_spec, is_dream, is_env_id
from worldmodel.errors import refuse_unknown
from worldmodel.model import WorldModel
from worldmodel.model.outputs import Branches


class DreamEnv(gym.Env[np.ndarray, Any]):
    """A world model as an environment: the agent's step is one latent step of the model.

    `info` holds the game variables as the model predicts them, by name, at reset and at every step, and ``nll`` and
    ``entropy`` (nats) at every step. Arguments, reset options and errors are those of `DreamVectorEnv`; a reward
    function gets a batch of one.

    Example:
        >>> import gymnasium as gym
        >>> import worldmodel  # registers the environments
        >>> env = gym.make("VideoGenDream-DoomHealthGathering", horizon=100)
        >>> observation, info = env.reset(seed=0)
        >>> observation, reward, terminated, truncated, info = env.step(3)
        >>> observation.shape, observation.dtype, sorted(info)
        ((64, 64, 3), dtype('uint8'), ['HEALTH', 'entropy', 'nll'])
    """

    metadata = DreamVectorEnv.metadata

    def __init__(
        self,
        model: WorldModel | str | os.PathLike = "doom-hgs",
        obs: Literal["rgb", "latent", "codes", "features"] = "rgb",
        temperature: float = 1.0,
        horizon: int | None = None,
        seed_from: str | os.PathLike = "starts",
        split: str = "train",
        device: str | torch.device = "auto",
        render_mode: str | None = None,
        reward_fn: RewardFunction | None = None,
        terminate_when: EndCondition | str | None = None,
        max_uncertainty: float | None = None,
        uncertainty_penalty: float = 0.0,
        graphs: bool = False,
        starts: Literal["all", "first", "middle"] = "all",
        **unknown: object,
    ) -> None:
        refuse_unknown(unknown, DreamEnv)
        self._dreams = DreamVectorEnv(
            1,
            model,
            obs,
            temperature,
            horizon,
            seed_from,
            split,
            device,
            autoreset_mode="disabled",
            render_mode=render_mode,
            reward_fn=reward_fn,
            terminate_when=terminate_when,
            max_uncertainty=max_uncertainty,
            uncertainty_penalty=uncertainty_penalty,
            graphs=graphs,
            starts=starts,
        )
        self.model, self.obs = self._dreams.model, self._dreams.obs
        self.metadata = self.metadata | {"render_fps": self._dreams.metadata["render_fps"]}
        self.render_mode = render_mode
        self.observation_space = self._dreams.single_observation_space
        self.action_space = self._dreams.single_action_space
        self._seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a dream from a random start; the same seed gives the same dream."""
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**62))
        observations, infos = self._dreams.reset(seed=seed, options=options)
        self._seeded = True
        return observations[0], _single(infos)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Dream one step."""
        actions = valid_actions(self.action_space, action, ())[None]
        observations, rewards, terminations, truncations, infos = self._dreams.step(actions)
        return observations[0], float(rewards[0]), bool(terminations[0]), bool(truncations[0]), _single(infos)

    def render(self) -> np.ndarray | None:
        """The dream's last frame, (H, W, C) uint8, or None without a render mode."""
        return self._dreams.render()[0]

    @property
    def action_spec(self) -> ActionSpec:
        """The available actions, with names."""
        return self._dreams.action_spec

    @property
    def rules(self) -> DreamRules:
        """Temperature, reward and end rules; may be replaced while a dream is running."""
        return self._dreams.rules

    @rules.setter
    def rules(self, rules: DreamRules) -> None:
        self._dreams.rules = rules

    @property
    def state(self) -> DreamState:
        """A copy of everything that decides this dream and the following ones (one row); set it to resume from it."""
        return self._dreams.state

    @state.setter
    def state(self, state: DreamState) -> None:
        self._dreams.state = state
        self._seeded |= "env.key" in state.extras  # the key also decides the dreams after the next resets

    def imagine(self, actions: Tensor | np.ndarray, seeds: Tensor | np.ndarray | None = None) -> Branches:
        """Dream N futures of H steps in one batch; the env itself does not move.

        Args:
            actions: (N, H) or (N, H, A).
            seeds: (N,); None: the first future is what the env would dream, see `WorldModel.branch`.

        Returns: the model's predictions, each tensor (N, H, …); the env's reward function and rules are not applied.
        """
        seeds = None if seeds is None else torch.as_tensor(seeds)[None]
        return Branches(*(values[0] for values in self._dreams.imagine(torch.as_tensor(actions)[None], seeds)))


def _single(infos: dict[str, np.ndarray]) -> dict[str, Any]:
    """The infos of the single row."""
    return {name: value[0].item() for name, value in infos.items() if not name.startswith("_")}


def world_of(dream: str) -> str | Path:
    """The world of a dream's id; other names, of worlds and folders, are returned as they are."""
    if not is_env_id(dream):
        return dream
    if not is_dream(dream):
        raise ValueError(f"{dream} is a real game; give a world's folder or name, or the id of a dream")
    default = inspect.signature(DreamEnv).parameters["model"].default
    return env_spec(dream).kwargs.get("model", default)

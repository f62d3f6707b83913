"""One dream as a Gymnasium environment: a batch of one of `DreamVectorEnv`."""

import os
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch

from worldmodel.envs.dream_vector_env import DreamVectorEnv, valid_actions
from worldmodel.model import WorldModel
from worldmodel.names import refuse_unknown


class DreamEnv(gym.Env[np.ndarray, Any]):
    """A world model as an environment: the agent's step is one latent step of the model.

    `info` holds the model's running game variables by name at reset and at every step, and ``nll`` and ``entropy``
    (nats) at every step. Arguments and errors are those of `DreamVectorEnv`.
    """

    metadata = DreamVectorEnv.metadata

    def __init__(
        self,
        model: WorldModel | str | os.PathLike = "doom-hgs",
        obs: Literal["rgb", "latent", "codes"] = "rgb",
        temperature: float = 1.0,
        horizon: int | None = None,
        seed_from: str = "starts",
        device: str | torch.device = "auto",
        render_mode: str | None = None,
        **unknown: object,
    ) -> None:
        refuse_unknown(unknown, DreamEnv)
        self._dreams = DreamVectorEnv(
            1, model, obs, temperature, horizon, seed_from, device, autoreset_mode="disabled", render_mode=render_mode
        )
        self.model = self._dreams.model
        self.render_mode = render_mode
        self.observation_space = self._dreams.single_observation_space
        self.action_space = self._dreams.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a dream from a drawn start; the same seed gives the same dream."""
        super().reset(seed=seed)
        self._dreams.rngs = [self.np_random]
        observations, infos = self._dreams.reset(options=options)
        return observations[0], _single(infos)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Dream one step."""
        actions = valid_actions(self.action_space, action, ())[None]
        observations, rewards, terminations, truncations, infos = self._dreams.step(actions)
        return observations[0], float(rewards[0]), bool(terminations[0]), bool(truncations[0]), _single(infos)

    def render(self) -> np.ndarray | None:
        """The dream's last frame, (H, W, C) uint8, or None without a render mode."""
        return self._dreams.render()[0]


def _single(infos: dict[str, np.ndarray]) -> dict[str, Any]:
    """The infos of the only row."""
    return {name: value[0].item() for name, value in infos.items() if not name.startswith("_")}

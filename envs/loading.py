"""From a name to a world model on a device, and what is known of the game it dreams of."""

import os

import gymnasium as gym
import torch
from gymnasium.envs.registration import load_env_creator

from worldmodel.model import WorldModel, WorldModelConfig

DOOM_STEPS_PER_SECOND = 35 / 4  # 35 tics per second; a step is 4 of them


def load_model(model: WorldModel | str | os.PathLike, device: str | torch.device = "auto") -> WorldModel:
    """The model itself, or the one of this shipped name or folder."""
    return model if isinstance(model, WorldModel) else WorldModel.from_pretrained(model, device)


def steps_per_second(config: WorldModelConfig) -> float:
    """How fast a model's game runs: as its play was recorded, or as the registered game says, or as Doom."""
    if config.steps_per_second:
        return config.steps_per_second
    spec = gym.registry.get(config.env_id)
    if spec is None or not isinstance(spec.entry_point, str):
        return DOOM_STEPS_PER_SECOND
    try:
        made = load_env_creator(spec.entry_point)
    except ImportError:  # a dream needs no game
        return DOOM_STEPS_PER_SECOND
    return float(getattr(made, "metadata", {}).get("render_fps", DOOM_STEPS_PER_SECOND))

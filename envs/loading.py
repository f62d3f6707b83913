"""From a name to a world model on a device, and what is known of the game it dreams of."""

import os

import gymnasium as gym
import torch
from gymnasium.envs.registration import load_env_creator

from worldmodel.model import WorldModel


def load_model(model: WorldModel | str | os.PathLike, device: str | torch.device = "auto") -> WorldModel:
    """The model itself, or the one of this shipped name or folder."""
    return model if isinstance(model, WorldModel) else WorldModel.from_pretrained(model, device)


def steps_per_second(env_id: str, usual: float) -> float:
    """The ``render_fps`` of a registered game with its usual settings; of any other id the usual one."""
    spec = gym.registry.get(env_id)
    if spec is None or not isinstance(spec.entry_point, str):
        return usual
    try:
        made = load_env_creator(spec.entry_point)
    except ImportError:  # a dream needs no game
        return usual
    return float(getattr(made, "metadata", {}).get("render_fps", usual))

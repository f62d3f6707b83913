"""Loading world models by name, and looking up env ids and the speed of a model's game."""

import os
import re
from importlib import import_module
from pathlib import Path

import gymnasium as gym
import torch
from gymnasium.envs.registration import EnvSpec, load_env_creator

from worldmodel.model import WorldModel, WorldModelConfig

DOOM_STEPS_PER_SECOND = 35 / 4  # 35 tics per second; a step is 4 of them


def load_model(model: WorldModel | str | os.PathLike, device: str | torch.device = "auto") -> WorldModel:
    """Return a `WorldModel` as it is; load one given by a shipped name or a folder."""
    return model if isinstance(model, WorldModel) else WorldModel.from_pretrained(model, device)


def steps_per_second(config: WorldModelConfig) -> float:
    """Speed of a model's game: as recorded in the config, else as the registered game states it, else Doom's."""
    if config.steps_per_second:
        return config.steps_per_second
    spec = gym.registry.get(config.env_id)
    if spec is None or not isinstance(spec.entry_point, str):
        return DOOM_STEPS_PER_SECOND
    try:
        made = load_env_creator(spec.entry_point)
    except ImportError:  # dreaming does not need the game installed
        return DOOM_STEPS_PER_SECOND
    return float(getattr(made, "metadata", {}).get("render_fps", DOOM_STEPS_PER_SECOND))


def is_dream(env_id: str) -> bool:
    """Whether the id is a dream's; an unknown id raises Gymnasium's error, which suggests the nearest."""
    return env_spec(env_id).entry_point == "worldmodel.envs:DreamEnv"


def env_spec(env_id: str) -> EnvSpec:
    """The spec registered under an id, which may name its module, as in "my_games:MyGame-v0"."""
    module, _, plain_id = env_id.rpartition(":")
    if module:
        import_module(module)  # registers it, as gym.make would
    try:
        return gym.spec(plain_id)
    except gym.error.UnregisteredEnv as error:
        if module or plain_id.startswith("VideoGen"):
            raise
        raise type(error)(
            f"{error} A game of your own is named with the module that registers it, as in my_games:{plain_id}"
        ) from error


def is_env_id(name: str) -> bool:
    """Whether a name means an env, even a mistyped one, rather than a world."""
    if Path(name).is_dir():
        return False
    # Worlds of the hub have a "/" in their names.
    like_an_id = name.startswith("VideoGen") or ":" in name or re.fullmatch(r"[^/]+-v\d+", name) is not None
    return name in gym.registry or like_an_id

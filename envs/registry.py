"""Loading world models by name, and looking up the speed of a model's game."""

import math
import os
from collections.abc import Mapping
from typing import Any, Literal

import gymnasium as gym
import torch
from gymnasium.envs.registration import load_env_creator

from worldmodel.data.bair.shapes import FRAMES_PER_SECOND, GAME
from worldmodel.model import WorldModel, WorldModelConfig

DOOM_STEPS_PER_SECOND = 35 / 4  # 35 tics per second; a step is 4 of them


def load_model(
    model: WorldModel | str | os.PathLike,
    device: str | torch.device = "auto",
    dtype: torch.dtype | Literal["auto"] = "auto",
) -> WorldModel:
    """Return a `WorldModel` as it is; load one given by a shipped name or a folder."""
    return model if isinstance(model, WorldModel) else WorldModel.from_pretrained(model, device, dtype=dtype)


def steps_per_second(config: WorldModelConfig) -> float:
    """Speed of a model's game: as recorded in the config, else as the registered game states it, else Doom's."""
    if config.steps_per_second:
        return config.steps_per_second
    if config.env_id == GAME:  # of stores that were imported before they knew their speed
        return FRAMES_PER_SECOND / config.tokenizer.frames_per_step
    spec = gym.registry.get(config.env_id)
    if spec is None or not isinstance(spec.entry_point, str):
        return DOOM_STEPS_PER_SECOND
    try:
        made = load_env_creator(spec.entry_point)
    except ImportError:  # dreaming does not need the game installed
        return DOOM_STEPS_PER_SECOND
    return float(getattr(made, "metadata", {}).get("render_fps", DOOM_STEPS_PER_SECOND))


def other_speed(config: WorldModelConfig, metadata: Mapping[str, Any]) -> str:
    """What differs if a game, by its env's metadata, has longer or shorter steps than the play a model learned from.

    "" if nothing does, or if either is unknown.
    """
    theirs = float(metadata.get("render_fps") or 0.0)
    if not config.steps_per_second or not theirs or math.isclose(config.steps_per_second, theirs, rel_tol=1e-3):
        return ""
    return (
        f"this game has {theirs:g} steps per second, the play that the world learned from had "
        f"{config.steps_per_second:g}, so their steps are not alike: was it collected with other options, such as "
        "frame_skip? Register the game with these under an id of its own (docs/own-game.md)"
    )

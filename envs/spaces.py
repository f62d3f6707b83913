"""Observation spaces of dreams, and observations in each of them.

Letters: n steps, H W C pixels, h w latent grid, M slices, E features of a code vector, D width of the dynamics, V
codes.
"""

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from worldmodel.dynamics import DreamState
from worldmodel.errors import check_known
from worldmodel.model import WorldModel

OBSERVATIONS = ("rgb", "latent", "codes", "features")


def check_observation_kind(obs: str) -> None:
    check_known("obs", obs, OBSERVATIONS)


def observation_space(model: WorldModel, obs: str) -> gym.spaces.Box:
    """Space of one observation of this kind.

    Codes are a Box, although only their equality is meaningful: Stable-Baselines3 and frame stacking do not support a
    three-dimensional MultiDiscrete.
    """
    check_observation_kind(obs)
    tokenizer = model.tokenizer
    if obs == "rgb":
        return gym.spaces.Box(0, 255, (model.height, model.width, model.config.tokenizer.channels), np.uint8)
    if obs == "codes":
        return gym.spaces.Box(0, tokenizer.num_codes - 1, (*tokenizer.grid, tokenizer.num_slices), np.int64)
    depth = tokenizer.code_dim + (model.config.dynamics.width if obs == "features" else 0)
    return gym.spaces.Box(-np.inf, np.inf, (*tokenizer.grid, depth), np.float32)


def observe(model: WorldModel, state: DreamState, obs: str) -> Tensor:
    """Observations of the last step of every row: (n, *observation_space(model, obs).shape)."""
    return model.features(state) if obs == "features" else show(model, state.codes, obs)


@torch.inference_mode()
def show(model: WorldModel, codes: Tensor, obs: str) -> Tensor:
    """Observations of single steps, codes (n, h, w, M), for the kinds that need no past (all but "features")."""
    if obs == "rgb":
        return model.tokenizer.decode(codes[:, None])[:, 0, -1]
    return model.tokenizer.lookup(codes) if obs == "latent" else codes

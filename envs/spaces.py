"""Observation and action spaces of dreams, observations in each of them, and validation of actions.

Letters: n steps, H W C pixels, h w latent grid, M slices, E features of a code vector, D width of the dynamics, V
codes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.error import InvalidAction
from torch import Tensor

from worldmodel.data import ActionSpec
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


def action_spec_of(space: gym.Space, names: Sequence[str] = ()) -> ActionSpec:
    """A Gymnasium action space as an ActionSpec; ValueError for other kinds of spaces or duplicate names."""
    check_names(names)
    if isinstance(space, gym.spaces.Discrete) and space.start == 0:
        return ActionSpec(kind="discrete", n=int(space.n), names=tuple(names))
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 1 and space.dtype.kind == "f":
        low, high = tuple(space.low.tolist()), tuple(space.high.tolist())
        return ActionSpec(kind="box", n=space.shape[0], names=tuple(names), low=low, high=high)
    raise ValueError(
        f"actions must be Discrete from 0 or a one-dimensional Box of floats, got {space}; worldmodel.envs.PixelGame "
        "converts the actions of other games"
    )


def check_names(names: Sequence[str]) -> None:
    """ValueError if two actions have the same name."""
    if len(set(names)) < len(names):
        raise ValueError(f"names of actions must be different, got {', '.join(names)}")


def named_actions(env: Any) -> ActionSpec:
    """The actions of an env, or of each row of a vector env; with names if it has an `action_spec`."""
    spec = action_spec_of(getattr(env, "single_action_space", env.action_space))
    rows = getattr(env.unwrapped, "envs", None)
    inner = rows[0] if rows else env
    if isinstance(inner, gym.Env):
        named = inner.get_wrapper_attr("action_spec") if inner.has_wrapper_attr("action_spec") else None
    else:
        named = getattr(inner.unwrapped, "action_spec", None)
    # A different space means that a wrapper has replaced the named actions.
    return replace(spec, names=named.names) if isinstance(named, ActionSpec) and _alike(named, spec) else spec


def check_actions(mine: ActionSpec, theirs: ActionSpec, who: str, where: str) -> None:
    """ValueError unless the actions `mine` of an agent fit those of a game, `theirs`; names may be absent in either."""
    if not _alike(mine, theirs) or (mine.names and theirs.names and mine.names != theirs.names):
        raise ValueError(f"{who} and {where} differ in their actions: {mine}, {theirs}; give agents of the same game")


def _alike(mine: ActionSpec, theirs: ActionSpec) -> bool:
    """Whether kind, number and bounds are equal, the bounds in float32, to which Gymnasium spaces round them."""
    ours, others = (np.array((spec.low, spec.high), np.float32) for spec in (mine, theirs))
    return (mine.kind, mine.n) == (theirs.kind, theirs.n) and np.array_equal(ours, others)


def valid_actions(space: gym.Space, actions: Any, batch: tuple[int, ...]) -> np.ndarray:
    """Actions of shape (*batch, *space.shape) in the space's dtype, or InvalidAction.

    Values that exceed a bound by at most a millionth of the larger bound are clipped: algorithms that scale their
    actions (SAC, TD3) exceed it by rounding.
    """
    given = np.asarray(actions)
    shape = (*batch, *space.shape)
    if isinstance(space, gym.spaces.Discrete):
        if given.shape == shape and given.dtype.kind in "iu" and np.all((given >= 0) & (given < space.n)):
            return given.astype(np.int64)
        raise InvalidAction(f"actions must be integers in [0, {space.n}), of shape {shape}; got {actions!r}")
    if given.shape == shape and given.dtype.kind in "fiu":
        given = given.astype(np.float32)
        slack = 1e-6 * np.maximum(np.abs(space.low), np.abs(space.high))
        if np.all((given >= space.low - slack) & (given <= space.high + slack)):  # false for NaN
            return np.clip(given, space.low, space.high)
    raise InvalidAction(
        f"an action has {space.shape[0]} dimensions in [{space.low.tolist()}, {space.high.tolist()}], expected shape "
        f"{shape}; got {actions!r}"
    )

"""What agents see and do: the spaces of a dream, what a step looks like in them, and actions that fit.

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
from worldmodel.errors import did_you_mean
from worldmodel.model import WorldModel

OBSERVATIONS = ("rgb", "latent", "codes", "features")


def check_observation_kind(obs: str) -> None:
    if obs not in OBSERVATIONS:
        raise ValueError(f"unknown obs {obs!r}.{did_you_mean(obs, OBSERVATIONS)}")


def observation_space(model: WorldModel, obs: str) -> gym.spaces.Box:
    """Space of one observation of this kind.

    Codes are a Box, although only equality means anything between them: Stable-Baselines3 and the frame stack take no
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
    """What an agent sees of the last step of every row: (n, *observation_space(model, obs).shape)."""
    return model.features(state) if obs == "features" else show(model, state.codes, obs)


@torch.inference_mode()
def show(model: WorldModel, codes: Tensor, obs: str) -> Tensor:
    """What an agent sees of single steps, codes (n, h, w, M), in a kind of observation that needs no past."""
    if obs == "rgb":
        return model.tokenizer.decode(codes[:, None])[:, 0, -1]
    return model.tokenizer.lookup(codes) if obs == "latent" else codes


def action_spec_of(space: gym.Space, names: Sequence[str] = ()) -> ActionSpec:
    """A Gymnasium action space as an ActionSpec; ValueError if there is none, or two names are the same."""
    check_names(names)
    if isinstance(space, gym.spaces.Discrete) and space.start == 0:
        return ActionSpec(kind="discrete", n=int(space.n), names=tuple(names))
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 1 and space.dtype.kind == "f":
        low, high = tuple(space.low.tolist()), tuple(space.high.tolist())
        return ActionSpec(kind="box", n=space.shape[0], names=tuple(names), low=low, high=high)
    raise ValueError(
        f"actions must be Discrete from 0 or a Box of floats with one axis, got {space}; worldmodel.envs.PixelGame "
        "brings those of other games into this form"
    )


def check_names(names: Sequence[str]) -> None:
    """ValueError if two names of actions are the same."""
    if len(set(names)) < len(names):
        raise ValueError(f"names of actions must be different, got {', '.join(names)}")


def named_actions(env: Any) -> ActionSpec:
    """What is done in an env, or in each row of a vector env; with names if it tells them in an `action_spec`."""
    spec = action_spec_of(getattr(env, "single_action_space", env.action_space))
    rows = getattr(env.unwrapped, "envs", None)
    inner = rows[0] if rows else env
    if isinstance(inner, gym.Env):
        told = inner.get_wrapper_attr("action_spec") if inner.has_wrapper_attr("action_spec") else None
    else:
        told = getattr(inner.unwrapped, "action_spec", None)
    # Another space belongs to a wrapper, which chose among the named actions.
    return replace(spec, names=told.names) if isinstance(told, ActionSpec) and _alike(told, spec) else spec


def check_actions(mine: ActionSpec, theirs: ActionSpec, who: str, where: str) -> None:
    """ValueError unless who acts by `mine` can act where `theirs` are done; names differ only where one has none."""
    if not _alike(mine, theirs) or (mine.names and theirs.names and mine.names != theirs.names):
        raise ValueError(f"{who} acts by {mine}, {where} by {theirs}; give agents of the same game")


def _alike(mine: ActionSpec, theirs: ActionSpec) -> bool:
    """Whether both are of one kind, number and bounds; a Gymnasium space has rounded its bounds to float32."""
    ours, others = (np.array((spec.low, spec.high), np.float32) for spec in (mine, theirs))
    return (mine.kind, mine.n) == (theirs.kind, theirs.n) and np.array_equal(ours, others)


def valid_actions(space: gym.Space, actions: Any, batch: tuple[int, ...]) -> np.ndarray:
    """Actions of shape (*batch, *space.shape) in the space's dtype, or InvalidAction.

    Numbers that a rounding took out of the bounds, by a millionth of the larger bound at most, are put back:
    algorithms that scale their actions (SAC, TD3) end there.
    """
    given = np.asarray(actions)
    shape = (*batch, *space.shape)
    if isinstance(space, gym.spaces.Discrete):
        if given.shape == shape and given.dtype.kind in "iu" and np.all((given >= 0) & (given < space.n)):
            return given.astype(np.int64)
        raise InvalidAction(f"an action is an integer in [0, {space.n}), in shape {shape}; got {actions!r}")
    if given.shape == shape and given.dtype.kind in "fiu":
        given = given.astype(np.float32)
        slack = 1e-6 * np.maximum(np.abs(space.low), np.abs(space.high))
        if np.all((given >= space.low - slack) & (given <= space.high + slack)):  # false for NaN
            return np.clip(given, space.low, space.high)
    raise InvalidAction(
        f"an action is {space.shape[0]} numbers in [{space.low.tolist()}, {space.high.tolist()}], in shape {shape}; "
        f"got {actions!r}"
    )

"""Actions of envs: their spaces as an `ActionSpec`, whether two agree, and validation of given ones.

Imports no torch: processes that play a game to record it would otherwise start it.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import InvalidAction

from worldmodel.data import ActionSpec


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
    """The actions of an env, or of each row of a vector env: its `action_spec` if it has one, else without names.

    An `action_spec` whose space differs from the env's is that of a game whose actions a wrapper has replaced.
    """
    spec = action_spec_of(getattr(env, "single_action_space", env.action_space))
    rows = getattr(env.unwrapped, "envs", None)
    inner = rows[0] if rows else env
    if isinstance(inner, gym.Env):
        named = inner.get_wrapper_attr("action_spec") if inner.has_wrapper_attr("action_spec") else None
    else:
        named = getattr(inner.unwrapped, "action_spec", None)
    return named if isinstance(named, ActionSpec) and _alike(named, spec) else spec


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

"""World models of other projects: what they must offer to be judged, and how they are played.

Letters: B dreams, K starts, T steps of context, F frames of a step, H W C pixels, A dimensions of an action.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from worldmodel.errors import did_you_mean
from worldmodel.training.dream_vs_real.game_starts import Contexts

_CONTRACT = "docs/dream-vs-real.md, A world model of another project"


class OtherWorld(Protocol):
    """B dreams side by side, each begun from real steps. Everything is NumPy; torch tensors on the CPU work too."""

    context_steps: int  # T, real steps that a dream from the middle of an episode begins with; at least 1

    def reset(self, frames: NDArray[np.uint8], actions: NDArray, seeds: NDArray[np.int64]) -> object:
        """Begin B dreams and drop the earlier ones; the result is ignored.

        Args:
            frames: (B, T, F, H, W, C) uint8 as the game shows them; frames[:, -1, -1] is what a player sees now.
                T is 1 where the dreams begin with the first frame of the game, `context_steps` elsewhere.
            actions: (B, T - 1) int64, or (B, T - 1, A) float32; actions[:, t] was taken after frames[:, t].
            seeds: (B,) from which to draw. Equal seeds are given to all policies.
        """

    def step(self, actions: NDArray) -> tuple[NDArray, NDArray]:
        """Dream one step of the game in all B dreams, also in those that have ended, whose results are ignored.

        Args:
            actions: (B,) int64 from 0 on, or (B, A) float32 within the game's bounds.

        Returns: rewards (B,) finite numbers in the unit of the game's own, and terminations (B,) bool.
        """


def find_other(name: str) -> OtherWorld | None:
    """What "module:maker" makes; None if `name` is something else: a folder, a name, or the id of an env.

    Raises:
        ValueError, ModuleNotFoundError: the module or the maker is missing.
        TypeError: what it makes does not fit `OtherWorld`.
    """
    module_name, _, maker_name = name.rpartition(":")
    if not module_name or Path(name).exists():
        return None
    module = import_module(module_name)  # registers envs, if it has any
    if maker_name in gym.registry:
        return None
    maker = getattr(module, maker_name, None)
    if not callable(maker):
        callables = [each for each in vars(module) if callable(getattr(module, each))]
        raise ValueError(
            f"{name} names no env, and {module_name} has no class or function {maker_name!r}."
            f"{did_you_mean(maker_name, callables)}"
        )
    return checked(maker())


def checked(world: Any) -> OtherWorld:
    """The world itself; TypeError or ValueError unless it fits `OtherWorld`."""
    kind = type(world).__name__
    for name in ("reset", "step"):
        if not callable(getattr(world, name, None)):
            raise TypeError(f"a world to judge needs a method {name}, which {kind} lacks: write one as in {_CONTRACT}")
    steps = getattr(world, "context_steps", None)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(
            f"{kind}.context_steps must be an integer of at least 1, the real steps that a dream begins with, got "
            f"{steps!r}: set it as in {_CONTRACT}"
        )
    return world


class OtherRows(VectorEnv[NDArray, NDArray, NDArray]):
    """B dreams for `play_episodes`, all begun at once; row b begins with starts[places[b]] and lasts limits[b] steps.

    Policies that look at observations cannot play here: these are zeros.
    """

    def __init__(
        self,
        world: OtherWorld,
        contexts: Contexts,
        places: Sequence[int],
        limits: NDArray,
        seed: int,
    ) -> None:
        self.num_envs, self.action_spec = len(places), contexts.action
        self.single_observation_space = gym.spaces.Box(0, 0, (1,), np.float32)
        self.single_action_space = self.action_spec.to_gym()
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._world, self._contexts, self._places, self._seed = world, contexts, np.array(places), seed
        self._limits, self._steps = np.asarray(limits), 0
        self._resting = np.zeros(self.num_envs, bool)
        self._nothing = np.zeros(self.observation_space.shape, np.float32)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[NDArray, dict[str, Any]]:
        """Begin all dreams; `seed` is ignored."""
        assert not options, "rows of another world begin together"
        frames, actions = self._contexts.frames[self._places], self._contexts.actions[self._places]
        self._world.reset(frames, actions, (self._seed + self._places).astype(np.int64))
        self._resting[:], self._steps = False, 0
        return self._nothing.copy(), {}

    def step(self, actions: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray, dict[str, Any]]:
        """Dream one step in every row."""
        rewards, ended = self._checked(self._world.step(np.asarray(actions, self.action_spec.dtype)))
        rewards, ended = np.where(self._resting, 0.0, rewards), ended & ~self._resting
        self._steps += 1
        truncated = (self._steps >= self._limits) & ~ended & ~self._resting
        self._resting |= ended | truncated
        return self._nothing.copy(), rewards, ended, truncated, {}

    def _checked(self, found: Any) -> tuple[NDArray, NDArray]:
        """Rewards and terminations, (B,) each."""
        wanted = f"(rewards, terminations), ({self.num_envs},) finite numbers and ({self.num_envs},) bool"
        if not isinstance(found, tuple) or len(found) != 2:
            what = f"a tuple of {len(found)}" if isinstance(found, tuple) else type(found).__name__
            self._refuse(f"{wanted}, got {what}: leave out the rest, and truncations, which the report makes itself")
        rewards, ended = np.asarray(found[0]), np.asarray(found[1])
        if ended.dtype != bool or ended.shape != (self.num_envs,):
            self._refuse(f"{wanted}; terminations are {ended.shape} {ended.dtype}: convert them, with > 0 or .bool()")
        if rewards.dtype.kind not in "fiu" or rewards.shape != (self.num_envs,):
            self._refuse(f"{wanted}; rewards are {rewards.shape} {rewards.dtype}: one number for each dream")
        if not np.isfinite(rewards[~self._resting]).all():
            row = int(np.flatnonzero(~np.isfinite(rewards) & ~self._resting)[0])
            self._refuse(f"{wanted}; the reward of dream {row} in step {self._steps + 1} is {rewards[row]}")
        return rewards.astype(np.float64), ended

    def _refuse(self, why: str) -> NoReturn:
        raise ValueError(f"{type(self._world).__name__}.step must return {why} ({_CONTRACT})")

"""Models of Stable-Baselines3's algorithms as policies, for evaluation and play.

Letters: n envs, H W C one observation, K frames stacked on the last axis.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from worldmodel.agents.policy import Policy, RowGenerators, Rows
from worldmodel.agents.sb3.generators import restored_generators
from worldmodel.data import ActionSpec
from worldmodel.envs.actions import action_spec_of
from worldmodel.layers.defaults import own_defaults

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm


class SB3Policy(Policy):
    """A model of any algorithm of Stable-Baselines3 or sb3-contrib as a policy.

    Its observations are those of training: frames are stacked as by a VecFrameStack, to the depth of its observation
    space, and normalised if its envs include a VecNormalize (a model loaded from a file needs them: ``load(…, env)``).
    The model predicts one row at a time, each with its own memory (RecurrentPPO) and generator. Action masks are not
    supported.

    Args:
        model: in training or loaded.
        seed: of its draws; `seed_rows` seeds each row.

    Raises:
        TypeError: `model` is something else, such as a path.
        ValueError: the model's observation space is not a Box.
    """

    action_spec: ActionSpec

    def __init__(self, model: "BaseAlgorithm", seed: int = 0) -> None:
        if not hasattr(model, "predict") or not hasattr(model, "observation_space"):
            raise TypeError(
                f"SB3Policy needs a model of Stable-Baselines3, got a {type(model).__name__}; load a saved one with "
                "its algorithm first, such as SB3Policy(PPO.load(path))"
            )
        if _sees_actions(model):
            raise ValueError(
                "this model needs its last action, which only an agent of train_ppo keeps: Agent.of(model, config)"
            )
        if not isinstance(model.observation_space, gym.spaces.Box):
            raise ValueError(f"the model's observation space must be a Box, got {model.observation_space}")
        self.model = model
        self.action_spec = action_spec_of(model.action_space)
        self._normalize = model.get_vec_normalize_env()
        self._generators = RowGenerators(seed)
        self._stacks: dict[int, np.ndarray] = {}  # row -> its last K observations, (H, W, K*C)
        self._memories: dict[int, Any] = {}  # row -> the model's recurrent state

    def reset(self, rows: np.ndarray | None = None) -> None:
        for of_rows in (self._stacks, self._memories):
            for row in list(of_rows) if rows is None else rows:
                of_rows.pop(int(row), None)

    def seed_rows(self, rows: Rows, seeds: Sequence[int]) -> None:
        self._generators.reseed(rows, seeds)

    @own_defaults
    def act(self, observations: np.ndarray, deterministic: bool = False) -> np.ndarray:
        """Choose actions, (n,) int64 or (n, A) float32, for observations (n, H, W, C) or (n, …).

        `deterministic` is passed to the model's `predict`: the likeliest action instead of a sampled one.
        """
        return np.stack([self._act(row, seen, deterministic) for row, seen in enumerate(observations)])

    def _act(self, row: int, seen: np.ndarray, deterministic: bool) -> np.ndarray:
        stacked = self._stacked(row, seen)
        begins = row not in self._memories
        with _drawing(self.model, int(self._generators[row].integers(2**31))):
            actions, memory = self.model.predict(
                stacked[None], self._memories.get(row), np.array([begins]), deterministic=deterministic
            )
        self._memories[row] = memory
        return np.asarray(actions, self.action_spec.dtype)[0]

    def _stacked(self, row: int, seen: np.ndarray) -> np.ndarray:
        """The row's last K observations, in the form of the model's training."""
        norm, wanted = self._normalize, self.model.observation_space
        before = norm is not None and norm.observation_space.shape == seen.shape
        if norm is not None and before:
            seen = norm.normalize_obs(seen)
        depth, rest = divmod(int(np.prod(wanted.shape)), seen.size)
        if rest or not depth:
            raise ValueError(
                f"this model needs observations of shape {wanted.shape}, got {seen.shape}: is it another env or view?"
            )
        empty = np.zeros((*seen.shape[:-1], depth * seen.shape[-1]), seen.dtype)
        stack = np.concatenate([self._stacks.get(row, empty)[..., seen.shape[-1] :], seen], axis=-1)
        self._stacks[row] = stack
        return stack if norm is None or before else norm.normalize_obs(stack)


def _sees_actions(model: "BaseAlgorithm") -> bool:
    from stable_baselines3.common.vec_env import is_vecenv_wrapped

    from worldmodel.agents.sb3.rollout_memory import ActionPlanes

    envs = getattr(model, "env", None)
    return envs is not None and is_vecenv_wrapped(envs, ActionPlanes)


@contextmanager
def _drawing(model: "BaseAlgorithm", seed: int) -> Iterator[None]:
    """Seed everything the model draws inside the block; all generators are restored afterwards."""
    generator = model.action_space.np_random
    before = generator.bit_generator.state
    model.action_space.seed(seed)  # exploring algorithms draw from it
    try:
        with restored_generators(seed):
            yield
    finally:
        model.action_space.np_random.bit_generator.state = before

"""Policies trained by RLlib, loaded from its checkpoints for evaluation without starting Ray.

Letters: n env rows, A dimensions of an action.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_LEARNER_GROUP, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModule

from worldmodel.agents.evaluate import View, view_of
from worldmodel.agents.policy import Policy, RowGenerators, Rows
from worldmodel.agents.sb3.config import AgentMeta
from worldmodel.data import ActionSpec
from worldmodel.envs.actions import action_spec_of
from worldmodel.layers.defaults import own_defaults

_IN_ALGORITHM = Path(COMPONENT_LEARNER_GROUP, COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID)


@own_defaults
def load_policy(folder: str | os.PathLike, seed: int = 0) -> "RLlibPolicy":
    """Load the policy from a checkpoint, `algo.save_to_path(folder)`, of an algorithm with a config of `dream_ppo`.

    RLlib's checkpoints contain pickle: load only those that you trust.

    Args:
        seed: of the policy's draws.
    """
    path = Path(folder).resolve()  # RLlib does not accept relative paths
    inner = path / _IN_ALGORITHM
    if not inner.is_dir():
        raise FileNotFoundError(f"{path} is not a checkpoint of an RLlib algorithm: it has no {_IN_ALGORITHM}")
    return RLlibPolicy(RLModule.from_checkpoint(str(inner)), seed)


class RLlibPolicy(Policy):
    """An RLModule as a policy.

    Args:
        module: for observations without a time axis, and Discrete or Box actions.
        seed: of its draws; `seed_rows` seeds each row.
    """

    action_spec: ActionSpec

    def __init__(self, module: RLModule, seed: int = 0) -> None:
        self.module = module
        self.action_spec = action_spec_of(module.action_space)
        self.meta = AgentMeta(**module.model_config.get("meta", {}))
        self._generators = RowGenerators(seed)

    def view(self, world: str | os.PathLike | None = None) -> View | None:
        """The `view` argument of `evaluate` that reproduces this agent's training observations; None: raw frames.

        Args:
            world: where the agent's world model is now; None: where it was in training.
        """
        return view_of(self.meta, world)

    def seed_rows(self, rows: Rows, seeds: Sequence[int]) -> None:
        self._generators.reseed(rows, seeds)

    @own_defaults
    def act(self, observations: np.ndarray, deterministic: bool = False) -> np.ndarray:
        """Choose actions, (n,) int64 or (n, A) float32, for observations (n, *shape).

        `deterministic` takes the likeliest action (the mean of a continuous one) instead of sampling.
        """
        space = self.module.observation_space
        if observations.shape[1:] != space.shape or observations.dtype != space.dtype:
            raise ValueError(
                f"this agent needs {space.dtype} of shape (n, {', '.join(map(str, space.shape))}), "
                f"got {observations.dtype} {observations.shape}"
            )
        device = next(self.module.parameters()).device
        batch = {Columns.OBS: torch.from_numpy(np.ascontiguousarray(observations)).to(device)}
        out = self.module.forward_inference(batch)[Columns.ACTION_DIST_INPUTS].double()
        if isinstance(self.module.action_space, gym.spaces.Discrete):
            odds = out.softmax(-1).cpu().numpy()
            return odds.argmax(-1) if deterministic else self._generators.choose(odds)
        actions, log_std = np.split(out.cpu().numpy(), 2, axis=-1)
        if not deterministic:
            actions = self._generators.normal(actions, np.exp(log_std))
        return np.clip(actions, self.action_spec.low, self.action_spec.high).astype(np.float32)

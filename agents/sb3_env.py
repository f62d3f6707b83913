"""Our vector envs as Stable-Baselines3's VecEnv."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv


class SB3VecEnv(VecEnv):
    """A Gymnasium vector env in same-step autoreset as Stable-Baselines3's VecEnv."""

    def __init__(self, envs: VectorEnv) -> None:
        mode = envs.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                "Stable-Baselines3 needs autoreset_mode='same_step' (in any other it loses a step of every episode), "
                f"got {mode}"
            )
        self.envs = envs
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> np.ndarray:
        seeds = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        if any(options != self._options[0] for options in self._options):
            raise ValueError(f"a batched env takes the same reset options in every row, got {self._options}")
        observations, infos = self.envs.reset(seed=seeds, options=self._options[0] or None)
        self.reset_infos = _rows(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observations, rewards, terminations, truncations, infos = self.envs.step(self._actions)
        dones = terminations | truncations
        rows = _rows({name: value for name, value in infos.items() if "final_" not in name}, self.num_envs)
        if dones.any():
            # What belongs to the episode's last step goes with it; the row's own infos are those of the next reset.
            final_infos = _rows(infos["final_info"], self.num_envs)
            for row in np.flatnonzero(dones):
                self.reset_infos[row] = rows[row]
                rows[row] = final_infos[row] | {
                    "terminal_observation": infos["final_obs"][row],
                    "TimeLimit.truncated": bool(truncations[row] and not terminations[row]),
                }
        return observations, rewards.astype(np.float32), dones, rows

    def close(self) -> None:
        self.envs.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        return list(self.envs.render() or [None] * self.num_envs)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.envs, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("the rows of a batched env share their attributes: set them on `.envs`")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        raise NotImplementedError("the rows of a batched env share their methods: call them on `.envs`")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))


def _rows(infos: dict[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """Gymnasium's vector infos as one dict per row."""
    rows: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    for name, values in infos.items():
        if not name.startswith("_"):
            if isinstance(values, dict):
                values = _rows(values, num_envs)
            for row in np.flatnonzero(infos[f"_{name}"]):
                rows[row][name] = values[row]
    return rows

"""Our vector envs as Stable-Baselines3's VecEnv, for any of its algorithms and wrappers."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv

from worldmodel.envs.wrappers import ThreadVectorEnv

_FINAL = {"final_obs", "_final_obs", "final_info", "_final_info"}  # added to the infos by same-step autoreset


class SB3VecEnv(VecEnv):
    """A Gymnasium vector env in same-step autoreset as Stable-Baselines3's VecEnv.

    Attributes and methods are those of the rows' own envs if there are any (`ThreadVectorEnv`, `SyncVectorEnv`,
    `AsyncVectorEnv`). The rows of a batch (`DreamVectorEnv`) share theirs, which are read, set and called for all rows
    at once.

    Example:
        >>> from stable_baselines3 import A2C
        >>> from worldmodel.agents.sb3 import SB3VecEnv
        >>> from worldmodel.envs import DreamVectorEnv
        >>> envs = SB3VecEnv(DreamVectorEnv(2, "doom-hg", obs="latent", horizon=8))
        >>> model = A2C("MlpPolicy", envs, n_steps=4, device="cpu").learn(8)
        >>> model.num_timesteps
        8
    """

    def __init__(self, envs: VectorEnv) -> None:
        mode = envs.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                "Stable-Baselines3 needs autoreset_mode='same_step' (in other modes it loses a step of every episode), "
                f"got {mode}"
            )
        self.envs = envs
        self.spec = envs.spec
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
        self.metadata["render_fps"] = envs.metadata.get("render_fps", 30)

    def reset(self) -> np.ndarray:
        seeds = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        if any(options != self._options[0] for options in self._options):
            raise ValueError(f"a batched env needs the same reset options in every row, got {self._options}")
        observations, infos = self.envs.reset(seed=seeds, options=self._options[0] or None)
        self.reset_infos = _rows(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        if isinstance(self.action_space, gym.spaces.Box):
            # Algorithms that scale their actions (SAC, TD3) may exceed the bounds by rounding.
            actions = np.clip(actions, self.action_space.low, self.action_space.high)
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observations, rewards, terminations, truncations, infos = self.envs.step(self._actions)
        dones = terminations | truncations
        rows = _rows({name: value for name, value in infos.items() if name not in _FINAL}, self.num_envs)
        if dones.any():
            # The final infos belong to the episode's last step; the row's own are those of the next reset.
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
        rows = self._get_indices(indices)
        if (own := self._own_envs()) is not None:
            return [own[row].get_wrapper_attr(attr_name) for row in rows]
        if (processes := self._processes(attr_name)) is not None:
            values = processes.call("get_wrapper_attr", attr_name)
            return [values[row] for row in rows]
        return [getattr(self._owner(attr_name), attr_name) for _ in rows]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        if (own := self._own_envs()) is not None:
            for row in self._get_indices(indices):
                own[row].set_wrapper_attr(attr_name, value)
            return
        if (processes := self._processes(attr_name)) is not None:
            rows = set(self._get_indices(indices))
            values = [value] * self.num_envs if len(rows) == self.num_envs else self.get_attr(attr_name)
            processes.set_attr(attr_name, [value if row in rows else old for row, old in enumerate(values)])
            return
        self._check_all_rows(indices)
        owner = self._owner(attr_name)
        if not hasattr(owner, attr_name):
            raise AttributeError(
                f"a batch of {type(owner).__name__} has no attribute {attr_name!r} to set; rules of dreams, such as "
                "temperature and horizon, are set together: set_attr('rules', DreamRules(…))"
            )
        setattr(owner, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        if (own := self._own_envs()) is not None:
            rows = self._get_indices(indices)
            return [self._call(row, own[row], method_name, *method_args, **method_kwargs) for row in rows]
        if (processes := self._processes(method_name)) is not None:
            self._check_all_rows(indices)  # AsyncVectorEnv can only call all of them
            return list(processes.call(method_name, *method_args, **method_kwargs))
        self._check_all_rows(indices)
        given = getattr(self._owner(method_name), method_name)(*method_args, **method_kwargs)
        return [None] * self.num_envs if given is None else list(given)

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Any = None) -> list[bool]:
        own = self._own_envs()
        return [own is not None and is_wrapped(own[row], wrapper_class) for row in self._get_indices(indices)]

    def _call(self, row: int, env: gym.Env, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of a row's env, in its own thread if it has one."""
        method, base = env.get_wrapper_attr(name), self.envs.unwrapped
        if isinstance(base, ThreadVectorEnv):
            return base.in_its_thread(row, method, *args, **kwargs)
        return method(*args, **kwargs)

    def _own_envs(self) -> Sequence[gym.Env] | None:
        """The env of each row; None for a batch."""
        return getattr(self.envs.unwrapped, "envs", None)

    def _processes(self, name: str) -> AsyncVectorEnv | None:
        """The AsyncVectorEnv of rows in processes; AttributeError if they lack `name`, which would end them."""
        base = self.envs.unwrapped
        if not isinstance(base, AsyncVectorEnv):
            return None
        if not all(base.call("has_wrapper_attr", name)):
            raise AttributeError(f"the envs of the rows have no attribute {name!r}")
        return base

    def _owner(self, name: str) -> VectorEnv:
        """The batch's wrapper if it has the attribute, else the batch itself."""
        return self.envs if hasattr(self.envs, name) else self.envs.unwrapped

    def _check_all_rows(self, indices: Any) -> None:
        if len(set(self._get_indices(indices))) < self.num_envs:
            raise ValueError(
                f"the {self.num_envs} rows of a batched env share attributes and methods, got indices={indices}; "
                "omit indices"
            )


def _rows(infos: dict[str, Any], num_envs: int, mask: np.ndarray | None = None) -> list[dict[str, Any]]:
    """Gymnasium's vector infos as one dict per row; `mask` is that of the enclosing group, if any."""
    rows: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    for name, values in infos.items():
        if name.startswith("_"):
            continue
        # Gymnasium's episode statistics have no masks inside their group.
        present = mask if mask is not None and f"_{name}" not in infos else infos[f"_{name}"]
        if isinstance(values, dict):
            values = _rows(values, num_envs, present)
        for row, value, there in zip(rows, values, present.tolist(), strict=True):
            if there:
                row[name] = value
    return rows

"""RLlib's env runner for dreams: it samples in the dream, and evaluates in the real game."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import DictInfoToList
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

import worldmodel  # noqa: F401 (registers the env ids, also in Ray's processes)
from worldmodel.envs.registry import load_model
from worldmodel.envs.wrappers import DreamView


class DreamEnvRunner(SingleAgentEnvRunner):
    """Creates its own dreams, or real games for evaluation; needs a `DreamPPOConfig`."""

    config: AlgorithmConfig
    env: DictInfoToList | None
    _seed: int | None
    _seed_used = False

    def __init__(self, **kwargs: Any) -> None:
        if not getattr(kwargs["config"], "is_of_dreams", False):
            raise TypeError(
                "DreamEnvRunner needs a DreamPPOConfig, which checks the envs for training and evaluation, got a "
                f"{type(kwargs['config']).__name__}; with ray.tune pass the algorithm: Tuner(DreamPPO, …), not 'PPO'"
            )
        super().__init__(**kwargs)
        if self._seed is not None:
            # RLlib's seeds of consecutive runners differ by one, as do those of rows: rows would dream the same.
            entropy = (self._seed, self.config.in_evaluation)
            self._seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def make_env(self) -> None:
        """Replaces RLlib's method, which passes the dream's arguments to the game and ignores autoreset modes."""
        if self.env is not None:
            self.env.close()
        config = self.config
        envs = real_games(config) if config.in_evaluation else dreams(config)
        self.env = DictInfoToList(envs)
        self.num_envs = envs.num_envs
        self._needs_initial_reset = True
        context = EnvContext(config.env_config, worker_index=self.worker_index, num_workers=self.num_workers)
        make_callback(
            "on_environment_created",
            callbacks_objects=self._callbacks,
            callbacks_functions=config.callbacks_on_environment_created,
            kwargs={
                "env_runner": self,
                "metrics_logger": self.metrics,
                "env": self.env.unwrapped,
                "env_context": context,
            },
        )

    def _try_env_reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """RLlib's method, but the training seed is used only once.

        RLlib passes it at every reset of all rows, so that whole episodes (`batch_mode="complete_episodes"`) would be
        the same dreams in every rollout. Evaluations do play the same games every time, to be comparable.
        """
        if not self.config.in_evaluation:
            seed, self._seed_used = (None if self._seed_used else seed), True
        return super()._try_env_reset(seed=seed, options=options)


def dreams(config: AlgorithmConfig) -> VectorEnv:
    """The dreams of one runner."""
    envs = gym.make_vec(config.env, num_envs=config.num_envs_per_env_runner, **config.env_config)
    check_next_step(envs)
    return envs


def real_games(config: AlgorithmConfig) -> VectorEnv:
    """The real games of one evaluation runner, with the config's `view`."""
    dream = config.env_config
    model = None if config.view == "real" else load_model(dream["model"], dream.get("device", "auto"))

    def make_game() -> gym.Env:
        game = gym.make(config.env, **config.real_env_config)
        return _WithoutFrames(game if model is None else DreamView(game, model, config.view))

    envs = SyncVectorEnv([make_game] * config.num_envs_per_env_runner, autoreset_mode=AutoresetMode.NEXT_STEP)
    check_next_step(envs)
    return envs


def check_next_step(envs: VectorEnv) -> None:
    """ValueError for an env in which RLlib would silently lose steps."""
    mode = envs.metadata.get("autoreset_mode")
    if mode is not AutoresetMode.NEXT_STEP:
        raise ValueError(
            f"RLlib needs autoreset_mode='next_step' (in other modes it loses a step of every episode), got {mode}"
        )


class _WithoutFrames(gym.Wrapper):
    """Drops arrays from the infos: RLlib keeps those of every step, and an episode's frames take many megabytes."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        return observation, _numbers(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, _numbers(info)


def _numbers(info: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in info.items() if np.ndim(value) == 0}

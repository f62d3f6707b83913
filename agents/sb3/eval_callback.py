"""Evaluation of agents in the real game during training, for any algorithm of Stable-Baselines3.

Letters: n parallel games.
"""

import os
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecFrameStack, VecMonitor, VecTransposeImage

from worldmodel.agents.evaluate import View
from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.agents.sb3.generators import restored_generators
from worldmodel.agents.sb3.rollout_memory import as_agents_see
from worldmodel.agents.sb3.vec_env import SB3VecEnv
from worldmodel.envs.ids import is_dream
from worldmodel.envs.wrappers import DreamViewVector, ThreadVectorEnv


class NativeReward(VecEnvWrapper):
    """Replaces the env's reward by the game's native one in rows that report it (``info["native_reward"]``)."""

    def reset(self) -> np.ndarray:
        return self.venv.reset()

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observations, rewards, dones, infos = self.venv.step_wait()
        native = [info.get("native_reward", reward) for info, reward in zip(infos, rewards, strict=True)]
        return observations, np.array(native, np.float32), dones, infos


def real_games(
    env_id: str,
    num_envs: int = 10,
    view: View | None = None,
    frame_stack: int = 1,
    training: AgentConfig | None = None,
    **env_kwargs: Any,
) -> VecEnv:
    """A real game as a VecEnv with the observations of an agent and the native reward; the caller closes it.

    Args:
        env_id: of the game.
        num_envs: n, played in threads.
        view: (model, obs): show the game as this model's dream would; None: its own frames.
        frame_stack: as in the agent's training.
        training: config of an agent of `train_ppo`, which decides the frame stack and how its actions are shown.
        env_kwargs: for the game.
    """
    if is_dream(env_id):
        raise ValueError(f"{env_id} is a dream; give the real game's id, such as VideoGenReal-Doom")
    games = ThreadVectorEnv(lambda: gym.make(env_id, **env_kwargs), num_envs)
    try:
        envs = SB3VecEnv(games if view is None else DreamViewVector(games, *view))
        plain = VecMonitor(NativeReward(envs))
        stacked = VecFrameStack(plain, frame_stack) if training is None else as_agents_see(plain, training)
    except BaseException:
        games.close()
        raise
    return VecTransposeImage(stacked) if stacked.observation_space.dtype == np.uint8 else stacked


class RealEvalCallback(EvalCallback):
    """Stable-Baselines3's EvalCallback in the real game, with sampled actions.

    It evaluates after an update instead of during the next rollout, and again when training ends. It uses the same
    seeds every time and restores all random generators, so that training is the same with and without it. Logs
    ``eval/mean_reward`` and ``eval/mean_ep_length``.

    Args:
        games: from `real_games`; closed by the caller.
        every: env steps between two evaluations, rounded up to whole rollouts.
        episodes: per evaluation.
        seed: game i begins with seed + i. Compare agents selected by these episodes on others.
        deterministic: take the likeliest actions instead of sampling.
        on_best: called with the model whenever its mean is the highest so far.
        on_judgement: called with this callback after every evaluation, and after `on_best`.
        best_model_save_path: folder for Stable-Baselines3's own file of the best model.
        log_path: folder for Stable-Baselines3's evaluations.npz.
        callback_on_new_best, callback_after_eval: as in EvalCallback; returning False ends the training.
    """

    def __init__(
        self,
        games: VecEnv,
        every: int,
        episodes: int = 10,
        *,
        seed: int = 50_000,
        deterministic: bool = False,
        on_best: Callable[[BaseAlgorithm], Any] | None = None,
        on_judgement: Callable[["RealEvalCallback"], Any] | None = None,
        best_model_save_path: str | os.PathLike | None = None,
        log_path: str | os.PathLike | None = None,
        callback_on_new_best: BaseCallback | None = None,
        callback_after_eval: BaseCallback | None = None,
    ) -> None:
        if every < 1 or episodes < 1:
            raise ValueError(f"every and episodes must be at least 1, got {every} and {episodes}")
        super().__init__(
            games,
            callback_on_new_best,
            callback_after_eval,
            n_eval_episodes=episodes,
            eval_freq=1,  # `_judge` decides when
            log_path=None if log_path is None else os.fspath(log_path),
            best_model_save_path=None if best_model_save_path is None else os.fspath(best_model_save_path),
            deterministic=deterministic,
            verbose=0,
        )
        self.every = every
        self.seed = seed
        self.on_best, self.on_judgement = on_best, on_judgement
        self.best_timesteps = 0  # env steps of training of the best model
        self.judgements: list[tuple[int, float]] = []  # (env steps of training, mean) of every evaluation
        self._judged = 0  # env steps of training at the last evaluation
        self._resumed = False
        self._go_on = True

    def _init_callback(self) -> None:
        # Replaces the check that both are wrapped by the same classes.
        trained, judged = self.training_env.observation_space, self.eval_env.observation_space
        if trained.shape != judged.shape or trained.dtype != judged.dtype:
            raise ValueError(
                f"the agent learns from {trained.dtype} {trained.shape}, but would be evaluated on {judged.dtype} "
                f"{judged.shape}: pass the view and the frame_stack of the training to real_games"
            )
        for folder in filter(None, (self.best_model_save_path, self.log_path and os.path.dirname(self.log_path))):
            os.makedirs(folder, exist_ok=True)
        if self.callback_on_new_best is not None:
            self.callback_on_new_best.init_callback(self.model)
        if not self._resumed:
            self._judged = self.model.num_timesteps

    def progress(self) -> dict[str, Any]:
        """What an interrupted training needs to continue its judgements, in plain types."""
        return {
            "judgements": [list(judgement) for judgement in self.judgements],
            "judged": self._judged,
            "best_timesteps": self.best_timesteps,
            "best_mean_reward": float(self.best_mean_reward),
        }

    def resume(self, progress: dict[str, Any]) -> None:
        """Continue from what `progress` returned; before training."""
        self.judgements = [(int(steps), float(mean)) for steps, mean in progress["judgements"]]
        self._judged, self.best_timesteps = int(progress["judged"]), int(progress["best_timesteps"])
        self.best_mean_reward = progress["best_mean_reward"]
        self._resumed = True

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps - self._judged >= self.every:
            self._judge()

    def _on_step(self) -> bool:
        return self._go_on

    def _on_training_end(self) -> None:
        if self._go_on and self.model.num_timesteps > self._judged:  # otherwise just evaluated
            self._judge()

    def _judge(self) -> None:
        self._judged = self.model.num_timesteps
        best = self.best_mean_reward
        self.eval_env.seed(self.seed)
        with restored_generators(self.seed):
            self._go_on = super()._on_step()
        self.judgements.append((self._judged, float(self.last_mean_reward)))
        if self.best_mean_reward > best:
            self.best_timesteps = self._judged
            if self.on_best is not None:
                self.on_best(self.model)
        if self.on_judgement is not None:
            self.on_judgement(self)

"""Wrappers for `train_ppo` and its agents: envs of Stable-Baselines3 with the agent's last actions and stacked frames.

Letters: n envs, C channels of an observation, P planes of the last action.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecFrameStack

from worldmodel.agents.action_memory import ActionMemory, planes_of
from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.envs.actions import action_spec_of


def as_agents_see(envs: VecEnv, config: AgentConfig) -> VecEnv:
    """Wrap envs in everything an agent of this config needs: planes of its last actions, durations, stacked frames."""
    return VecFrameStack(ActionPlanes(envs, config) if config.shows_actions else envs, config.frame_stack)


class ActionPlanes(VecEnvWrapper):
    """Shows the policy its last action and repeats it for its duration (`ActionMemory`).

    A step in which a row repeats its action is still one env step for all rows. So no row waits for another, episodes
    end at any step, and rewards are discounted by the steps until they come: the policy's gradient and value are those
    of a semi-Markov process, without sums of rewards.
    """

    def __init__(self, venv: VecEnv, config: AgentConfig) -> None:
        action, seen = action_spec_of(venv.action_space), venv.observation_space
        if not isinstance(seen, gym.spaces.Box):
            raise ValueError(f"previous_action and durations need observations in a Box, got {seen}")
        self._memory = ActionMemory(action, config, venv.num_envs)
        planes = (*seen.shape[:-1], planes_of(action, config))
        least, most = (0, 255) if seen.dtype == np.uint8 else (-1, 1)
        low = np.concatenate([seen.low, np.full(planes, least, seen.dtype)], axis=-1)
        high = np.concatenate([seen.high, np.full(planes, most, seen.dtype)], axis=-1)
        space = gym.spaces.Box(low, high, dtype=seen.dtype.type)
        super().__init__(venv, space, self._memory.choices.to_gym())

    def reset(self) -> np.ndarray:
        self._memory.forget()
        return self._memory.show(self.venv.reset())

    def step_async(self, actions: np.ndarray) -> None:
        self.venv.step_async(self._memory.take(actions))

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observations, rewards, dones, infos = self.venv.step_wait()
        ended = np.flatnonzero(dones)
        if len(ended):
            last = observations.copy()
            for row in ended:
                last[row] = infos[row]["terminal_observation"]
            last = self._memory.show(last)
            for row in ended:
                infos[row]["terminal_observation"] = last[row]
            self._memory.forget(ended)
        return self._memory.show(observations), rewards, dones, infos

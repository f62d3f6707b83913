"""An agent's memory of its own actions: the last one, and for how long it is still repeated.

Letters: n envs, A actions or dimensions of an action, D durations, P planes, C channels of an observation, K frames.
"""

import numpy as np

from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.data import ActionSpec


def planes_of(action: ActionSpec, config: AgentConfig) -> int:
    """P, the channels that the last action adds to an observation; 0 if it is not shown."""
    return (action.n if config.shows_actions else 0) + bool(config.durations)


def choices_of(action: ActionSpec, config: AgentConfig) -> ActionSpec:
    """The policy's action space: the actions, or with durations A x D pairs, with index action * D + duration."""
    if not config.durations:
        return action
    if action.kind != "discrete":
        raise ValueError(f"durations={config.durations} need discrete actions, but this game has {action}")
    return ActionSpec(kind="discrete", n=action.n * len(config.durations))


class ActionMemory:
    """The last actions of n envs, shown as constant planes appended to the channels of an observation.

    The last action is one-hot in A planes, or A values scaled to [-1, 1] by their bounds; with durations another plane
    holds the remaining steps as a share of the longest duration. At the first step of an episode all planes are 0. In
    uint8 observations 1 is 255, and continuous values range from 1 to 255.

    An action with a duration is repeated, step by step, until its time is over or the episode ends; the policy sees
    these steps too, but has no choice in them (`HoldingPolicy`).

    Args:
        action: the game's action space.
        config: of the agent; it must show actions.
        num_envs: n.
    """

    def __init__(self, action: ActionSpec, config: AgentConfig, num_envs: int) -> None:
        assert config.shows_actions, "this agent does not see its actions"
        self.action, self.choices = action, choices_of(action, config)
        self._durations = np.array(config.durations or (1,), np.int64)
        self._timed = bool(config.durations)
        self._last = np.zeros((num_envs, *action.shape), action.dtype)
        self._left = np.zeros(num_envs, np.int64)  # steps for which the last action is still repeated
        self._begun = np.zeros(num_envs, bool)  # envs in which the episode has had an action

    def __len__(self) -> int:
        return len(self._left)

    def forget(self, rows: np.ndarray | slice = slice(None)) -> None:
        """Start a new episode in these envs."""
        self._left[rows], self._begun[rows] = 0, False

    def take(self, choices: np.ndarray) -> np.ndarray:
        """Remember and return the game's actions, (n,) int64 or (n, A) float32, for the policy's choices."""
        if not self._timed:
            self._last = np.array(choices, self.action.dtype)
        else:
            actions, durations = np.divmod(choices, len(self._durations))
            free = self._left == 0
            self._last = np.where(free, actions, self._last)
            self._left = np.where(free, self._durations[durations], self._left) - 1
        self._begun[:] = True
        return self._last.copy()

    def acted(self, actions: np.ndarray) -> None:
        """Remember actions executed instead of those that `take` returned; where they differ, repetition stops."""
        actions = np.asarray(actions, self.action.dtype)
        if actions.shape != self._last.shape:
            raise ValueError(f"acted() needs the actions of all envs, {self._last.shape}, got {actions.shape}")
        other = (actions != self._last).reshape(len(self), -1).any(1)
        self._last, self._left = actions.copy(), np.where(other, 0, self._left)

    def show(self, observations: np.ndarray) -> np.ndarray:
        """Observations (n, ..., C) with their planes, (n, ..., C + P)."""
        planes = self._planes(observations.dtype == np.uint8)
        planes = planes.reshape(len(planes), *[1] * (observations.ndim - 2), -1).astype(observations.dtype)
        return np.concatenate([observations, np.broadcast_to(planes, (*observations.shape[:-1], planes.shape[-1]))], -1)

    def _planes(self, pixels: bool) -> np.ndarray:
        """(n, P) float64."""
        if self.action.kind == "discrete":
            planes = np.eye(self.action.n)[self._last] * (255 if pixels else 1)
        else:
            low, high = np.array(self.action.low), np.array(self.action.high)
            planes = 2 * (self._last - low) / (high - low) - 1
            planes = 128 + np.round(127 * planes) if pixels else planes
        if self._timed:
            left = self._left / self._durations.max()
            planes = np.c_[planes, np.ceil(255 * left) if pixels else left]
        return planes * self._begun[:, None]

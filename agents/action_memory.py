"""What an agent is told of its own actions: the last one, and how long it still goes on.

Letters: n envs, A actions or numbers of an action, D durations, P planes, C channels of an observation, K frames.
"""

import numpy as np

from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.data import ActionSpec


def planes_of(action: ActionSpec, config: AgentConfig) -> int:
    """P, the channels that the last action adds to an observation; 0 if it is not shown."""
    return (action.n if config.shows_actions else 0) + bool(config.durations)


def choices_of(action: ActionSpec, config: AgentConfig) -> ActionSpec:
    """What the policy chooses: an action, or with durations one of A x D pairs, number action * D + duration."""
    if not config.durations:
        return action
    if action.kind != "discrete":
        raise ValueError(f"durations={config.durations} are for discrete actions, this game's are {action}")
    return ActionSpec(kind="discrete", n=action.n * len(config.durations))


class ActionMemory:
    """The actions of n envs, shown on constant planes behind the channels of an observation.

    The last action is a one-hot of A planes, or A numbers scaled to [-1, 1] from their bounds; with durations one plane
    more tells which share of the longest is left of it. At the first step of an episode all are 0. In uint8
    observations 1 is 255, and numbers go from 1 to 255.

    An action with a duration is done again, step by step, until its time is over or the episode ends; the policy sees
    these steps too, and can choose nothing in them (`HoldingPolicy`).

    Args:
        action: what the game takes.
        config: of the agent; it must show actions.
        num_envs: n.
    """

    def __init__(self, action: ActionSpec, config: AgentConfig, num_envs: int) -> None:
        assert config.shows_actions, "an agent without a memory of its actions needs none"
        self.action, self.choices = action, choices_of(action, config)
        self._durations = np.array(config.durations or (1,), np.int64)
        self._timed = bool(config.durations)
        self._last = np.zeros((num_envs, *action.shape), action.dtype)
        self._left = np.zeros(num_envs, np.int64)  # steps for which the last action still goes on
        self._begun = np.zeros(num_envs, bool)  # envs in whose episode something has been done

    def __len__(self) -> int:
        return len(self._left)

    def forget(self, rows: np.ndarray | slice = slice(None)) -> None:
        """A new episode begins in these envs."""
        self._left[rows], self._begun[rows] = 0, False

    def take(self, choices: np.ndarray) -> np.ndarray:
        """What is done in the game, (n,) int64 or (n, A) float32, for what the policy chose; this is remembered."""
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
        """What was done in place of what `take` gave; where these differ, the policy chooses anew in the next step."""
        actions = np.asarray(actions, self.action.dtype)
        if actions.shape != self._last.shape:
            raise ValueError(f"acted() wants the actions of all envs, {self._last.shape}, got {actions.shape}")
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

"""Policies that need no learning: random play, random play that holds on to its actions, and noise on any policy.

All are vectorised and seeded: `act(observations)` takes n observations, one per env, and `reset(rows)` tells which of
the envs began a new episode. Letters: n envs, A numbers per action.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from worldmodel.data import ActionSpec

_EXPLORING_WEIGHTS = {"noop": 0.25, "move_forward": 3.0}


class Policy(Protocol):
    """What collection and evaluation ask of a policy."""

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Choose actions, (n,) int64 or (n, A) float32, for observations (n, H, W, C) uint8."""

    def reset(self, rows: np.ndarray | None = None) -> None:
        """Forget what belongs to the last episode, in the envs `rows` (None: in all)."""


class RandomPolicy:
    """Every action drawn anew, uniformly.

    Args:
        action_spec: what can be done.
        num_envs: n.
        seed: of the policy's own generator.
    """

    def __init__(self, action_spec: ActionSpec, num_envs: int = 1, seed: int = 0) -> None:
        self.action_spec = action_spec
        self.num_envs = num_envs
        self._rng = np.random.default_rng(seed)
        self._odds: np.ndarray | None = None  # of each discrete action; None: all alike

    def act(self, observations: np.ndarray) -> np.ndarray:
        if len(observations) != self.num_envs:
            raise ValueError(f"this policy plays {self.num_envs} envs, got {len(observations)} observations")
        spec = self.action_spec
        if spec.kind == "box":
            return self._rng.uniform(spec.low, spec.high, (self.num_envs, spec.n)).astype(np.float32)
        return self._rng.choice(spec.n, self.num_envs, p=self._odds).astype(np.int64)

    def reset(self, rows: np.ndarray | None = None) -> None:
        """Nothing to forget."""


class StickyPolicy(RandomPolicy):
    """Repeats its last action with probability `repeat`, else draws a new one: strides instead of trembling.

    On health_gathering the defaults meet 15 medikits per 1,000 steps and see twice as much of the map as uniformly
    random actions, which meet 9.

    Args:
        action_spec, num_envs, seed: as in RandomPolicy.
        repeat: in [0, 1); an action lasts 1 / (1 - repeat) steps on average, longer where the same is drawn again.
        weights: relative odds of the discrete actions when drawing, not negative; None: standing still is rare and
            walking forward frequent where the actions' names tell which these are, the others alike.
    """

    def __init__(
        self,
        action_spec: ActionSpec,
        num_envs: int = 1,
        seed: int = 0,
        *,
        repeat: float = 0.8,
        weights: Sequence[float] | None = None,
    ) -> None:
        if not 0.0 <= repeat < 1.0:
            raise ValueError(f"repeat must be in [0, 1), got {repeat}")
        super().__init__(action_spec, num_envs, seed)
        self.repeat = repeat
        if weights is None and action_spec.kind == "discrete" and action_spec.names:
            weights = [_EXPLORING_WEIGHTS.get(name, 1.0) for name in action_spec.names]
        if weights is not None:
            self._odds = _odds(action_spec, np.asarray(weights, np.float64))
        self._last = np.zeros((num_envs, *action_spec.shape), action_spec.dtype)
        self._fresh = np.ones(num_envs, bool)  # envs without a last action

    def act(self, observations: np.ndarray) -> np.ndarray:
        drawn = super().act(observations)
        change = self._fresh | (self._rng.random(self.num_envs) >= self.repeat)
        self._last[change] = drawn[change]
        self._fresh[:] = False
        return self._last.copy()

    def reset(self, rows: np.ndarray | None = None) -> None:
        self._fresh[... if rows is None else rows] = True


class EpsilonPolicy:
    """Another policy's actions, each replaced by a uniformly random one with probability `epsilon`.

    What can be told to that policy is handed on to it, and what was done in place of its actions is told to it
    (`acted`). `seed_rows` decides what that policy draws, not the noise.
    """

    def __init__(
        self, policy: Policy, epsilon: float, action_spec: ActionSpec, num_envs: int = 1, seed: int = 0
    ) -> None:
        if not 0.0 <= epsilon <= 1.0:
            raise ValueError(f"epsilon must be in [0, 1], got {epsilon}")
        self.policy = policy
        self.epsilon = epsilon
        self.action_spec = action_spec
        # Apart from each other's draws and from those of a policy with the same seed.
        self._rng = np.random.default_rng((seed, 1))
        self._noise = RandomPolicy(action_spec, num_envs, int(self._rng.integers(2**62)))

    def act(self, observations: np.ndarray) -> np.ndarray:
        actions = np.array(self.policy.act(observations))
        replaced = self._rng.random(len(actions)) < self.epsilon
        actions[replaced] = self._noise.act(observations)[replaced]
        tell(self.policy, "acted", actions)
        return actions

    def reset(self, rows: np.ndarray | None = None) -> None:
        self.policy.reset(rows)

    def seed_rows(self, rows: Sequence[int] | np.ndarray, seeds: Sequence[int]) -> None:
        tell(self.policy, "seed_rows", rows, seeds)

    def inform(self, infos: Mapping[str, Any]) -> None:
        tell(self.policy, "inform", infos)


def tell(policy: Policy, method: str, *arguments: Any) -> None:
    """Call a method that not every policy has: "seed_rows", "inform", or "acted" (what was done, (n,) or (n, A))."""
    if hasattr(policy, method):
        getattr(policy, method)(*arguments)


def _odds(spec: ActionSpec, weights: np.ndarray) -> np.ndarray:
    if spec.kind != "discrete" or weights.shape != (spec.n,) or (weights < 0).any() or not weights.sum() > 0:
        raise ValueError(
            f"weights must be {spec.n} numbers, none negative and not all 0, for discrete actions only; got {weights} "
            f"for {spec.kind} actions"
        )
    return weights / weights.sum()


class SeededNoise:
    """Another policy's actions, each replaced by a random one with probability `epsilon`.

    Every env draws from a seed of its own (`seed_rows`), so an episode does not depend on those played beside it.
    """

    def __init__(self, policy: Policy, epsilon: float, action_spec: ActionSpec) -> None:
        self.policy, self.epsilon, self.action_spec = policy, epsilon, action_spec
        self._rows: dict[int, tuple[np.random.Generator, RandomPolicy]] = {}

    def reset(self, rows: np.ndarray | None = None) -> None:
        self.policy.reset(rows)

    def seed_rows(self, rows: Sequence[int] | np.ndarray, seeds: Sequence[int]) -> None:
        """From now on what is drawn in env rows[i], by the other policy too, is decided by seeds[i]."""
        tell(self.policy, "seed_rows", rows, seeds)
        for row, seed in zip(rows, seeds, strict=True):
            coin = np.random.default_rng((int(seed), 1))  # apart from the other policy's own draws
            self._rows[int(row)] = coin, RandomPolicy(self.action_spec, 1, seed=int(coin.integers(2**62)))

    def act(self, observations: np.ndarray) -> np.ndarray:
        actions = np.array(self.policy.act(observations))
        for row in range(len(actions)):
            coin, noise = self._rows[row]
            if coin.random() < self.epsilon:
                actions[row] = noise.act(observations[row : row + 1])[0]
        tell(self.policy, "acted", actions)
        return actions

    def inform(self, infos: Mapping[str, Any]) -> None:
        tell(self.policy, "inform", infos)

"""Policies that need no training: random and sticky actions, and random noise on top of any policy.

All support any number of env rows, and each row can be seeded separately (`seed_rows`).
Letters: n env rows, A dimensions of an action.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from worldmodel.agents.policy import Policy, RowGenerators, Rows, as_policy
from worldmodel.data import ActionSpec

Action = np.ndarray | int
Plan = Callable[[np.random.Generator], Iterator[Action]]  # the actions of one episode, without end

_EXPLORING_WEIGHTS = {"noop": 0.25, "move_forward": 3.0}


class ScriptedPolicy(Policy):
    """Follows a plan in each env row and ignores the observations.

    Args:
        plan: yields the actions of an episode, drawn from the row's generator.
        action_spec: of these actions.
        seed: env row i is seeded with (seed, i) until `seed_rows` sets another seed.
    """

    action_spec: ActionSpec

    def __init__(self, plan: Plan, action_spec: ActionSpec, *, seed: int = 0) -> None:
        self.action_spec = action_spec
        self._plan = plan
        self._generators = RowGenerators(seed)
        self._episodes: dict[int, Iterator[Action]] = {}  # by row

    def act(self, observations: np.ndarray) -> np.ndarray:
        """The next actions, (n,) int64 or (n, A) float32; only the number of `observations` is used."""
        return np.array([self._next(row) for row in range(len(observations))], self.action_spec.dtype)

    def _next(self, row: int) -> Action:
        if row not in self._episodes:
            self._episodes[row] = self._plan(self._generators[row])
        return next(self._episodes[row])

    def reset(self, rows: Rows | None = None) -> None:
        for row in list(self._episodes) if rows is None else rows:
            self._episodes.pop(int(row), None)

    def seed_rows(self, rows: Rows, seeds: Sequence[int]) -> None:
        """Begin a new episode in env row rows[i], seeded with seeds[i]."""
        self._generators.reseed(rows, seeds)
        self.reset(rows)


class RandomPolicy(ScriptedPolicy):
    """Draws every action uniformly; arguments as in `ScriptedPolicy`."""

    def __init__(self, action_spec: ActionSpec, *, seed: int = 0) -> None:
        super().__init__(partial(_random, action_spec), action_spec, seed=seed)


class StickyPolicy(ScriptedPolicy):
    """Repeats its last action with probability `repeat`, else draws a new one, which covers more ground.

    On health_gathering the defaults pick up 15 medikits per 1,000 steps and see twice as much of the map as uniformly
    random actions, which pick up 9.

    Args:
        action_spec, seed: as in `ScriptedPolicy`.
        repeat: in [0, 1); an action lasts 1 / (1 - repeat) steps on average, longer if the same is drawn again.
        weights: relative odds of the discrete actions, not negative. None: actions named "noop" are rare and
            "move_forward" frequent; without names all are equal.
    """

    def __init__(
        self, action_spec: ActionSpec, *, seed: int = 0, repeat: float = 0.8, weights: Sequence[float] | None = None
    ) -> None:
        if not 0.0 <= repeat < 1.0:
            raise ValueError(f"repeat must be in [0, 1), got {repeat}")
        if weights is None and action_spec.kind == "discrete" and action_spec.names:
            weights = [_EXPLORING_WEIGHTS.get(name, 1.0) for name in action_spec.names]
        odds = None if weights is None else _odds(action_spec, np.asarray(weights, np.float64))
        super().__init__(partial(_sticky, action_spec, repeat, odds), action_spec, seed=seed)


class EpsilonPolicy(Policy):
    """Another policy's actions, each replaced by a uniformly random one with probability `epsilon`.

    `seed_rows` seeds both the other policy and the noise, independently of each other. The executed actions are
    reported to the other policy (`acted`).
    """

    def __init__(self, policy: Policy, epsilon: float, action_spec: ActionSpec, *, seed: int = 0) -> None:
        if not 0.0 <= epsilon <= 1.0:
            raise ValueError(f"epsilon must be in [0, 1], got {epsilon}")
        self.policy = as_policy(policy)
        self.epsilon = epsilon
        self.action_spec = action_spec
        self._seed = seed
        self._coins: dict[int, np.random.Generator] = {}  # by row
        self._noise = RandomPolicy(action_spec)

    def act(self, observations: np.ndarray) -> np.ndarray:
        actions = np.array(self.policy.act(observations))
        for row in range(len(actions)):
            if row not in self._coins:
                self._seed_noise(row, (self._seed, 1, row))
        replaced = np.array([self._coins[row].random() for row in range(len(actions))]) < self.epsilon
        actions[replaced] = self._noise.act(observations)[replaced]
        self.policy.acted(actions)
        return actions

    def reset(self, rows: np.ndarray | None = None) -> None:
        self.policy.reset(rows)

    def seed_rows(self, rows: Rows, seeds: Sequence[int]) -> None:
        self.policy.seed_rows(rows, seeds)
        for row, seed in zip(rows, seeds, strict=True):
            self._seed_noise(int(row), (int(seed), 1))

    def _seed_noise(self, row: int, seed: tuple[int, ...]) -> None:
        """Seed a row's noise; the 1 in `seed` makes it independent of the other policy's draws from the same seed."""
        self._coins[row] = coin = np.random.default_rng(seed)
        self._noise.seed_rows([row], [int(coin.integers(2**62))])

    def inform(self, infos: Mapping[str, Any]) -> None:
        self.policy.inform(infos)

    def acted(self, actions: np.ndarray) -> None:
        self.policy.acted(actions)


def _random(spec: ActionSpec, rng: np.random.Generator) -> Iterator[Action]:
    while True:
        yield draw(spec, rng)


def _sticky(spec: ActionSpec, repeat: float, odds: np.ndarray | None, rng: np.random.Generator) -> Iterator[Action]:
    last: Action | None = None
    while True:
        drawn = draw(spec, rng, odds)
        change = rng.random() >= repeat
        if last is None or change:
            last = drawn
        yield last


def draw(spec: ActionSpec, rng: np.random.Generator, odds: np.ndarray | None = None) -> Action:
    """A random action; `odds` are the probabilities of discrete actions, None: uniform."""
    if spec.kind == "box":
        return rng.uniform(spec.low, spec.high).astype(np.float32)
    return int(rng.choice(spec.n, p=odds))


def _odds(spec: ActionSpec, weights: np.ndarray) -> np.ndarray:
    if spec.kind != "discrete" or weights.shape != (spec.n,) or (weights < 0).any() or not weights.sum() > 0:
        raise ValueError(
            f"weights must be {spec.n} numbers, none negative and not all 0, and need discrete actions; got {weights} "
            f"for {spec.kind} actions"
        )
    return weights / weights.sum()

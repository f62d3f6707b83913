"""Policies: the base class of scripted, trained and planning players, and one random generator for each env row.

Letters: n env rows, A dimensions of an action.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from worldmodel.data import ActionSpec

Rows = Sequence[int] | np.ndarray


class Policy(ABC):
    """Chooses actions for n env rows; only `act` must be implemented, the other methods do nothing by default.

    A policy that samples should use a separate generator for each row (`RowGenerators`), so that an episode does not
    depend on those in other rows.
    """

    action_spec: ActionSpec | None = None  # of the actions it returns; None: not checked against the env

    @abstractmethod
    def act(self, observations: np.ndarray) -> np.ndarray:
        """Choose actions, (n,) int64 or (n, A) float32, for observations (n, ...)."""

    def reset(self, rows: np.ndarray | None = None) -> None:  # noqa: B027
        """Start a new episode in the given env rows (None: in all rows, whose number may change)."""

    def seed_rows(self, rows: Rows, seeds: Sequence[int]) -> None:  # noqa: B027
        """Seed env row rows[i] with seeds[i]."""

    def inform(self, infos: Mapping[str, Any]) -> None:  # noqa: B027
        """Read a vector env's infos after a reset or a step, before the next `act`."""

    def acted(self, actions: np.ndarray) -> None:  # noqa: B027
        """Record the actions executed in all rows instead of those that `act` returned."""


class RowGenerators(dict[int, np.random.Generator]):
    """A random generator for each env row; row i is seeded with (seed, i) until `reseed` sets another seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def __missing__(self, row: int) -> np.random.Generator:
        generator = self[row] = np.random.default_rng((self._seed, row))
        return generator

    def reseed(self, rows: Rows, seeds: Sequence[int]) -> None:
        """Seed row rows[i] with seeds[i]."""
        for row, seed in zip(rows, seeds, strict=True):
            self[int(row)] = np.random.default_rng(seed)

    def choose(self, odds: np.ndarray) -> np.ndarray:
        """Draw an action in each row, (n,) int64, with probabilities (n, A)."""
        mass = odds.cumsum(-1)
        noise = np.array([self[row].random() for row in range(len(odds))])
        return (noise[:, None] * mass[:, -1:] >= mass).sum(-1)

    def normal(self, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """Draw from normal distributions, all (n, A)."""
        return mean + np.stack([self[row].standard_normal(mean.shape[-1]) for row in range(len(mean))]) * deviation


def as_policy(player: Any, deterministic: bool = False) -> Policy:
    """Turn any object with `act` and `reset` into a policy; the other methods of `Policy` are used if it has them.

    Args:
        player: a `Policy` is returned unchanged.
        deterministic: call `act` with deterministic=True.

    Raises:
        TypeError: the object does not have the two methods.
        ValueError: its `act` has no argument `deterministic`.
    """
    if isinstance(player, type) or not hasattr(player, "act") or not hasattr(player, "reset"):
        raise TypeError(
            "a policy must have act(observations) and reset(rows), or be a function from ActionSpec to a policy; got a "
            f"{type(player).__name__}. For a model of Stable-Baselines3: SB3Policy(model)"
        )
    if deterministic and "deterministic" not in inspect.signature(player.act).parameters:
        raise ValueError(f"deterministic=True is for agents: {type(player).__name__}.act has no such argument")
    return player if isinstance(player, Policy) and not deterministic else _Adapter(player, deterministic)


class _Adapter(Policy):
    """Adapts an object of another class."""

    def __init__(self, player: Any, deterministic: bool) -> None:
        self._act = partial(player.act, deterministic=True) if deterministic else player.act
        self._player = player
        spec = getattr(player, "action_spec", None)
        self.action_spec = spec if isinstance(spec, ActionSpec) else None
        for method in ("seed_rows", "inform", "acted"):
            if hasattr(player, method):
                setattr(self, method, getattr(player, method))

    def act(self, observations: np.ndarray) -> np.ndarray:
        return self._act(observations)

    def reset(self, rows: np.ndarray | None = None) -> None:
        self._player.reset(rows)

"""Policies: the base class of scripted, trained and planning players, and one random generator for each env row.

Letters: n env rows side by side, A dimensions of an action.
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

    A policy that samples should draw for each row from that row's own generator (`RowGenerators`): then an episode
    does not depend on those played beside it.
    """

    action_spec: ActionSpec | None = None  # of the actions it returns; None: not checked against the env

    @abstractmethod
    def act(self, observations: np.ndarray) -> np.ndarray:
        """Choose actions, (n,) int64 or (n, A) float32, for observations (n, ...)."""

    def reset(self, rows: np.ndarray | None = None) -> None:  # noqa: B027
        """Forget the last episode in the given env rows (None: in all rows, whose number may change)."""

    def seed_rows(self, rows: Rows, seeds: Sequence[int]) -> None:  # noqa: B027
        """From now on seeds[i] decides what is drawn in env row rows[i]."""

    def inform(self, infos: Mapping[str, Any]) -> None:  # noqa: B027
        """Read a vector env's infos after a reset or a step, before the next `act`."""

    def acted(self, actions: np.ndarray) -> None:  # noqa: B027
        """Take note of the actions that were executed in all rows instead of those that `act` returned."""


class RowGenerators(dict[int, np.random.Generator]):
    """A random generator for each env row; row i draws from (seed, i) until `reseed` gives it a seed of its own."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def __missing__(self, row: int) -> np.random.Generator:
        generator = self[row] = np.random.default_rng((self._seed, row))
        return generator

    def reseed(self, rows: Rows, seeds: Sequence[int]) -> None:
        """Row rows[i] draws from seeds[i] from now on."""
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
    """A policy out of any object with `act` and `reset`; its further methods of a `Policy` are called if it has them.

    Args:
        player: a `Policy` is returned as it is.
        deterministic: call `act` with deterministic=True.

    Raises:
        TypeError: the object does not have the two methods.
        ValueError: its `act` has no argument `deterministic`.
    """
    if isinstance(player, type) or not hasattr(player, "act") or not hasattr(player, "reset"):
        raise TypeError(
            "a policy has act(observations) and reset(rows), or is a function of an ActionSpec that makes one; got a "
            f"{type(player).__name__}. For a model of Stable-Baselines3: SB3Policy(model)"
        )
    if deterministic and "deterministic" not in inspect.signature(player.act).parameters:
        raise ValueError(f"deterministic=True is for agents: act of a {type(player).__name__} has no such argument")
    return player if isinstance(player, Policy) and not deterministic else _Adapter(player, deterministic)


class _Adapter(Policy):
    """Another class's object as a policy."""

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

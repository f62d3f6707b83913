"""The loop that plays whole episodes in envs side by side, and who sits at them.

Letters: n envs side by side.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from gymnasium.vector import VectorEnv

from worldmodel.agents.scripted import Policy, tell
from worldmodel.data import ActionSpec
from worldmodel.progress import progress

PolicyFactory = Callable[[ActionSpec, int, int], Policy]  # (action_spec, num_envs, seed), as RandomPolicy
Act = Callable[[np.ndarray], np.ndarray]  # actions for observations
Watch = Callable[[np.ndarray, np.ndarray, np.ndarray], None]  # (episodes, env rewards, terminations) of one step


class Seats(Protocol):
    """Who acts in each env row."""

    def begin(self, rows: np.ndarray, episodes: np.ndarray) -> None:
        """Play episodes[i] in rows[i] from here on, with nothing kept of what was played there before."""

    def act(self, observations: np.ndarray) -> np.ndarray:
        """An action for each row."""

    def inform(self, infos: dict[str, Any]) -> None:
        """The infos of a reset or a step, before the next action."""


class Lasting:
    """One policy in all rows; in episode i it draws from seeds[i], if it can be told (`seed_rows`)."""

    def __init__(self, policy: Policy, seeds: Sequence[int], deterministic: bool = False) -> None:
        self._policy, self._seeds = policy, np.asarray(seeds)
        self.act = act_of(policy, deterministic)
        policy.reset()

    def begin(self, rows: np.ndarray, episodes: np.ndarray) -> None:
        self._policy.reset(rows)
        tell(self._policy, "seed_rows", rows, self._seeds[episodes].tolist())

    def inform(self, infos: dict[str, Any]) -> None:
        tell(self._policy, "inform", infos)


class OneEach:
    """A policy of its own for every episode; these are told nothing."""

    def __init__(self, make: Callable[[int], Policy], deterministic: bool = False) -> None:
        self._make, self._deterministic = make, deterministic
        self._acts: dict[int, Act] = {}

    def begin(self, rows: np.ndarray, episodes: np.ndarray) -> None:
        for row, episode in zip(rows, episodes, strict=True):
            self._acts[int(row)] = act_of(self._make(int(episode)), self._deterministic)

    def inform(self, infos: dict[str, Any]) -> None:
        """Policies for one episode are told nothing."""

    def act(self, observations: np.ndarray) -> np.ndarray:
        return np.concatenate([self._acts[row](observations[row : row + 1]) for row in range(len(observations))])


class Played(NamedTuple):
    """What episodes came to, (N,) each."""

    returns: np.ndarray  # in the game's native reward where the env tells it, else in the env's
    env_returns: np.ndarray  # in the env's reward
    lengths: np.ndarray  # steps


def play_episodes(
    envs: VectorEnv,
    seats: Seats,
    seeds: Sequence[int],
    *,
    leads: Sequence[np.ndarray] | None = None,
    most_steps: int | None = None,
    watch: Watch | None = None,
    about: str = "play",
) -> Played:
    """Play N episodes and add up their rewards.

    Args:
        envs: reset rows by ``options["reset_mask"]``.
        seats: who acts.
        seeds: episode i is reset with seeds[i].
        leads: for each episode the actions with which it begins, whoever sits there; what follows them counts alone.
        most_steps: that count; an episode that goes on is left there. None: all end by themselves.
        watch: called after every step with what happened in the episodes of which it counts.
        about: the text of the progress bar.
    """
    total = len(seeds)
    count = min(envs.num_envs, total)
    lead = _Lead(envs.num_envs, leads)
    returns, env_returns = np.zeros(total), np.zeros(total)
    lengths, finished = np.zeros(total, np.int64), np.zeros(total, bool)
    playing = np.arange(envs.num_envs) < count
    episode_of = np.where(playing, np.arange(envs.num_envs), 0)  # which episode each row plays
    begun = count  # episodes begun so far

    def begin(rows: np.ndarray, infos: dict[str, Any]) -> None:
        lead.begin(rows, episode_of[rows])
        seats.begin(rows, episode_of[rows])
        seats.inform(infos)

    observations, infos = envs.reset(seed=[int(seeds[i]) for i in episode_of])
    begin(np.arange(envs.num_envs), infos)
    with progress(total, "episode", about) as bar:
        while playing.any():
            actions, counts = lead.play(seats.act(observations))
            observations, rewards, terminations, truncations, infos = envs.step(actions)
            if (over := lead.over()).any():
                seats.begin(np.flatnonzero(over), episode_of[over])
            seats.inform(infos)
            lead.check(playing & (terminations | truncations) & ~counts, episode_of)
            counts &= playing
            ids = episode_of[counts]
            returns[ids] += infos.get("native_reward", rewards)[counts]
            env_returns[ids] += rewards[counts]
            lengths[ids] += 1
            if watch is not None:
                watch(ids, rewards[counts], terminations[counts])
            left = counts & (lengths[episode_of] == most_steps)
            ended = np.flatnonzero(playing & (terminations | truncations | left))
            if not len(ended):
                continue
            bar.update(len(ended))
            finished[episode_of[ended]] = True
            bar.note(f"mean return {returns[finished].mean():.1f}")
            again = ended[: total - begun]  # rows for which an episode is left
            playing[ended[len(again) :]] = False
            if len(again):
                episode_of[again] = begun + np.arange(len(again))
                begun += len(again)
                mask = np.isin(np.arange(envs.num_envs), again)
                # The seeds of the others, which go on, are not heeded.
                observations, infos = envs.reset(seed=[int(seeds[i]) for i in episode_of], options={"reset_mask": mask})
                begin(again, infos)
    return Played(returns, env_returns, lengths)


class _Lead:
    """Which rows still play the actions that their episodes begin with."""

    def __init__(self, rows: int, leads: Sequence[np.ndarray] | None) -> None:
        self._leads = leads
        self._actions: list[np.ndarray] = [np.empty(0)] * rows
        self._at = np.zeros(rows, np.int64)
        self._over = np.zeros(rows, bool)

    def begin(self, rows: np.ndarray, episodes: np.ndarray) -> None:
        if self._leads is not None:
            for row, episode in zip(rows, episodes, strict=True):
                self._actions[row] = self._leads[episode]
            self._at[rows] = 0

    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """These actions with the leads' in their place, and where that was not the case, (n,) bool."""
        left = np.array([len(lead) for lead in self._actions]) - self._at
        actions = np.array(actions)
        for row in np.flatnonzero(left > 0):
            actions[row] = self._actions[row][self._at[row]]
        self._at += left > 0
        self._over = left == 1
        return actions, left <= 0

    def over(self) -> np.ndarray:
        """Rows whose lead ended with the step just played, (n,) bool."""
        return self._over

    def check(self, ended: np.ndarray, episode_of: np.ndarray) -> None:
        if ended.any():
            row = int(np.flatnonzero(ended)[0])
            raise ValueError(
                f"episode {episode_of[row]} ended in step {self._at[row]} of the {len(self._actions[row])} that lead "
                "to its middle: the game does not repeat itself after a reset with the same seed"
            )


def act_of(policy: Policy, deterministic: bool = False) -> Act:
    """A policy's `act`, with deterministic=True if that is asked for."""
    if not deterministic:
        return policy.act
    act: Any = policy.act
    if "deterministic" not in inspect.signature(act).parameters:
        raise ValueError(f"deterministic=True is for agents: act of a {type(policy).__name__} has no such argument")
    return partial(act, deterministic=True)

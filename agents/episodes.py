"""The loop that plays whole episodes in parallel envs.

Letters: n parallel envs, N episodes.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv

from worldmodel.agents.policy import Policy
from worldmodel.progress import progress

Watch = Callable[[np.ndarray, np.ndarray, np.ndarray], None]  # (episodes, env rewards, terminations) of one step


class Played(NamedTuple):
    """Results of episodes, (N,) each."""

    returns: np.ndarray  # in the game's native reward if the infos have it, else in the env's
    env_returns: np.ndarray  # in the env's reward
    lengths: np.ndarray  # steps


def play_episodes(
    envs: VectorEnv,
    policies: Policy | Sequence[Policy],
    seeds: Sequence[int],
    *,
    policy_seeds: Sequence[int] | None = None,
    leads: Sequence[np.ndarray] | None = None,
    most_steps: int | None = None,
    watch: Watch | None = None,
    about: str = "play",
) -> Played:
    """Play N episodes and sum their rewards.

    Args:
        envs: must support resets of single rows by ``options["reset_mask"]``.
        policies: one for all episodes, or one for each; the same object may play several, but different ones must not
            share state, since each acts at every step.
        seeds: episode i is reset with seeds[i].
        policy_seeds: episode i's policy draws from policy_seeds[i]; None: from seeds[i].
        leads: actions with which each episode begins, whichever policy plays; only the steps after them are counted.
        most_steps: an episode is abandoned after this many counted steps. None: every episode is played to its end.
        watch: called after every step with the results of the episodes whose step was counted.
        about: label of the progress bar.
    """
    total = len(seeds)
    count = min(envs.num_envs, total)
    lead = _Lead(envs.num_envs, leads)
    if isinstance(policies, Policy):
        policies = [policies] * total
    seats = _Seats(policies, seeds if policy_seeds is None else policy_seeds, envs.num_envs)
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
                # The other rows continue; their seeds are ignored.
                observations, infos = envs.reset(seed=[int(seeds[i]) for i in episode_of], options={"reset_mask": mask})
                begin(again, infos)
    return Played(returns, env_returns, lengths)


class _Seats:
    """Assigns policies to rows. Each policy sees all rows, but its actions count only in its own."""

    def __init__(self, policies: Sequence[Policy], seeds: Sequence[int], rows: int) -> None:
        self._policies, self._seeds = policies, np.asarray(seeds)
        self._in_row = [policies[0]] * rows
        for policy in dict.fromkeys(policies):
            policy.reset()

    def begin(self, rows: np.ndarray, episodes: np.ndarray) -> None:
        """Play episodes[i] in rows[i] from now on."""
        for policy in dict.fromkeys(self._policies[episode] for episode in episodes):
            own = np.array([self._policies[episode] is policy for episode in episodes])
            for row in rows[own]:
                self._in_row[row] = policy
            policy.reset(rows[own])
            policy.seed_rows(rows[own], self._seeds[episodes[own]].tolist())

    def act(self, observations: np.ndarray) -> np.ndarray:
        first, *others = dict.fromkeys(self._in_row)
        actions = np.array(first.act(observations))
        for policy in others:
            own = np.array([each is policy for each in self._in_row])
            actions[own] = policy.act(observations)[own]
        return actions

    def inform(self, infos: dict[str, Any]) -> None:
        for policy in dict.fromkeys(self._in_row):
            policy.inform(infos)


class _Lead:
    """Replaces the policies' actions in rows whose episodes are still in their lead."""

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
        """The actions, replaced in rows still in their lead, and a mask of the other rows, (n,) bool."""
        left = np.array([len(lead) for lead in self._actions]) - self._at
        actions = np.array(actions)
        for row in np.flatnonzero(left > 0):
            actions[row] = self._actions[row][self._at[row]]
        self._at += left > 0
        self._over = left == 1
        return actions, left <= 0

    def over(self) -> np.ndarray:
        """Rows whose lead ended with the last step, (n,) bool."""
        return self._over

    def check(self, ended: np.ndarray, episode_of: np.ndarray) -> None:
        if ended.any():
            row = int(np.flatnonzero(ended)[0])
            raise ValueError(
                f"episode {episode_of[row]} ended in step {self._at[row]} of the {len(self._actions[row])} that lead "
                "to its middle: the game is not reproducible after a reset with the same seed"
            )

"""Play the same policies from the same states in the game and in the dream.

Letters: P policies, K openings.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv

from worldmodel.agents.episodes import play_episodes
from worldmodel.agents.evaluate import make_envs
from worldmodel.envs.wrappers import DreamViewVector
from worldmodel.model import WorldModel
from worldmodel.training.dream_vs_real.game_starts import Contexts, Openings
from worldmodel.training.dream_vs_real.other_world import OtherRows, OtherWorld
from worldmodel.training.dream_vs_real.policies import Player
from worldmodel.training.dream_vs_real.rows import DreamRows

_GAMES = 10  # real games at once, in threads
_DREAMS = 64  # rows of one batch


class Trace:
    """Rewards and terminations of episodes step by step; a `watch` for `play_episodes`."""

    def __init__(self, episodes: int) -> None:
        self.rewards: list[list[float]] = [[] for _ in range(episodes)]
        self.terminated = np.zeros(episodes, bool)

    def __call__(self, episodes: np.ndarray, rewards: np.ndarray, terminations: np.ndarray) -> None:
        for episode, reward in zip(episodes, rewards, strict=True):
            self.rewards[episode].append(float(reward))
        self.terminated[episodes] = terminations

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each episode."""
        return np.array([len(rewards) for rewards in self.rewards])

    def split(self, count: int) -> list["Trace"]:
        """The traces of `count` episodes each, one after the other."""
        parts = []
        for first in range(0, len(self.rewards), count):
            part = Trace(count)
            part.rewards = self.rewards[first : first + count]
            part.terminated = self.terminated[first : first + count]
            parts.append(part)
        return parts


class RealPlay(NamedTuple):
    """A policy's K episodes in the game."""

    trace: Trace
    returns: np.ndarray  # (K,) in the game's native reward, including steps beyond the horizon


class Match(NamedTuple):
    """The episodes of P policies from one kind of openings."""

    real: list[RealPlay]
    dream: list[Trace]
    limits: np.ndarray  # (K,) steps after which an episode is cut in both worlds
    clock: int | None  # time limit of the game in steps of a whole episode; None: unknown


def play_real(
    wm: WorldModel | OtherWorld,
    env_id: str,
    players: Sequence[Player],
    openings: Openings,
    most_steps: int | None = None,
) -> list[RealPlay]:
    """Play every policy from every opening in the game, to the end or for `most_steps` steps."""
    count = len(openings.seeds)
    games = make_envs(env_id, min(_GAMES, count), {})
    views: list[VectorEnv] = []  # kept alive: a view closes the games when it is deleted
    found: dict[str, RealPlay] = {}
    try:
        for group in _groups(players):
            assert isinstance(wm, WorldModel) or group[0].sees == "nothing", "other worlds are for blind policies"
            view = group[0].view(wm)
            views.append(games if view is None else DreamViewVector(games, *view))
            trace = Trace(len(group) * count)
            returns = play_episodes(
                views[-1],
                [player.policy for player in group for _ in range(count)],
                openings.seeds * len(group),
                leads=openings.leads * len(group),
                most_steps=most_steps,
                watch=trace,
                about=f"play {env_id}",
            ).returns.reshape(-1, count)
            plays = map(RealPlay, trace.split(count), returns)
            found |= zip((player.name for player in group), plays, strict=True)
    finally:
        games.close()
    return [found[player.name] for player in players]


def _groups(players: Sequence[Player]) -> list[list[Player]]:
    """The policies that play side by side: all blind ones together, then each of the others with its own view."""
    blind = [player for player in players if player.sees == "nothing"]
    return [group for group in (blind, *([player] for player in players if player.sees != "nothing")) if group]


def play_dream(
    world: WorldModel | OtherWorld,
    players: Sequence[Player],
    openings: Openings,
    limits: np.ndarray,
    seed: int,
    temperature: float = 1.0,
) -> list[Trace]:
    """Play every policy from every opening in the dream, to the end or for limits[k] steps, (K,)."""
    count = len(openings.seeds)
    if isinstance(openings.starts, Contexts):
        assert not isinstance(world, WorldModel), "a WorldModel dreams from codes"
        return _play_other(world, players, openings, openings.starts, limits, seed)
    assert isinstance(world, WorldModel), "other worlds dream from frames"
    found: dict[str, Trace] = {}
    for group in _groups(players):
        total = len(group) * count
        trace = Trace(total)
        play_episodes(
            DreamRows(min(_DREAMS, total), world, openings.starts, limits, seed, group[0].obs, temperature),
            [player.policy for player in group for _ in range(count)],
            [*range(count)] * len(group),
            policy_seeds=openings.seeds * len(group),
            watch=trace,
            about="dream",
        )
        found |= zip((player.name for player in group), trace.split(count), strict=True)
    return [found[player.name] for player in players]


def _play_other(
    world: OtherWorld, players: Sequence[Player], openings: Openings, contexts: Contexts, limits: np.ndarray, seed: int
) -> list[Trace]:
    """Blind policies in the dreams of another project's world, a batch after the other."""
    count = len(openings.seeds)
    pairs = [(player, k) for player in players for k in range(count)]
    trace = Trace(len(pairs))
    for first in range(0, len(pairs), _DREAMS):
        batch = pairs[first : first + _DREAMS]
        places = [k for _, k in batch]
        part = Trace(len(batch))
        play_episodes(
            OtherRows(world, contexts, places, limits[places], seed),
            [player.policy for player, _ in batch],
            [*range(len(batch))],
            policy_seeds=[openings.seeds[k] for k in places],
            watch=part,
            about="dream",
        )
        trace.rewards[first : first + len(batch)] = part.rewards
        trace.terminated[first : first + len(batch)] = part.terminated
    return trace.split(count)


def play_both(
    wm: WorldModel | OtherWorld,
    env_id: str,
    players: Sequence[Player],
    openings: Mapping[str, Openings],
    *,
    horizon: int,
    seed: int,
    temperature: float = 1.0,
    whole: Sequence[str] = (),
) -> dict[str, Match]:
    """Play every policy from every kind of openings in the game and in the dream, truncated alike.

    Args:
        openings: of each kind by its name.
        horizon: steps after which episodes are truncated, or earlier at the game's time limit.
        seed: of the dreams.
        whole: kinds whose real episodes are played to their end regardless.
    """
    real = {
        kind: play_real(wm, env_id, players, each, None if kind in whole else horizon)
        for kind, each in openings.items()
    }
    clock = _clock([(openings[kind], play, kind in whole) for kind, plays in real.items() for play in plays], horizon)
    matches = {}
    for kind, each in openings.items():
        most = np.full(len(each.seeds), horizon)
        limits = most if clock is None else np.minimum(most, clock - each.elapsed)
        dream = play_dream(wm, players, each, limits, seed, temperature)
        matches[kind] = Match(real[kind], dream, limits, clock)
    return matches


def _clock(played: Sequence[tuple[Openings, RealPlay, bool]], horizon: int) -> int | None:
    """The game's time limit in steps as seen in the episodes; None if none was seen.

    It was seen if episodes ended without termination, all after the same number of steps from their reset, and no
    other episode was longer.
    """
    totals, timed_out = [], []
    for openings, real, whole in played:
        lengths = real.trace.lengths
        total = lengths + openings.elapsed
        ran_out = ~real.trace.terminated & (whole | (lengths < horizon))
        totals += total.tolist()
        timed_out += total[ran_out].tolist()
    return timed_out[0] if timed_out and min(timed_out) == max(totals) else None

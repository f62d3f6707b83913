"""The best of a small family of blind policies: the baseline that every agent with eyes should beat.

A first screening plays every constant action, held random play, and cycles of two actions. Around the best of these the
search then tries other lengths and third actions, and the last few play on until one is chosen. Whoever reports the
winner judges it on other seeds: on those of the search it was lucky.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, islice, product
from statistics import fmean
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from worldmodel.agents.blind.policies import scripted_policy
from worldmodel.agents.episodes import OneEach, play_episodes
from worldmodel.agents.evaluate import make_envs
from worldmodel.data import ActionSpec
from worldmodel.envs.spaces import named_actions

SEED = 510_000  # of the search's first episode, apart from those on which players are judged
LENGTHS = (1, 2, 4, 8, 12, 16, 20, 24, 32, 48)  # steps of one action in a cycle
_SHAPES = ((8, 8), (32, 8), (8, 32), (2, 2), (32, 32), (16, 16), (8, 2), (2, 8), (4, 4))  # of the first cycles
_RANDOM = ("random", "sticky", "hold:0.5", "hold:0.9", "hold:0.97")
_MOST_CONSTANTS = 12
_SCREENED = 30  # policies at most
_NOTCHES = (2, 1, 1)  # how far lengths move along the list in each round of refinement
_REFINED = 10  # new policies of a round at most
_MOST_TURNS = 3  # actions of a cycle


@dataclass(frozen=True, slots=True)
class Tried:
    """A policy and its returns in the search, in the game's native reward where the env tells it."""

    policy: str
    returns: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.returns)


@dataclass(frozen=True, slots=True)
class BlindSearch:
    """What a search tried, in the order of the means, and the policy that it chose."""

    best: str
    tried: tuple[Tried, ...]
    steps: int  # decisions of all its episodes

    @property
    def episodes(self) -> int:
        """How many were played, by all policies together."""
        return sum(len(tried.returns) for tried in self.tried)


def search_blind(
    env_id: str, episodes: int = 40, seed: int = SEED, *, num_envs: int = 10, **env_kwargs: Any
) -> BlindSearch:
    """Search the blind policy with the highest mean return.

    No more than 60 policies are tried, a quarter of `episodes` each at first. The result does not depend on `num_envs`.

    Args:
        env_id: of a real game or of a dream.
        episodes: that each of the last four policies plays, 8 at least.
        seed: of the first episode of each policy; the next ones have the next numbers.
        num_envs: how many play side by side at most.
        env_kwargs: for the env, e.g. horizon=100, which a dream needs.
    """
    if episodes < 8:
        raise ValueError(f"a search needs at least 8 episodes, got {episodes}")
    envs = make_envs(env_id, num_envs, env_kwargs)
    try:
        return _search(_Field(envs, seed), episodes)
    finally:
        envs.close()


class _Field:
    """The policies of a search and what they have reached so far."""

    def __init__(self, envs: VectorEnv, seed: int) -> None:
        self._envs, self._seed = envs, seed
        self.spec = named_actions(envs)
        self.returns: dict[str, list[float]] = {}
        self.steps = 0

    def leaders(self, count: int | None = None) -> list[str]:
        """The policies with the highest means, best first; of equal ones, the one that was tried first."""
        return sorted(self.returns, key=lambda name: -fmean(self.returns[name]))[:count]

    def play(self, names: Sequence[str], episodes: int) -> None:
        """Let each policy play until it has so many episodes; all of them in one go."""
        turns = [(name, k) for name in names for k in range(len(self.returns.get(name, ())), episodes)]
        if not turns:
            return
        seeds = [self._seed + k for _, k in turns]
        seats = OneEach(lambda i: scripted_policy(turns[i][0], self.spec, 1, seeds[i]))
        played = play_episodes(self._envs, seats, seeds, about=f"{len(names)} blind policies")
        for (name, _), reached in zip(turns, played.returns.tolist(), strict=True):
            self.returns.setdefault(name, []).append(reached)
        self.steps += int(played.lengths.sum())


def _search(field: _Field, episodes: int) -> BlindSearch:
    screen = episodes // 4
    field.play(screened(field.spec), screen)
    for notches in _NOTCHES:
        field.play(field.leaders(4), 2 * screen)
        constants = [name for name in field.leaders() if name.startswith("constant:")]
        actions = [name.partition(":")[2] for name in constants] if field.spec.kind == "discrete" else []
        moves = chain.from_iterable(around(parent, actions, notches) for parent in field.leaders(2))
        new = dict.fromkeys(name for name in moves if name not in field.returns)
        field.play(list(new)[:_REFINED], screen)
    field.play(field.leaders(8), 2 * screen)
    field.play(field.leaders(4), episodes)
    best = next(name for name in field.leaders() if len(field.returns[name]) == episodes)
    tried = tuple(Tried(name, tuple(field.returns[name])) for name in field.leaders())
    return BlindSearch(best, tried, field.steps)


# --- which policies --------------------------------------------------------------------------------------------------


def screened(spec: ActionSpec) -> list[str]:
    """The policies that a search begins with."""
    if spec.kind == "box":
        constants = [f"constant:{','.join(f'{number:g}' for number in action)}" for action in _of_box(spec)]
        return [*constants[: _SCREENED - len(_RANDOM)], *_RANDOM]
    rng = np.random.default_rng(0)  # of many actions and pairs some are drawn, always the same ones
    actions = sorted(rng.permutation(spec.n)[:_MOST_CONSTANTS].tolist())
    words = [_word(action, spec) for action in actions]
    pairs = list(combinations(words, 2))
    room = _SCREENED - len(words) - len(_RANDOM)
    if len(pairs) > room:
        pairs = [pairs[i] for i in sorted(rng.permutation(len(pairs))[:room])]
    shapes = _SHAPES[: room // len(pairs)] if pairs else ()
    cycles = [cycle_of(list(zip(pair, shape, strict=True))) for pair, shape in product(pairs, shapes)]
    return [*(f"constant:{word}" for word in words), *_RANDOM, *cycles]


def around(policy: str, actions: Sequence[str], notches: int) -> Iterator[str]:
    """Policies that differ a little from one: other lengths, one action more, another probability to repeat.

    Args:
        policy: whose neighbours are wanted.
        actions: those that a cycle may have, in the order in which they are tried as a further one.
        notches: how far lengths move along the list.
    """
    kind, _, rest = policy.partition(":")
    if kind == "hold":
        move = 1.0 - float(rest)
        yield from (f"hold:{1.0 - move * factor:.4g}" for factor in (0.5, 2.0) if move * factor <= 1.0)
        return
    if kind not in ("constant", "cycle") or not actions:
        return
    turns = turns_of(policy)
    short = min(steps for _, steps in turns)
    others = [word for word in actions if word not in dict(turns)] if len(turns) < _MOST_TURNS else []
    longer = [[*turns, (word, short)] for word in others]
    if kind == "constant":
        yield from map(cycle_of, longer)
        return
    up, down = ([(word, _moved(steps, by)) for word, steps in turns] for by in (notches, -notches))
    single = [[*turns[:k], moved[k], *turns[k + 1 :]] for moved in (up, down) for k in range(len(turns))]
    yield from map(cycle_of, [up, down, *longer[:1], *single, *longer[1:]])


def cycle_of(turns: Sequence[tuple[str, int]]) -> str:
    return "cycle:" + ",".join(f"{word}*{steps}" for word, steps in turns)


def turns_of(policy: str) -> list[tuple[str, int]]:
    """The actions of a cycle that this module has named, with their steps; of a constant its action, 8 steps."""
    rest = policy.partition(":")[2]
    words = [part.rpartition("*") if "*" in part else (part, "", "8") for part in rest.split(",")]
    return [(word, int(steps)) for word, _, steps in words]


def _moved(steps: int, notches: int) -> int:
    return LENGTHS[min(max(LENGTHS.index(steps) + notches, 0), len(LENGTHS) - 1)]


def _word(action: int, spec: ActionSpec) -> str:
    """An action's name, or its number where the name would be misread."""
    name = spec.names[action] if spec.names else ""
    return name if name.strip() and name == name.strip() and not set(name) & {",", "*"} else str(action)


def _of_box(spec: ActionSpec) -> Iterator[tuple[float, ...]]:
    """Constant actions of a box: doing nothing, two corners, each number alone at its ends, and further corners."""
    still = tuple(min(max(0.0, low), high) for low, high in zip(spec.low, spec.high, strict=True))
    ends = list(zip(spec.low, spec.high, strict=True))
    alone = ((*still[:k], end, *still[k + 1 :]) for k in range(spec.n) for end in ends[k])
    yield from dict.fromkeys((still, spec.low, spec.high, *alone, *islice(product(*ends), _SCREENED)))


__all__ = ["LENGTHS", "SEED", "BlindSearch", "Tried", "around", "screened", "search_blind"]

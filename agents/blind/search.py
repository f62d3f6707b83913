"""Search for the best of a small family of blind policies: the baseline that every agent with observations should beat.

A first screening plays constant actions, held random actions, and cycles of two actions. The search then tries other
lengths and third actions around the best of these, and the last few play more episodes until one is chosen. Evaluate
the winner on other seeds before you report it: the mean that selected it is biased upwards.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, islice, product
from statistics import fmean
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from worldmodel.agents.blind.policies import action_word, scripted_policy
from worldmodel.agents.episodes import play_episodes
from worldmodel.agents.evaluate import make_envs
from worldmodel.data import ActionSpec
from worldmodel.envs.actions import named_actions

SEED = 510_000  # of the search's first episode; differs from the seeds on which players are evaluated
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
    """A policy and its returns in the search, in the game's native reward if the infos have it."""

    policy: str
    returns: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.returns)


@dataclass(frozen=True, slots=True)
class BlindSearch:
    """The policies that a search tried, highest mean first, and the chosen one."""

    best: str
    tried: tuple[Tried, ...]
    steps: int  # env steps of all its episodes

    @property
    def episodes(self) -> int:
        """Total number of episodes played by all policies."""
        return sum(len(tried.returns) for tried in self.tried)


def search_blind(
    env_id: str, episodes: int = 40, seed: int = SEED, *, num_envs: int = 10, **env_kwargs: Any
) -> BlindSearch:
    """Search for the blind policy with the highest mean return.

    At most 60 policies are tried, at first for a quarter of `episodes` each. The result does not depend on `num_envs`.

    Args:
        env_id: of a real game or of a dream.
        episodes: played by each of the last four policies, at least 8.
        seed: of each policy's first episode; later ones use the following integers.
        num_envs: maximum number of parallel envs.
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
    """The policies of a search and their returns so far."""

    def __init__(self, envs: VectorEnv, seed: int) -> None:
        self._envs, self._seed = envs, seed
        self.spec = named_actions(envs)
        self.returns: dict[str, list[float]] = {}
        self.steps = 0

    def leaders(self, count: int | None = None) -> list[str]:
        """The policies with the highest means, best first; ties in the order in which they were tried."""
        return sorted(self.returns, key=lambda name: -fmean(self.returns[name]))[:count]

    def play(self, names: Sequence[str], episodes: int) -> None:
        """Let each policy play until it has this many episodes, all policies in parallel."""
        turns = [(name, k) for name in names for k in range(len(self.returns.get(name, ())), episodes)]
        if not turns:
            return
        seeds = [self._seed + k for _, k in turns]
        policies = {name: scripted_policy(name, self.spec) for name in names}
        in_turn = [policies[name] for name, _ in turns]
        played = play_episodes(self._envs, in_turn, seeds, about=f"{len(names)} blind policies")
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
    """The policies with which a search begins."""
    if spec.kind == "box":
        constants = [f"constant:{','.join(f'{number:g}' for number in action)}" for action in _of_box(spec)]
        return [*constants[: _SCREENED - len(_RANDOM)], *_RANDOM]
    rng = np.random.default_rng(0)  # always selects the same if there are many actions or pairs
    actions = sorted(rng.permutation(spec.n)[:_MOST_CONSTANTS].tolist())
    words = [action_word(action, spec) for action in actions]
    pairs = list(combinations(words, 2))
    room = _SCREENED - len(words) - len(_RANDOM)
    if len(pairs) > room:
        pairs = [pairs[i] for i in sorted(rng.permutation(len(pairs))[:room])]
    shapes = _SHAPES[: room // len(pairs)] if pairs else ()
    cycles = [cycle_of(list(zip(pair, shape, strict=True))) for pair, shape in product(pairs, shapes)]
    return [*(f"constant:{word}" for word in words), *_RANDOM, *cycles]


def around(policy: str, actions: Sequence[str], notches: int) -> Iterator[str]:
    """Policies close to a given one: other lengths, one more action, another probability of repeating.

    Args:
        policy: the given one.
        actions: allowed in a cycle, in the order in which they are tried as an additional one.
        notches: how far lengths move along `LENGTHS`.
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
    """The actions and steps of a cycle named by this module; for a constant its action, with 8 steps."""
    rest = policy.partition(":")[2]
    words = [part.rpartition("*") if "*" in part else (part, "", "8") for part in rest.split(",")]
    return [(word, int(steps)) for word, _, steps in words]


def _moved(steps: int, notches: int) -> int:
    return LENGTHS[min(max(LENGTHS.index(steps) + notches, 0), len(LENGTHS) - 1)]


def _of_box(spec: ActionSpec) -> Iterator[tuple[float, ...]]:
    """Constant actions of a box: zero, two corners, each dimension alone at its bounds, and further corners."""
    still = tuple(min(max(0.0, low), high) for low, high in zip(spec.low, spec.high, strict=True))
    ends = list(zip(spec.low, spec.high, strict=True))
    alone = ((*still[:k], end, *still[k + 1 :]) for k in range(spec.n) for end in ends[k])
    yield from dict.fromkeys((still, spec.low, spec.high, *alone, *islice(product(*ends), _SCREENED)))


__all__ = ["LENGTHS", "SEED", "BlindSearch", "Tried", "around", "screened", "search_blind"]

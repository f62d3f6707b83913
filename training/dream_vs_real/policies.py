"""The policies that a dream is judged with: agents, random play, and both with noise on top, good and bad ones.

Letters: n envs.
"""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from worldmodel.agents.blind.family import blind_family
from worldmodel.agents.blind.policies import scripted_policy
from worldmodel.agents.episodes import PolicyFactory
from worldmodel.agents.evaluate import View
from worldmodel.agents.sb3.agent import check_fits, load_agent
from worldmodel.agents.scripted import Policy, RandomPolicy, SeededNoise, StickyPolicy
from worldmodel.data import ActionSpec
from worldmodel.model import WorldModel


class Player(NamedTuple):
    """A policy and what it looks at."""

    name: str
    policy: Policy | PolicyFactory
    obs: str  # of the dream, as in DreamVectorEnv
    sees: str  # of the real game: "dream" (as the dream would show it), "frames" (its own), "nothing"

    def view(self, wm: WorldModel) -> View | None:
        """The `view` of `evaluate` in the real game."""
        return (wm, self.obs) if self.sees == "dream" else None


def make_players(
    wm: WorldModel, agents: Sequence[str | os.PathLike], epsilons: Sequence[float], policies: Sequence[str] = ()
) -> list[Player]:
    """The policies of a report: every agent, sticky play, each of these also with every share of noise; blind ones.

    Args:
        wm: the dream; every agent must be able to look at it and to act in it.
        agents: folders of saved agents.
        epsilons: shares of random actions, in (0, 1).
        policies: names of the blind ones (`worldmodel.agents.blind`) beside sticky and random play; none: a family for
            the game's actions (`blind_family`).
    """
    for epsilon in epsilons:
        if not 0.0 < epsilon < 1.0:
            raise ValueError(
                f"epsilons must be between 0 and 1, got {epsilon}; every policy is played without noise, and random "
                "play is among them, anyway"
            )
    given: dict[str, list[Any]] = {
        "agents": [str(agent) for agent in agents],
        "epsilons": list(epsilons),
        "policies": list(policies),
    }
    for name, each in given.items():
        if len(set(each)) < len(each):
            raise ValueError(f"{name} are given twice: {', '.join(map(str, each))}; each policy counts once")
    players = []
    for folder in agents:
        agent = load_agent(folder)
        check_fits(agent, str(folder), wm)
        obs, sees = ("rgb", "frames") if agent.meta.view == "real" else (agent.meta.view, "dream")
        players.append(Player(str(folder), agent, obs, sees))
        players += [
            Player(_noisy(str(folder), e), SeededNoise(agent, e, wm.config.action.held), obs, sees) for e in epsilons
        ]
    # Blind policies are given codes, which cost the dream nothing.
    players.append(Player("sticky", _sticky(wm.config.action.held, 0.0), "codes", "nothing"))
    players += [Player(_noisy("sticky", e), _sticky(wm.config.action.held, e), "codes", "nothing") for e in epsilons]
    return [*players, Player("random", RandomPolicy, "codes", "nothing"), *_blind(wm.config.action.held, policies)]


def blind_players(wm: WorldModel, policies: Sequence[str] = ()) -> list[Player]:
    """Sticky play, random play and the other blind policies, as in `make_players`: those that need no agent."""
    return make_players(wm, (), (), policies)


def _blind(action: ActionSpec, policies: Sequence[str]) -> list[Player]:
    def make(name: str) -> PolicyFactory:
        scripted_policy(name, action)  # one that is not known says so now
        return lambda _, num_envs, seed: scripted_policy(name, action, num_envs, seed)

    names = [name for name in policies or blind_family(action) if name not in ("sticky", "random")]
    return [Player(name, make(name), "codes", "nothing") for name in names]


def _noisy(name: str, epsilon: float) -> str:
    return f"{name}, {epsilon:.0%} random"


def _sticky(action: ActionSpec, epsilon: float) -> PolicyFactory:
    """Sticky play as `collect` does it: the model knows the names of the actions, the env's space does not."""

    def make(_: ActionSpec, num_envs: int, seed: int) -> Policy:
        policy = SeededNoise(StickyPolicy(action, num_envs, seed), epsilon, action)
        policy.seed_rows(range(num_envs), [seed] * num_envs)
        return policy

    return make

"""The policies of a report on a dream: agents, scripted policies, and some of both with random noise."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from worldmodel.agents.blind.family import blind_family
from worldmodel.agents.blind.policies import FORMS, is_scripted, scripted_policy
from worldmodel.agents.evaluate import View
from worldmodel.agents.policy import Policy
from worldmodel.agents.sb3.agent import check_fits, load_agent
from worldmodel.agents.scripted import EpsilonPolicy
from worldmodel.data import ActionSpec
from worldmodel.model import WorldModel


class Player(NamedTuple):
    """A policy and what it sees."""

    name: str
    policy: Policy
    obs: str  # of the dream, as in DreamVectorEnv
    sees: str  # of the real game: "dream" (as the dream would show it), "frames" (the game's own), "nothing"

    def view(self, wm: Any) -> View | None:
        """The `view` of `evaluate` in the real game; `wm` is not used for a blind policy."""
        return (wm, self.obs) if self.sees == "dream" else None


def make_players(
    wm: WorldModel,
    agents: Sequence[str | os.PathLike] = (),
    epsilons: Sequence[float] = (),
    policies: Sequence[str] = (),
) -> list[Player]:
    """The policies of a report: every agent and sticky play, each with and without noise, and other blind policies.

    Args:
        wm: the dream; every agent must fit its observations and actions.
        agents: folders of saved agents.
        epsilons: shares of random actions, in (0, 1).
        policies: names of blind policies (`worldmodel.agents.blind`) besides sticky and random play; none: a family
            for the game's actions (`blind_family`).
    """
    _check(agents, epsilons, policies)
    action = wm.config.action.held
    players = []
    for folder in agents:
        player = _agent(folder, wm)
        players += [player, *(_noisy(player, epsilon, action) for epsilon in epsilons)]
    return players + blind_for(action, epsilons, policies)


def blind_for(action: ActionSpec, epsilons: Sequence[float], policies: Sequence[str] = ()) -> list[Player]:
    """The policies of `make_players` that see nothing, for these actions."""
    _check((), epsilons, policies)
    # Blind policies play side by side, so each needs its own object.
    players = [_blind("sticky", action), *(_noisy(_blind("sticky", action), e, action) for e in epsilons)]
    names = [name for name in policies or blind_family(action) if name not in ("sticky", "random")]
    return [*players, *(_blind(name, action) for name in ("random", *names))]


def _check(agents: Sequence[str | os.PathLike], epsilons: Sequence[float], policies: Sequence[str]) -> None:
    for epsilon in epsilons:
        if not 0.0 < epsilon < 1.0:
            raise ValueError(
                f"epsilons must be between 0 and 1, got {epsilon}; every policy is played without noise too, and "
                "random play is always among them"
            )
    given: dict[str, list[Any]] = {
        "agents": [str(agent) for agent in agents],
        "epsilons": list(epsilons),
        "policies": list(policies),
    }
    for name, each in given.items():
        if len(set(each)) < len(each):
            raise ValueError(f"{name} are given twice: {', '.join(map(str, each))}; each policy counts once")


def make_player(wm: WorldModel, name: str | os.PathLike) -> Player:
    """One policy: a blind one by its name, or the agent saved in a folder."""
    if is_scripted(str(name)):
        return _blind(str(name), wm.config.action.held)
    if not Path(name).is_dir():
        raise ValueError(f"a player is a blind policy ({FORMS}) or the folder of a saved agent, got {str(name)!r}")
    return _agent(name, wm)


def _agent(folder: str | os.PathLike, wm: WorldModel) -> Player:
    agent = load_agent(folder)
    check_fits(agent, str(folder), wm)
    obs, sees = ("rgb", "frames") if agent.meta.view == "real" else (agent.meta.view, "dream")
    return Player(str(folder), agent, obs, sees)


def _noisy(player: Player, epsilon: float, action: ActionSpec) -> Player:
    name = f"{player.name}, {100 * epsilon:g}% random"
    return player._replace(name=name, policy=EpsilonPolicy(player.policy, epsilon, action))


def _blind(name: str, action: ActionSpec) -> Player:
    """A scripted policy for the model's actions, whose names the env may not give."""
    return Player(name, scripted_policy(name, action), "codes", "nothing")  # codes cost the dream no decoding

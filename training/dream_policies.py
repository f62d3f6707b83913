"""The policies that a dream is judged with: agents, random play, and both with noise on top, good and bad ones.

Letters: n envs.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from worldmodel import checkpoint
from worldmodel.agents.blind import scripted_policy
from worldmodel.agents.blind_family import blind_family
from worldmodel.agents.episodes import PolicyFactory
from worldmodel.agents.evaluate import View
from worldmodel.agents.sb3_agent import Agent, load_agent
from worldmodel.agents.scripted import Policy, RandomPolicy, StickyPolicy, tell
from worldmodel.checksums import check_sums
from worldmodel.data import ActionSpec
from worldmodel.envs.spaces import check_actions, observation_space
from worldmodel.model import WorldModel
from worldmodel.tensor_files import read_tensors


class Player(NamedTuple):
    """A policy and what it looks at."""

    name: str
    policy: Policy | PolicyFactory
    obs: str  # of the dream, as in DreamVectorEnv
    sees: str  # of the real game: "dream" (as the dream would show it), "frames" (its own), "nothing"

    def view(self, wm: WorldModel) -> View | None:
        """The `view` of `evaluate` in the real game."""
        return (wm, self.obs) if self.sees == "dream" else None


class SeededNoise:
    """Another policy's actions, each replaced by a random one with probability `epsilon`.

    Every env draws from a seed of its own (`seed_rows`), so an episode does not depend on those played beside it.
    """

    def __init__(self, policy: Policy, epsilon: float, action_spec: ActionSpec) -> None:
        self.policy, self.epsilon, self.action_spec = policy, epsilon, action_spec
        self._rows: dict[int, tuple[np.random.Generator, RandomPolicy]] = {}

    def reset(self, rows: np.ndarray | None = None) -> None:
        self.policy.reset(rows)

    def seed_rows(self, rows: Sequence[int] | np.ndarray, seeds: Sequence[int]) -> None:
        """From now on what is drawn in env rows[i], by the other policy too, is decided by seeds[i]."""
        tell(self.policy, "seed_rows", rows, seeds)
        for row, seed in zip(rows, seeds, strict=True):
            coin = np.random.default_rng((int(seed), 1))  # apart from the other policy's own draws
            self._rows[int(row)] = coin, RandomPolicy(self.action_spec, 1, seed=int(coin.integers(2**62)))

    def act(self, observations: np.ndarray) -> np.ndarray:
        actions = np.array(self.policy.act(observations))
        for row in range(len(actions)):
            coin, noise = self._rows[row]
            if coin.random() < self.epsilon:
                actions[row] = noise.act(observations[row : row + 1])[0]
        tell(self.policy, "acted", actions)
        return actions

    def inform(self, infos: Mapping[str, Any]) -> None:
        tell(self.policy, "inform", infos)


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


def check_fits(agent: Agent, name: str, wm: WorldModel) -> None:
    """ValueError for an agent that cannot play this dream, before anything is played."""
    check_actions(agent.action_spec, wm.config.action.held, f"the agent {name}", "the dream")
    obs = "rgb" if agent.meta.view == "real" else agent.meta.view
    shape = observation_space(wm, obs).shape
    if agent.file.observation_shape != shape:
        raise ValueError(
            f"the agent {name} sees {obs} of shape {agent.file.observation_shape}, the dream shows {shape}; give "
            "agents that were trained in this world or on another with the same tokenizer"
        )
    if obs == "rgb":
        return
    theirs = _weights_of_home(agent)
    if not _same(theirs, wm, "tokenizer.codebook.vectors"):
        raise ValueError(
            f"the agent {name} reads the codes of another tokenizer, that of {agent.meta.world_model}, and these mean "
            "something else here; give agents that were trained in this world"
        )
    if obs == "features" and not _same(theirs, wm, "dynamics."):
        raise ValueError(
            f"the agent {name} reads what other dynamics make of the past, those of {agent.meta.world_model}, and this "
            'means something else here; give agents that were trained in this world, or with obs="latent"'
        )


def _weights_of_home(agent: Agent) -> dict[str, torch.Tensor] | None:
    """The weights of the agent's world; None if that is not found any more."""
    try:
        home = checkpoint.resolve(agent.meta.world_model, fetch=False)
    except FileNotFoundError:
        return None
    check_sums(home)
    return read_tensors(home / "model.safetensors")


def _same(theirs: dict[str, torch.Tensor] | None, wm: WorldModel, prefix: str) -> bool:
    """Whether these weights are this world's, but for rounding; where there are none they are believed to be."""
    if theirs is None:
        return True
    theirs = {name: tensor for name, tensor in theirs.items() if name.startswith(prefix)}
    ours = {name: tensor for name, tensor in wm.state_dict().items() if name.startswith(prefix)}
    return theirs.keys() == ours.keys() and all(
        tensor.shape == ours[name].shape
        and torch.allclose(tensor.float(), ours[name].cpu().float(), rtol=1e-2, atol=1e-3)
        for name, tensor in theirs.items()
    )

"""Agents trained with Stable-Baselines3, saved without pickle: save, load, play.

Letters: n envs, H W C one observation, K frames stacked on the channels.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy

from worldmodel import checkpoint
from worldmodel.agents.action_memory import ActionMemory, choices_of, planes_of
from worldmodel.agents.evaluate import View, view_of
from worldmodel.agents.policy import Policy, RowGenerators, Rows
from worldmodel.agents.sb3.config import AgentConfig, AgentFile, AgentMeta, name_and_weights
from worldmodel.agents.sb3.networks import policy_for, policy_parts
from worldmodel.agents.sb3.vec_env import SB3VecEnv
from worldmodel.cards import model_card
from worldmodel.checksums import check_sums
from worldmodel.data import ActionSpec
from worldmodel.envs.actions import check_actions, named_actions
from worldmodel.envs.spaces import observation_space
from worldmodel.layers.defaults import own_defaults
from worldmodel.model import WorldModel
from worldmodel.restoring import restore
from worldmodel.tensor_files import read_tensors


def save_agent(model: PPO, folder: str | os.PathLike, config: AgentConfig, meta: AgentMeta) -> Path:
    """Save the policy: config.json and model.safetensors, without the optimiser's state."""
    file = agent_file(model, config, meta)
    about = f"PPO agent for {meta.env_id or 'an unnamed game'}, view {meta.view}. Load it with load_agent(folder).\n"
    card = model_card("agent", about, game=meta.env_id)
    return checkpoint.save(folder, "agent", file, policy_parts(model.policy), card=card)


@own_defaults
def load_agent(folder: str | os.PathLike, seed: int = 0) -> "Agent":
    """Load a saved agent for play, from its folder or its run folder; `seed` is that of its draws."""
    folder = checkpoint.agent_folder(folder)
    file = checkpoint.load_config(folder, "agent", AgentFile)
    with torch.random.fork_rng():
        policy = restore(folder, lambda: _fresh_policy(file), policy_parts)
    return Agent(policy, file, seed)


def _fresh_policy(file: AgentFile) -> ActorCriticPolicy:
    dtype = np.uint8 if file.pixels else np.float32
    low, high = (0, 255) if file.pixels else (-np.inf, np.inf)
    *grid, depth = file.observation_shape
    depth = (depth + planes_of(file.action, file.training)) * file.training.frame_stack
    shape = (depth, *grid) if file.pixels else (*grid, depth)  # Stable-Baselines3 puts channels first in images
    space = gym.spaces.Box(low, high, shape, dtype)
    policy_class, kwargs = policy_for(space, file.training)
    choices = choices_of(file.action, file.training).to_gym()
    return policy_class(space, choices, lambda _: file.training.learning_rate, **kwargs)


def agent_file(model: PPO, config: AgentConfig, meta: AgentMeta) -> AgentFile:
    """The config.json of a saved agent; includes the names of the actions if the env has them."""
    envs = model.get_env().unwrapped
    observations = envs.observation_space
    return AgentFile(
        observation_shape=observations.shape,
        pixels=observations.dtype == np.uint8,
        action=named_actions(envs.envs if isinstance(envs, SB3VecEnv) else envs),
        training=config,
        meta=meta,
    )


class Agent(Policy):
    """A trained policy with a frame stack and a memory of its last action for each env row.

    If other actions than its own are executed, report them with `acted`. With durations it repeats actions by itself;
    still call `act` at every step.

    Args:
        policy: Stable-Baselines3's.
        file: the saved agent's config.json.
        seed: of its draws; `seed_rows` seeds each row.
    """

    action_spec: ActionSpec

    def __init__(self, policy: ActorCriticPolicy, file: AgentFile, seed: int = 0) -> None:
        self.policy = policy
        self.file = file
        self.action_spec = file.action
        self._generators = RowGenerators(seed)
        self._stack: np.ndarray | None = None  # (n, H, W, K*(C+P))
        self._memory: ActionMemory | None = None

    @classmethod
    def of(
        cls,
        model: PPO,
        config: AgentConfig,
        meta: AgentMeta = AgentMeta(),  # noqa: B008 (frozen)
        seed: int = 0,
    ) -> "Agent":
        """The policy of a model in training; it shares the model's weights."""
        return cls(model.policy, agent_file(model, config, meta), seed)

    @property
    def meta(self) -> AgentMeta:
        return self.file.meta

    @property
    def obs(self) -> Literal["rgb", "latent", "features"]:
        """The `obs` of the dreams in which this agent can play."""
        return "rgb" if self.meta.view == "real" else self.meta.view

    def view(self, world: str | os.PathLike | None = None) -> View | None:
        """The `view` argument of `evaluate` that reproduces this agent's training observations; None: raw frames.

        Args:
            world: where the agent's world model is now; None: where it was in training.
        """
        return view_of(self.meta, world)

    def reset(self, rows: np.ndarray | None = None) -> None:
        if rows is None:
            self._stack = self._memory = None
        elif self._stack is not None:
            self._stack[rows] = 0
            if self._memory is not None:
                self._memory.forget(rows)

    def seed_rows(self, rows: Rows, seeds: Sequence[int]) -> None:
        self._generators.reseed(rows, seeds)

    @own_defaults
    @torch.inference_mode()
    def act(self, observations: np.ndarray, deterministic: bool = False) -> np.ndarray:
        """Choose actions, (n,) int64 or (n, A) float32, for observations (n, H, W, C).

        `deterministic` takes the likeliest action (the mean of a continuous one) instead of sampling.
        """
        shape, dtype = self.file.observation_shape, np.uint8 if self.file.pixels else np.float32
        if observations.shape[1:] != shape or observations.dtype != dtype:
            raise ValueError(
                f"this agent needs {np.dtype(dtype).name} of shape (n, {', '.join(map(str, shape))}), "
                f"got {observations.dtype} {observations.shape}"
            )
        count, training = len(observations), self.file.training
        depth = shape[-1] + planes_of(self.action_spec, training)
        if self._stack is None:
            self._stack = np.zeros((count, *shape[:-1], depth * training.frame_stack), dtype)
            self._memory = ActionMemory(self.action_spec, training, count) if training.shows_actions else None
        if len(self._stack) != count:
            raise ValueError(f"this agent plays {len(self._stack)} envs, got {count} observations; call reset() first")
        if self._memory is not None:
            observations = self._memory.show(observations)
        self._stack = np.concatenate([self._stack[..., depth:], observations], axis=-1)
        chosen = self._choose(deterministic)
        return chosen if self._memory is None else self._memory.take(chosen)

    def acted(self, actions: np.ndarray) -> None:
        if self._memory is not None:
            self._memory.acted(actions)

    def _choose(self, deterministic: bool) -> np.ndarray:
        """Actions for the stacked frames, or with durations indices of pairs."""
        assert self._stack is not None
        seen = np.moveaxis(self._stack, -1, 1) if self.file.pixels else self._stack
        self.policy.set_training_mode(False)
        distribution = self.policy.get_distribution(torch.from_numpy(np.ascontiguousarray(seen)).to(self.policy.device))
        if isinstance(distribution, CategoricalDistribution):
            odds = distribution.distribution.probs.cpu().numpy().astype(np.float64)
            return odds.argmax(-1) if deterministic else self._generators.choose(odds)
        actions = distribution.distribution.mean.cpu().numpy()
        if not deterministic:
            actions = self._generators.normal(actions, distribution.distribution.stddev.cpu().numpy())
        spec = self.action_spec
        return np.clip(actions, spec.low, spec.high).astype(np.float32)


def check_fits(agent: Agent, name: str, wm: WorldModel) -> None:
    """ValueError for an agent that cannot play this dream."""
    check_actions(agent.action_spec, wm.config.action.held, f"the agent {name}", "the dream")
    obs = "rgb" if agent.meta.view == "real" else agent.meta.view
    shape = observation_space(wm, obs).shape
    if agent.file.observation_shape != shape:
        raise ValueError(
            f"the agent {name} needs {obs} of shape {agent.file.observation_shape}, but the dream has {shape}; give "
            "agents that were trained in this world or another one with the same tokenizer"
        )
    if obs == "rgb":
        return
    theirs = _weights_of_home(agent)
    if not all(_same(theirs, wm, f"tokenizer.{name}.vectors") for name in wm.tokenizer.code_vectors):
        raise ValueError(
            f"the agent {name} was trained on codes of another tokenizer, that of {agent.meta.world_model}, which mean "
            "something else here; give agents that were trained in this world"
        )
    if obs == "features" and not any(_same(weights, wm, "dynamics.") for weights in (theirs, *_more_weights(agent))):
        raise ValueError(
            f"the agent {name} was trained on features of other dynamics, those of {agent.meta.world_model}, which "
            'mean something else here; give agents that were trained in this world, or with obs="latent"'
        )


def _weights_of_home(agent: Agent) -> dict[str, torch.Tensor] | None:
    """The weights of the agent's world model; None if it cannot be found."""
    try:
        home = checkpoint.resolve(agent.meta.world_model, fetch=False)
    except FileNotFoundError:
        return None
    check_sums(home)
    return read_tensors(home / "model.safetensors")


def _more_weights(agent: Agent) -> Iterator[dict[str, torch.Tensor]]:
    """The weights of the further worlds in which it was trained, those that are still there and unchanged."""
    for name, weights in (name_and_weights(text) for text in agent.meta.more_worlds):
        try:
            folder = checkpoint.resolve(name, fetch=False)
        except FileNotFoundError:
            continue
        if checkpoint.weights_name(folder) == weights:
            yield read_tensors(folder / "model.safetensors")


def _same(theirs: dict[str, torch.Tensor] | None, wm: WorldModel, prefix: str) -> bool:
    """Whether these weights equal this world's up to rounding; True if they are unknown."""
    if theirs is None:
        return True
    theirs = {name: tensor for name, tensor in theirs.items() if name.startswith(prefix)}
    ours = {name: tensor for name, tensor in wm.state_dict().items() if name.startswith(prefix)}
    return theirs.keys() == ours.keys() and all(
        tensor.shape == ours[name].shape
        and torch.allclose(tensor.float(), ours[name].cpu().float(), rtol=1e-2, atol=1e-3)
        for name, tensor in theirs.items()
    )

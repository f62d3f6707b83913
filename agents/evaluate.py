"""Evaluate a policy: returns over seeded episodes, real or dreamt, with a 95 % interval.

Letters: n parallel envs.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

import worldmodel  # noqa: F401 (registers the env ids)
from worldmodel import checkpoint
from worldmodel.agents.episodes import Watch, play_episodes
from worldmodel.agents.policy import Policy, as_policy
from worldmodel.agents.sb3.config import AgentMeta
from worldmodel.agents.scripted import RandomPolicy
from worldmodel.data import ActionSpec
from worldmodel.envs.actions import check_actions, named_actions
from worldmodel.envs.dream.env import DreamEnv
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.envs.ids import is_dream
from worldmodel.envs.wrappers import DreamViewVector, ThreadVectorEnv
from worldmodel.model import WorldModel
from worldmodel.statistics import mean_with_interval

PolicyMaker = Callable[[ActionSpec], Policy]  # such as RandomPolicy
View = tuple[WorldModel | str | os.PathLike, str]  # model and obs of a DreamView


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Results of episodes; entry i belongs to the episode that was reset with seed + i."""

    env_id: str
    seed: int
    returns: tuple[float, ...]  # in the game's native reward if the infos have it, else in the env's
    env_returns: tuple[float, ...]  # in the env's reward
    lengths: tuple[int, ...]  # steps

    @property
    def mean(self) -> float:
        """Mean native return."""
        return mean_with_interval(self.returns)[0]

    @property
    def half_width(self) -> float:
        """Half width of the mean's 95 % t-interval."""
        return mean_with_interval(self.returns)[1]

    def __str__(self) -> str:
        if len(self.returns) == 1:
            return f"{self.mean:.1f} (1 episode of {self.env_id}, no interval)"
        return f"{self.mean:.1f} ± {self.half_width:.1f} (95 %, {len(self.returns)} episodes of {self.env_id})"


class Comparison(NamedTuple):
    """An agent and random play on the same seeds."""

    agent: Evaluation
    random: Evaluation

    @property
    def gain(self) -> tuple[float, float]:
        """Mean of agent minus random, episode by episode, and the half width of its 95 % interval."""
        return mean_with_interval(np.subtract(self.agent.returns, self.random.returns))


def evaluate(
    policy: Policy | PolicyMaker,
    env_id: str,
    episodes: int,
    seed: int = 0,
    *,
    view: View | None = None,
    num_envs: int = 10,
    watch: Watch | None = None,
    deterministic: bool = False,
    **env_kwargs: Any,
) -> Evaluation:
    """Play whole episodes and sum their rewards.

    Episode i is reset with seed + i, and a policy that can be seeded by row (`Policy.seed_rows`) draws from that seed
    too. The results then do not depend on the number of parallel envs.

    Args:
        policy: a `Policy` or any object with its methods `act` and `reset` (`SB3Policy` wraps a model of
            Stable-Baselines3); or a function that makes one for an `ActionSpec`, such as the class `RandomPolicy`.
        env_id: of a real game or of a dream.
        episodes: how many.
        view: (model, obs): show the real game as this model's dream would.
        num_envs: maximum of n; real games run in threads, a dream as one batch.
        watch: called after every step with the results of the episodes that took part in it, (n,) each.
        deterministic: take the likeliest actions instead of sampling; for agents, whose `act` has this argument.
        env_kwargs: for the env, e.g. horizon=100, which a dream needs.

    Example:
        >>> from worldmodel.agents.evaluate import evaluate
        >>> from worldmodel.agents.scripted import RandomPolicy
        >>> result = evaluate(RandomPolicy, "VideoGenDream-DoomHealthGathering", episodes=2, horizon=5)
        >>> result.lengths
        (5, 5)
    """
    makes = isinstance(policy, type) or (callable(policy) and not hasattr(policy, "act"))
    player = policy if makes else as_policy(policy, deterministic)
    if episodes < 1 or num_envs < 1:
        raise ValueError(f"episodes and num_envs must be at least 1, got {episodes} and {num_envs}")
    envs = make_envs(env_id, min(num_envs, episodes), env_kwargs)
    try:
        if view is not None:
            envs = DreamViewVector(envs, *view)
        return _play(player, envs, env_id, episodes, seed, watch, deterministic)
    finally:
        envs.close()


def compare_with_random(
    policy: Policy | PolicyMaker,
    env_id: str,
    episodes: int,
    seed: int = 0,
    *,
    view: View | None = None,
    deterministic: bool = False,
    **options: Any,
) -> Comparison:
    """Evaluate a policy, and random play on the same seeds; arguments as in `evaluate`."""
    agent = evaluate(policy, env_id, episodes, seed, view=view, deterministic=deterministic, **options)
    return Comparison(agent, evaluate(RandomPolicy, env_id, episodes, seed, **options))  # blind: needs no view


def make_envs(env_id: str, count: int, env_kwargs: dict[str, Any]) -> VectorEnv:
    """Real games in threads, or dreams as one batch."""
    envs: VectorEnv
    if is_dream(env_id):
        envs = gym.make_vec(env_id, num_envs=count, **env_kwargs)
    else:  # other packages' vector envs may not take a seed for each row, as CartPole's
        envs = ThreadVectorEnv(lambda: gym.make(env_id, **env_kwargs), count, autoreset_mode="disabled")
    if _may_never_end(envs):
        envs.close()
        raise ValueError(f"a dream may never end: pass a horizon to evaluate(..., {env_id!r}, ...), e.g. horizon=200")
    return envs


def _may_never_end(envs: VectorEnv) -> bool:
    """Whether these are dreams without a time limit, in one batch or, as a user may register them, one by one."""
    rows = getattr(envs.unwrapped, "envs", None)
    if rows is None:
        return isinstance(envs.unwrapped, DreamVectorEnv) and envs.unwrapped.rules.horizon is None
    dream = rows[0].unwrapped
    unlimited = isinstance(dream, DreamEnv) and dream.rules.horizon is None
    return unlimited and not rows[0].has_wrapper_attr("_max_episode_steps")  # of a TimeLimit


def view_of(meta: AgentMeta, world: str | os.PathLike | None = None) -> View | None:
    """The `view` of an agent whose world model is at `world` (None: where it was in training); None: raw frames."""
    if meta.view == "real":
        if world is not None:
            raise ValueError("this agent was trained on the game's own frames: omit world (--world)")
        return None
    try:
        home = checkpoint.resolve(world or meta.world_model, fetch=world is not None)
        return home, meta.view
    except checkpoint.NotDownloadedError:
        raise
    except FileNotFoundError as error:
        if world is not None:
            raise
        raise FileNotFoundError(
            f"the world model that provides this agent's observations is no longer at {meta.world_model}: put it "
            "back, or for an evaluation pass --world (world=…) with its folder or name"
        ) from error


def _play(
    policy: Policy | PolicyMaker,
    envs: VectorEnv,
    env_id: str,
    episodes: int,
    seed: int,
    watch: Watch | None,
    deterministic: bool,
) -> Evaluation:
    actions = named_actions(envs)
    player = policy if isinstance(policy, Policy) else as_policy(policy(actions), deterministic)
    if player.action_spec is not None:
        check_actions(player.action_spec, actions, "the policy", env_id)
    played = play_episodes(envs, player, [seed + i for i in range(episodes)], watch=watch, about=f"play {env_id}")
    return Evaluation(
        env_id=env_id,
        seed=seed,
        returns=tuple(played.returns.tolist()),
        env_returns=tuple(played.env_returns.tolist()),
        lengths=tuple(played.lengths.tolist()),
    )

"""The workers of a collection: processes that play whole episodes and store each as its own file."""

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from worldmodel.agents.scripted import EpsilonPolicy, Policy, RandomPolicy, StickyPolicy
from worldmodel.data import Episode, EpisodeStorage
from worldmodel.errors import OutsideError

SCRIPTED = {"random": RandomPolicy, "sticky": StickyPolicy}
_STEPS_BETWEEN_CHECKS = 20  # of a worker for the order to stop


class Job(NamedTuple):
    """What every worker is told at its start."""

    env_id: str
    env_kwargs: dict[str, Any]
    out: Path
    policy: str
    epsilon: float
    seed: int


class Played(NamedTuple):
    """A worker's word that an episode is stored."""

    episode_id: int
    num_steps: int
    native_return: float


@contextmanager
def started(job: Job, workers: int) -> Iterator[list[Connection]]:
    """Start the workers; on leaving, break off the episodes in flight and wait for the workers to end."""
    context = get_context("spawn")
    connections, processes = [], []
    try:
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, job), daemon=True)
            process.start()
            theirs.close()
            connections.append(ours)
            processes.append(process)
        yield connections
    finally:
        for connection in connections:
            connection.close()
        for process in processes:
            process.join(timeout=10)
            process.kill()


def receive(connection: Connection) -> Played:
    try:
        message = connection.recv()
    except EOFError:
        raise OutsideError(
            "a collection worker died without a word (out of memory?). What is stored stays; run collect again to go on"
        ) from None
    if isinstance(message, str):
        raise OutsideError(f"a collection worker failed; what is stored stays. It said:{message}")
    return message


def _work(connection: Connection, job: Job) -> None:
    """A worker's life: play the episodes it is told to, until the connection closes."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C in the terminal is for the parent, which closes the connection; the game needs a quiet end
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            env, make_policy = make_player(job)
            store = EpisodeStorage.open(job.out)
            while True:
                episode_id = connection.recv()
                env_seed, policy_seed = seeds_of(job.seed, episode_id)
                episode, native_return = play(env, make_policy(policy_seed), env_seed, connection)
                _check_open(connection)  # after a kill, another collection may already be playing this episode
                store.write_pending(episode, episode_id)
                connection.send(Played(episode_id, episode.num_steps, native_return))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            env.close()
            raise
        except (ValueError, TypeError) as error:  # as everywhere a user's mistake, which its message explains
            connection.send(f" {type(error).__name__}: {error}")
        except Exception:
            connection.send("\n" + traceback.format_exc())


def _check_open(connection: Connection) -> None:
    """EOFError if the parent closed the connection or died; while a worker plays, nothing else is sent to it."""
    if connection.poll():
        raise EOFError


def play(env: gym.Env, policy: Policy, seed: int, connection: Connection) -> tuple[Episode, float]:
    """Play one episode; EOFError if the connection closes meanwhile."""
    observation, info = env.reset(seed=seed)
    frames, signals = [info["frames"]], [info["signals"]]
    actions: list[np.ndarray] = []
    rewards: list[float] = []
    native_return, terminated, truncated = 0.0, False, False
    while not (terminated or truncated):
        if len(actions) % _STEPS_BETWEEN_CHECKS == 0:
            _check_open(connection)
        action = policy.act(observation[None])[0]
        observation, reward, terminated, truncated, info = env.step(action)
        frames.append(info["frames"])
        signals.append(info["signals"])
        actions.append(action)
        rewards.append(float(reward))
        native_return += info["native_reward"]
    episode = Episode(
        frames=np.stack(frames),
        actions=np.array(actions),
        rewards=np.array(rewards, np.float32),
        terminated=bool(terminated),
        truncated=bool(truncated),
        signals=np.stack(signals),
        seed=seed,
    )
    return episode, native_return


def seeds_of(seed: int, episode_id: int) -> tuple[int, int]:
    """Seeds of an episode's env and of its policy."""
    env_seed, policy_seed = np.random.SeedSequence((seed, episode_id)).generate_state(2)
    return int(env_seed), int(policy_seed)


def make_player(job: Job) -> tuple[gym.Env, Callable[[int], Policy]]:
    """The env as the policy sees it, and a function that makes one episode's policy from a seed."""
    env = gym.make(job.env_id, disable_env_checker=True, **job.env_kwargs)
    spec = env.get_wrapper_attr("action_spec")
    if job.policy in SCRIPTED:
        base: Callable[[int], Policy] = partial(SCRIPTED[job.policy], spec, 1)
    else:
        import torch

        from worldmodel.agents.sb3_agent import load_agent

        torch.set_num_threads(1)  # the workers share the cores
        agent = load_agent(job.policy)
        if (view := agent.view()) is not None:
            from worldmodel.envs.wrappers import DreamView

            env = DreamView(env, *view)

        def seeded(seed: int) -> Policy:
            agent.reset()
            agent.seed_rows([0], [seed])
            return agent

        base = seeded

    def make_policy(seed: int) -> Policy:
        policy = base(seed)
        return EpsilonPolicy(policy, job.epsilon, spec, 1, seed) if job.epsilon else policy

    return env, make_policy

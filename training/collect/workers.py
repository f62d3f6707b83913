"""Workers of a collection: playing episodes, and workers as local processes."""

import os
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import connection as mp_connection
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from worldmodel.agents.blind.policies import is_scripted, scripted_policy
from worldmodel.agents.policy import Policy
from worldmodel.agents.scripted import EpsilonPolicy
from worldmodel.data import Episode, EpisodeStorage
from worldmodel.envs.actions import named_actions
from worldmodel.errors import OutsideError

_STEPS_BETWEEN_CHECKS = 20  # after which a worker checks whether it should stop
_SECONDS_TO_END = 10  # for a worker to stop before it is killed


class Job(NamedTuple):
    """Settings that a worker gets when it starts."""

    env_id: str
    env_kwargs: dict[str, Any]
    out: Path
    policy: str
    epsilon: float
    seed: int


class Started(NamedTuple):
    """A worker is ready to play."""


class Played(NamedTuple):
    """An episode is stored."""

    episode_id: int
    num_steps: int
    native_return: float


class Lost(NamedTuple):
    """A worker ended before its work was done."""

    reason: str


News = Started | Played | Lost


class LocalCrew:
    """Workers as processes on this machine; each stores every episode as a file."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._context = get_context("spawn")
        self._workers: dict[int, tuple[SpawnProcess, Connection]] = {}
        self._playing: dict[int, int] = {}
        self._started = 0
        self._failure = ""

    def start(self) -> int:
        """Launch a worker without waiting for it; returns its number."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self._job), daemon=True)
        process.start()
        theirs.close()
        self._started += 1
        self._workers[self._started] = process, ours
        return self._started

    def give(self, worker: int, episode_id: int) -> None:
        """Let an idle worker play an episode."""
        self._playing[worker] = episode_id
        with suppress(BrokenPipeError, ConnectionResetError):  # a dead worker is reported by `news`
            self._workers[worker][1].send(episode_id)

    def news(self, seconds: float) -> list[tuple[int, News]]:
        """Events since the last call; waits up to `seconds` for the first one.

        Raises:
            OutsideError: a worker failed with an exception; raised after the events before it were returned.
        """
        if self._failure:
            raise OutsideError(f"a collection worker failed; stored episodes are kept. Its error:{self._failure}")
        handles = [each for process, connection in self._workers.values() for each in (process.sentinel, connection)]
        ready = mp_connection.wait(handles, seconds)
        found: list[tuple[int, News]] = []
        for worker, (process, connection) in self._workers.items():
            if connection in ready:
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    message = Lost(_end_of(process))
                if isinstance(message, str):
                    self._failure = message
                else:
                    found.append((worker, message))
            elif not process.is_alive() and not connection.poll():
                found.append((worker, Lost(_end_of(process))))
        for worker, news in found:
            if isinstance(news, Played):
                del self._playing[worker]
        return found

    def end(self, worker: int) -> None:
        """Kill a worker and its game immediately; removes an episode that it stored but did not report."""
        process, connection = self._workers.pop(worker)
        connection.close()
        _kill(process)
        if (episode_id := self._playing.pop(worker, None)) is not None:
            store = EpisodeStorage.open(self._job.out)
            store.discard(store.pending_ids & {episode_id})

    def close(self) -> None:
        """Abandon unfinished episodes and wait for the workers to end."""
        for _, connection in self._workers.values():
            connection.close()
        for process, _ in self._workers.values():
            process.join(_SECONDS_TO_END)
            _kill(process)
        self._workers.clear()


def _end_of(process: SpawnProcess) -> str:
    process.join(1)
    code = process.exitcode
    if code is None:
        return "closed its connection"
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"


def _kill(process: SpawnProcess) -> None:
    """Kill a worker and the processes of its game, even if the worker itself has ended."""
    if hasattr(os, "killpg") and process.pid is not None:
        with suppress(ProcessLookupError, PermissionError):  # nothing of it is left
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join(_SECONDS_TO_END)


def _work(connection: Connection, job: Job) -> None:
    """A worker's main function: play the given episodes until the connection closes."""
    if hasattr(os, "setsid"):
        # Its own process group: Ctrl-C in the terminal reaches only the parent, which closes the connection (the game
        # must end cleanly), and the game's processes are killed with the worker.
        os.setsid()
    _keep_handles_from_children()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            player = Player(job)
            store = EpisodeStorage.open(job.out)
            connection.send(Started())
            while True:
                episode_id = connection.recv()
                episode, native_return = player.play(episode_id, partial(_check_open, connection))
                _check_open(connection)  # after a kill, another collection may already be playing this episode
                store.write_pending(episode, episode_id)
                connection.send(Played(episode_id, episode.num_steps, native_return))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            player.env.close()
            raise
        except Exception as error:
            connection.send(Lost(str(error)) if is_game_death(error) else report(error))


def _keep_handles_from_children() -> None:
    """Keep the game's processes from inheriting this worker's connection: the parent would not see it close."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        if os.path.isdir(folder):
            for handle in map(int, os.listdir(folder)):
                with suppress(OSError):  # the handle of the listing itself is already closed
                    if handle > 2:
                        os.set_inheritable(handle, False)
            return


def is_game_death(error: Exception) -> bool:
    """Whether ViZDoom reports that its engine, a separate process, has ended."""
    return type(error).__module__.partition(".")[0] == "vizdoom"


def report(error: Exception) -> str:
    """The error being handled, as the end of a sentence."""
    if isinstance(error, (ValueError, TypeError)):  # a user's mistake, explained by its message
        return f" {type(error).__name__}: {error}"
    return "\n" + traceback.format_exc()


def _check_open(connection: Connection) -> None:
    """Raise EOFError if the parent closed the connection or died; nothing else is sent while a worker plays."""
    if connection.poll():
        raise EOFError


class Player:
    """Plays a job's episodes."""

    def __init__(self, job: Job) -> None:
        self._seed = job.seed
        self.env, self._policy = make_player(job)

    def play(self, episode_id: int, check: Callable[[], None] = lambda: None) -> tuple[Episode, float]:
        """An episode and its native return; `check` is called every few steps and may raise."""
        return play(self.env, self._policy, *seeds_of(self._seed, episode_id), check)


def play(
    env: gym.Env, policy: Policy, seed: int, policy_seed: int, check: Callable[[], None] = lambda: None
) -> tuple[Episode, float]:
    """Play one episode; returns it and its native return."""
    policy.reset()
    policy.seed_rows([0], [policy_seed])
    observation, info = env.reset(seed=seed)
    has_labels = bool(getattr(env.unwrapped, "label_names", ()))
    # Copies, since a game may fill the same arrays at every step.
    frames, signals = [np.array(info["frames"])], [np.array(info["signals"])]
    labels = [np.array(info["labels"])] if has_labels else []
    actions: list[np.ndarray] = []
    rewards: list[float] = []
    native_return, terminated, truncated = 0.0, False, False
    while not (terminated or truncated):
        if len(actions) % _STEPS_BETWEEN_CHECKS == 0:
            check()
        action = policy.act(observation[None])[0]
        observation, reward, terminated, truncated, info = env.step(action)
        frames.append(np.array(info["frames"]))
        signals.append(np.array(info["signals"]))
        if has_labels:
            labels.append(np.array(info["labels"]))
        actions.append(action)
        rewards.append(float(reward))
        native_return += float(info["native_reward"])
    episode = Episode(
        frames=np.stack(frames),
        actions=np.array(actions),
        rewards=np.array(rewards, np.float32),
        terminated=bool(terminated),
        truncated=bool(truncated and not terminated),  # a TimeLimit also truncates what ends at its last step
        signals=np.stack(signals),
        seed=seed,
        labels=np.stack(labels) if has_labels else None,
    )
    return episode, native_return


def seeds_of(seed: int, episode_id: int) -> tuple[int, int]:
    """Seeds of an episode's env and of its policy."""
    env_seed, policy_seed = np.random.SeedSequence((seed, episode_id)).generate_state(2)
    return int(env_seed), int(policy_seed)


def make_player(job: Job) -> tuple[gym.Env, Policy]:
    """The env, with the policy's view of it, and the policy."""
    env = gym.make(job.env_id, disable_env_checker=True, **job.env_kwargs)
    spec = named_actions(env)
    policy: Policy
    if is_scripted(job.policy):
        policy = scripted_policy(job.policy, spec)
    else:
        import torch

        from worldmodel.agents.sb3.agent import load_agent

        torch.set_num_threads(1)  # the workers share the cores
        policy = agent = load_agent(job.policy)
        if (view := agent.view()) is not None:
            from worldmodel.envs.wrappers import DreamView

            env = DreamView(env, *view)
    return env, EpsilonPolicy(policy, job.epsilon, spec) if job.epsilon else policy

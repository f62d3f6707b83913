"""Workers of a collection on the nodes of a Ray cluster: they return whole episodes, which this process stores."""

import os
import signal
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from worldmodel.agents.blind.policies import is_scripted
from worldmodel.data import Episode, EpisodeStorage
from worldmodel.errors import OutsideError
from worldmodel.training.collect.workers import (
    Job,
    Lost,
    News,
    Played,
    Player,
    Started,
    is_game_death,
    report,
)

_SECONDS_TO_END = 10  # for workers to stop before they are killed


class RayCrew:
    """Actors of one CPU each, which need no access to `job.out`; joins a running cluster, or starts one locally.

    A worker waits until a CPU is free for it.
    """

    def __init__(self, job: Job) -> None:
        self._started_ray = not ray.is_initialized()
        if self._started_ray:
            ray.init(log_to_driver=False, logging_level="warning")  # losses are reported by `episodes_of`
        self._store = EpisodeStorage.open(job.out)
        policy = job.policy if is_scripted(job.policy) else str(Path(job.policy).resolve())
        self._job = job._replace(out=Path(), policy=policy)
        self._actor_class = ray.remote(num_cpus=1, max_restarts=0)(_RemotePlayer)
        self._actors: dict[int, Any] = {}
        self._locations: dict[int, tuple[str, int]] = {}  # node and process group of each started worker
        self._asked: dict[Any, tuple[int, int | None]] = {}  # reference of the result -> worker and episode
        self._started = 0
        self._failure = ""

    def start(self) -> int:
        """Launch a worker without waiting for it; returns its number."""
        self._started += 1
        actor = self._actor_class.remote(self._job)
        self._actors[self._started] = actor
        self._asked[actor.begin.remote()] = self._started, None
        return self._started

    def give(self, worker: int, episode_id: int) -> None:
        """Let an idle worker play an episode."""
        self._asked[self._actors[worker].play.remote(episode_id)] = worker, episode_id

    def news(self, seconds: float) -> list[tuple[int, News]]:
        """Events since the last call, whose episodes have been stored; waits up to `seconds` for the first one.

        Raises: OutsideError if a worker failed with an exception, after the events before it were returned.
        """
        if self._failure:
            raise OutsideError(f"a collection worker failed; stored episodes are kept. Its error:{self._failure}")
        ray.wait(list(self._asked), timeout=seconds)
        ready, _ = ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        found: list[tuple[int, News]] = []
        for answer in ready:
            worker, episode_id = self._asked.pop(answer)
            result = self._result(answer, worker)
            if isinstance(result, str):
                self._failure = result
            elif isinstance(result, Lost):
                found.append((worker, result))
            elif episode_id is None:
                self._locations[worker] = result
                found.append((worker, Started()))
            else:
                episode, native_return = result
                self._store.write_pending(episode, episode_id)
                found.append((worker, Played(episode_id, episode.num_steps, native_return)))
        return found

    def _result(self, answer: Any, worker: int) -> Any:
        try:
            return ray.get(answer)
        except RayTaskError as error:
            return f"\n{error}"
        except RayError as error:  # the worker, its node or its result is lost
            self._locations.pop(worker, None)
            text = str(error).strip() or "no reason given"
            return Lost(f"{type(error).__name__}: {text.splitlines()[0]}")

    def end(self, worker: int) -> None:
        """Kill a worker and its game immediately."""
        ray.kill(self._actors.pop(worker), no_restart=True)
        self._asked = {answer: asked for answer, asked in self._asked.items() if asked[0] != worker}
        self._kill_game(worker)

    def _kill_game(self, worker: int) -> None:
        """Kill the game's processes: Ray ends those of a dead worker, but not always those of a stopped one."""
        if (location := self._locations.pop(worker, None)) is not None:
            node, group = location
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            ray.remote(_kill_group).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(group)

    def close(self) -> None:
        """Let games close if their current episodes end soon; end all workers."""
        ended = [self._actors[worker].close.remote() for worker in self._locations]
        if ended:
            ray.wait(ended, num_returns=len(ended), timeout=_SECONDS_TO_END)
        for worker in list(self._actors):
            self.end(worker)
        if self._started_ray:
            ray.shutdown()


class _RemotePlayer:
    """The actor that runs in a worker."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def begin(self) -> tuple[str, int] | str:
        """Prepare to play; returns node and process group, or an error report."""
        if os.getpgid(0) != os.getpid():
            os.setpgid(0, 0)  # the game's processes are killed with the worker
        try:
            self._player = Player(self._job)
        except Exception as error:
            return report(error)
        return ray.get_runtime_context().get_node_id(), os.getpid()

    def play(self, episode_id: int) -> tuple[Episode, float] | Lost | str:
        try:
            return self._player.play(episode_id)
        except Exception as error:
            return Lost(str(error)) if is_game_death(error) else report(error)

    def close(self) -> None:
        self._player.env.close()


def _kill_group(group: int) -> None:
    if os.getpgid(0) != group:
        os.killpg(group, signal.SIGKILL)

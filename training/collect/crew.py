"""Assigns episodes to workers; lost workers are replaced, and their episodes played again."""

import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Protocol

from worldmodel.errors import OutsideError
from worldmodel.training.collect.workers import Lost, News, Played

ATTEMPTS = 3  # per episode; also starts per worker while no episode is finished
_SCRIPT = 'A script that collects with workers needs `if __name__ == "__main__":` around its calls. '
_LONGEST_WAIT = 1.0  # seconds between checks of the deadlines


class Crew(Protocol):
    """A set of numbered workers; implemented by `workers.LocalCrew` and `ray_workers.RayCrew`."""

    def start(self) -> int:
        """Launch a worker without waiting for it; returns its number."""

    def give(self, worker: int, episode_id: int) -> None:
        """Let an idle worker play an episode."""

    def news(self, seconds: float) -> list[tuple[int, News]]:
        """Events since the last call; waits up to `seconds` for the first one."""

    def end(self, worker: int) -> None:
        """Kill a worker and its game immediately."""

    def close(self) -> None:
        """End all workers."""


def episodes_of(
    crew: Crew, workers: int, next_id: Callable[[], int | None], seconds: float, say: Callable[[str], None]
) -> Generator[Played, None, None]:
    """Let a crew play until no episodes are left; yields the episodes as they are stored.

    Args:
        crew: without workers yet; closed at the end.
        workers: number of workers to start.
        next_id: returns the next episode to play, or None if there is none at present.
        seconds: a worker that takes longer to start, or for an episode, is replaced.
        say: called with a sentence for each loss.

    Raises: OutsideError if an episode, or the start of workers, failed `ATTEMPTS` times.
    """
    with closing(crew):
        yield from _Shift(crew, workers, next_id, seconds, say).run()


class _Shift:
    def __init__(
        self, crew: Crew, workers: int, next_id: Callable[[], int | None], seconds: float, say: Callable[[str], None]
    ) -> None:
        self._crew, self._workers, self._next_id, self._seconds, self._say = crew, workers, next_id, seconds, say
        self._idle: list[int] = []
        self._busy: dict[int, int | None] = {}  # worker -> its episode, or None while it starts
        self._deadlines: dict[int, float] = {}
        self._again: list[int] = []  # episodes whose workers were lost
        self._losses: Counter[int | None] = Counter()  # by episode; None: workers lost without an episode

    def run(self) -> Generator[Played, None, None]:
        for _ in range(self._workers):
            self._start()
        while True:
            self._give()
            if not self._busy:
                return
            now = time.monotonic()  # before reading news, so that no worker that has answered counts as late
            for worker, news in self._crew.news(self._wait(now)):
                if isinstance(news, Lost):
                    self._replace(worker, news.reason)
                    continue
                del self._busy[worker], self._deadlines[worker]
                self._idle.append(worker)
                if isinstance(news, Played):
                    self._losses[None] = 0
                    yield news
            for worker in [worker for worker, deadline in self._deadlines.items() if deadline < now]:
                what = "started" if self._busy[worker] is None else "finished"
                self._replace(worker, f"not {what} within {self._seconds:g} s")

    def _start(self) -> None:
        worker = self._crew.start()
        self._busy[worker] = None
        self._deadlines[worker] = time.monotonic() + self._seconds

    def _give(self) -> None:
        while self._idle:
            episode_id = self._again.pop(0) if self._again else self._next_id()
            if episode_id is None:
                return
            worker = self._idle.pop()
            self._crew.give(worker, episode_id)
            self._busy[worker] = episode_id
            self._deadlines[worker] = time.monotonic() + self._seconds

    def _wait(self, now: float) -> float:
        return min(_LONGEST_WAIT, max(0.0, min(self._deadlines.values()) - now))

    def _replace(self, worker: int, reason: str) -> None:
        self._crew.end(worker)
        episode_id = self._busy.pop(worker, None)
        if self._deadlines.pop(worker, None) is None:
            self._idle.remove(worker)
        self._losses[episode_id] += 1
        attempts = ATTEMPTS if episode_id is not None else ATTEMPTS * self._workers
        if self._losses[episode_id] == attempts:
            what, script = f"{attempts} workers were lost without playing", _SCRIPT
            if episode_id is not None:
                what = f"episode {episode_id} was started {attempts} times, and its worker was lost each time"
                script = ""
            raise OutsideError(
                f"{what}; the last one: {reason}. {script}Stored episodes are kept; run collect again to resume"
            )
        then = "starting another one" if episode_id is None else f"playing episode {episode_id} again"
        self._say(f"a collection worker was lost: {reason}; {then}")
        if episode_id is not None:
            self._again.append(episode_id)
        self._start()

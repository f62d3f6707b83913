"""A thread for one game: an OpenGL context, and much else, works only in the thread that made it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

_Answer = SimpleQueue[tuple[Any, BaseException | None]]  # what the function returned, or raised


class OwnThread:
    """Calls functions one after the other in a thread of its own, until `end`.

    A ThreadPoolExecutor may hang if a vector env is collected as garbage while one of its locks is held. The queues
    used here may be put into at any time.
    """

    def __init__(self) -> None:
        self._asked: SimpleQueue[tuple[Callable[[], Any], _Answer] | None] = SimpleQueue()
        threading.Thread(target=_serve, args=(self._asked,), daemon=True).start()

    def call(self, function: Callable[[], Any]) -> Any:
        """What the function returns, or raises."""
        return self.begin(function)()

    def begin(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Start a call; what comes back waits for its end and gives what the function returned, or raises it."""
        answer: _Answer = SimpleQueue()
        self._asked.put((function, answer))

        def result() -> Any:
            returned, error = answer.get()
            if error is not None:
                raise error
            return returned

        return result

    def end(self) -> None:
        """Let the thread end after what it was asked for; waits for nothing."""
        self._asked.put(None)


def _serve(asked: SimpleQueue) -> None:
    while (task := asked.get()) is not None:
        function, answer = task
        try:
            answer.put((function(), None))
        except BaseException as error:  # the caller's own, raised there
            answer.put((None, error))
        del task, function, answer  # or a game that is no longer used would stay until the next call

"""A dedicated thread for one game, since an OpenGL context, among others, works only in the thread that created it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

_Answer = SimpleQueue[tuple[Any, BaseException | None]]  # what the function returned, or raised


class OwnThread:
    """Runs functions one after the other in a dedicated thread, until `end`.

    A ThreadPoolExecutor may hang if a vector env is garbage-collected while one of its locks is held. Putting into the
    queues used here is safe at any time.
    """

    def __init__(self) -> None:
        self._asked: SimpleQueue[tuple[Callable[[], Any], _Answer] | None] = SimpleQueue()
        threading.Thread(target=_serve, args=(self._asked,), daemon=True).start()

    def call(self, function: Callable[[], Any]) -> Any:
        """Run the function and return what it returns, or raise what it raises."""
        return self.begin(function)()

    def begin(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Start a call; the returned function waits for it and returns or raises what the call did."""
        answer: _Answer = SimpleQueue()
        self._asked.put((function, answer))

        def result() -> Any:
            returned, error = answer.get()
            if error is not None:
                raise error
            return returned

        return result

    def end(self) -> None:
        """Let the thread exit once the calls so far are done; does not wait."""
        self._asked.put(None)


def _serve(asked: SimpleQueue) -> None:
    while (task := asked.get()) is not None:
        function, answer = task
        try:
            answer.put((function(), None))
        except BaseException as error:  # raised again in the caller's thread
            answer.put((None, error))
        del task, function, answer  # otherwise a game that is no longer used would be kept until the next call

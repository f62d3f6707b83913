"""Play dreams and real games in a browser: one page, one WebSocket, one step for each message.

The page asks for a step as often as the game makes steps, and says which keys are held; the answer is a line of JSON
and the raw pixels of the step's frames. Needs the extra `play` (websockets).
"""

import asyncio
import json
import logging
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymnasium.error import DependencyNotInstalled

from worldmodel.training.show.play_http import THIS_MACHINE, Http
from worldmodel.training.show.play_session import MessageError, Session
from worldmodel.training.show.scenes import Frames, Scene

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

_logger = logging.getLogger(__name__)

_MOST_PLAYERS = 4  # each has models and games of its own
_IDLE = 60.0  # seconds without a message, after which a player makes room for another
_TRY_AGAIN_LATER = 1013  # a WebSocket's code of closing
_LONGEST_MESSAGE = 4096  # bytes


async def serve(
    scenes: Mapping[str, Callable[[], Scene]],
    out: Path,
    host: str = "127.0.0.1",
    port: int = 8765,
    ready: Callable[[str], None] = lambda address: None,
    allowed_hosts: Collection[str] = (),
) -> None:
    """Serve the page, and to each that opens it a session of its own, until cancelled.

    Args:
        scenes: names, and what opens each.
        out: folder for saved clips.
        host: to listen on; the default is reached from this machine alone.
        port: 0 takes a free one.
        ready: called with the page's address.
        allowed_hosts: further names under which browsers may ask for the page, where `host` is open to other machines.

    Raises:
        OSError: host and port cannot be listened on.
        DependencyNotInstalled: websockets is missing.
    """
    check_websockets()
    from websockets.asyncio.server import serve as websocket_server

    if host not in THIS_MACHINE:
        warnings.warn(
            f"listening on {host}: everyone who can reach this machine can play, and save clips in {out}; there is no "
            "password. To play from another machine alone, leave --host out and forward the port by ssh -L",
            stacklevel=2,
        )
    seats = _Seats()

    async def play(connection: "ServerConnection") -> None:
        if not await seats.take(connection):
            return
        try:
            await _play(connection, Session(scenes, out), seats)
        finally:
            seats.leave(connection)

    respond = Http(host, allowed_hosts).respond
    async with websocket_server(play, host, port, process_request=respond, max_size=_LONGEST_MESSAGE) as server:
        name = f"[{host}]" if ":" in host else host
        ready(f"http://{name}:{server.sockets[0].getsockname()[1]}/")
        await server.serve_forever()


def check_websockets() -> None:
    """DependencyNotInstalled where websockets is missing."""
    try:
        import websockets  # noqa: F401
    except ImportError as error:
        raise DependencyNotInstalled("websockets is missing. Run: pip install 'videogen-dream[play]'") from error


class _Seats:
    """Who is playing, and when each was last heard of: idle players make room for others."""

    def __init__(self) -> None:
        self._heard: dict[ServerConnection, float] = {}

    async def take(self, connection: "ServerConnection") -> bool:
        """Let a player in, in place of one that is idle if need be; else close the connection."""
        if len(self._heard) >= _MOST_PLAYERS:
            longest = min(self._heard, key=self._heard.__getitem__)
            if time.monotonic() - self._heard[longest] < _IDLE:
                await connection.close(_TRY_AGAIN_LATER, f"{_MOST_PLAYERS} are playing already")
                return False
            self.leave(longest)
            longest.transport.abort()  # not awaited: a gone browser would keep the new player waiting
        self._heard[connection] = time.monotonic()
        return True

    def hear(self, connection: "ServerConnection") -> None:
        if connection in self._heard:
            self._heard[connection] = time.monotonic()

    def leave(self, connection: "ServerConnection") -> None:
        self._heard.pop(connection, None)


async def _play(connection: "ServerConnection", session: Session, seats: _Seats) -> None:
    """Answer one player's messages, one after the other, in a thread of the session's own."""
    from websockets.exceptions import ConnectionClosed

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:  # always the same one: torch keeps a pool of workers for each that calls it
        try:
            with suppress(ConnectionClosed):
                async for message in connection:
                    seats.hear(connection)
                    words, frames = await loop.run_in_executor(thread, _answer, session, message)
                    await connection.send(json.dumps(words))
                    if frames is not None:
                        await connection.send(frames.tobytes())
        finally:
            await loop.run_in_executor(thread, session.close)


def _answer(session: Session, message: str | bytes) -> tuple[dict[str, Any], Frames | None]:
    """What the session answers; what is wrong with the message, or with what it asked for, in words."""
    try:
        return session.answer(_read(message))
    except MessageError as error:
        _logger.warning("a message of a player was refused: %s", error)
        return {"error": str(error)}, None
    except Exception as error:  # whatever a game or a model raises: the player reads it, and can go on
        _logger.exception("a message of a player failed: %s", message)
        return {"error": f"{type(error).__name__}: {error}"}, None


def _read(message: str | bytes) -> dict[str, Any]:
    try:
        read = json.loads(message)
    except ValueError as error:
        raise MessageError(f"a message is a JSON object, got {message!r}: {error}") from error
    if not isinstance(read, dict):
        raise MessageError(f"a message is a JSON object, got {read!r}")
    return read

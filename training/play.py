"""Play dreams and real games in a browser: one page, one WebSocket, one step for each message.

The page asks for a step as often as the game makes steps, and says which keys are held; the answer is a line of JSON
and the raw pixels of the step's frames. Needs the extra `play` (websockets).
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gymnasium.error import DependencyNotInstalled

from worldmodel.training.play_session import MessageError, Session
from worldmodel.training.scenes import Frames, Scene

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

_logger = logging.getLogger(__name__)

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_MOST_PLAYERS = 4  # each has models and games of its own
_TRY_AGAIN_LATER = 1013  # a WebSocket's code of closing
_LONGEST_MESSAGE = 4096  # bytes


async def serve(
    scenes: Mapping[str, Callable[[], Scene]],
    out: Path,
    host: str = "127.0.0.1",
    port: int = 8765,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page, and to each that opens it a session of its own, until cancelled.

    Args:
        scenes: names, and what opens each.
        out: folder for saved clips.
        host: to listen on; the default is reached from this machine alone.
        port: 0 takes a free one.
        ready: called with the page's address.

    Raises:
        OSError: host and port cannot be listened on.
        DependencyNotInstalled: websockets is missing.
    """
    check_websockets()
    from websockets.asyncio.server import serve as websocket_server

    page = files("worldmodel.training").joinpath("play.html").read_text(encoding="utf-8")
    players = 0

    def respond(connection: "ServerConnection", request: "Request") -> "Response | None":
        path = urlsplit(request.path).path
        if path == "/":
            response = connection.respond(HTTPStatus.OK, page)
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = "text/html; charset=utf-8"
            return response
        if path != "/play":
            return connection.respond(HTTPStatus.NOT_FOUND, "There is only one page: /\n")
        origin, own = request.headers.get("Origin"), request.headers.get("Host", "")
        rebound = host in _THIS_MACHINE and urlsplit(f"//{own}").hostname not in _THIS_MACHINE
        if rebound or (origin is not None and urlsplit(origin).netloc != own):
            return connection.respond(HTTPStatus.FORBIDDEN, "Pages of other sites may not play here.\n")
        return None

    async def play(connection: "ServerConnection") -> None:
        nonlocal players
        if players >= _MOST_PLAYERS:
            await connection.close(_TRY_AGAIN_LATER, f"{_MOST_PLAYERS} are playing already")
            return
        players += 1
        try:
            await _play(connection, Session(scenes, out))
        finally:
            players -= 1

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


async def _play(connection: "ServerConnection", session: Session) -> None:
    """Answer one player's messages, one after the other, in a thread of the session's own."""
    from websockets.exceptions import ConnectionClosed

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:  # always the same one: torch keeps a pool of workers for each that calls it
        try:
            with suppress(ConnectionClosed):
                async for message in connection:
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

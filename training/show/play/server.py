"""Play dreams and real games in a browser: one page, one WebSocket, one step per message.

The page requests steps at the game's speed, with the keys that are held. The answer is a line of JSON, and one binary
message with the arrays listed in its "parts", one after the other. Before anything slow, a line with only "waiting" is
sent. Needs the extra `play` (websockets).
"""

import asyncio
import json
import logging
import warnings
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from gymnasium.error import DependencyNotInstalled

from worldmodel.training.show.play.http import THIS_MACHINE, Http
from worldmodel.training.show.play.seats import MOST_PLAYERS, Seat, Seats
from worldmodel.training.show.play.session import Answer, MessageError, Session
from worldmodel.training.show.scenes import Scene

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

_logger = logging.getLogger(__name__)

_TRY_AGAIN_LATER = 1013  # WebSocket close code
_LONGEST_MESSAGE = 4096  # bytes


async def serve(
    scenes: Mapping[str, Callable[[], Scene]],
    host: str = "127.0.0.1",
    port: int = 8765,
    ready: Callable[[str], None] = lambda address: None,
    allowed_hosts: Collection[str] = (),
    player: str = "agent",
) -> None:
    """Serve the page, with a separate session for each player, until cancelled.

    Args:
        scenes: name -> function that opens the scene.
        host: address to listen on; the default can be reached only from this machine.
        port: 0 takes a free one.
        ready: called with the page's address.
        allowed_hosts: further host names that browsers may use, if `host` is open to other machines.
        player: name of the scenes' own policy on the page.

    Raises:
        OSError: host and port cannot be listened on.
        DependencyNotInstalled: websockets is missing.
    """
    check_websockets()
    from websockets.asyncio.server import serve as websocket_server

    if host not in THIS_MACHINE:
        warnings.warn(
            f"listening on {host}: everyone who can reach this machine can play; there is no password. To play only "
            "from one other machine, omit --host and forward the port with ssh -L",
            stacklevel=2,
        )
    seats = Seats(lambda: Session(scenes, player))

    async def play(connection: "ServerConnection") -> None:
        seat = await seats.take(connection, _key_of(connection))
        if seat is None:
            await connection.close(_TRY_AGAIN_LATER, f"{MOST_PLAYERS} are playing already")
            return
        try:
            await _play(connection, seat)
        finally:
            await seats.leave(seat)

    respond = Http(host, allowed_hosts).respond
    try:
        async with websocket_server(play, host, port, process_request=respond, max_size=_LONGEST_MESSAGE) as server:
            name = f"[{host}]" if ":" in host else host
            ready(f"http://{name}:{server.sockets[0].getsockname()[1]}/")
            await server.serve_forever()
    finally:
        await seats.close()


def check_websockets() -> None:
    """DependencyNotInstalled if websockets is missing."""
    try:
        import websockets  # noqa: F401
    except ImportError as error:
        raise DependencyNotInstalled("websockets is missing. Run: pip install 'videogen-dream[play]'") from error


def _key_of(connection: "ServerConnection") -> str:
    """The key of the session that a page requests, "" for none."""
    assert connection.request is not None
    return parse_qs(urlsplit(connection.request.path).query).get("session", [""])[0]


async def _play(connection: "ServerConnection", seat: Seat) -> None:
    """Answer one player's messages, one after the other, in the thread of its session."""
    from websockets.exceptions import ConnectionClosed

    loop = asyncio.get_running_loop()
    with suppress(ConnectionClosed):
        await connection.send(json.dumps({"session": seat.key}))
        async for message in connection:
            seat.hear()
            read = _read(message)
            if isinstance(read, dict) and (waiting := seat.session.waits_for(read)):
                await connection.send(json.dumps({"waiting": waiting}))
            words, parts = await loop.run_in_executor(seat.thread, _answer, seat.session, read)
            seat.hear()
            await connection.send(json.dumps(words))
            if parts:
                await connection.send(b"".join(part.tobytes() for part in parts))


def _answer(session: Session, message: dict[str, Any] | MessageError) -> Answer:
    """The session's answer, or a description of the error."""
    try:
        if isinstance(message, MessageError):
            raise message
        return session.answer(message)
    except MessageError as error:
        _logger.warning("a message of a player was refused: %s", error)
        return Answer({"error": str(error)}, ())
    except Exception as error:  # from a game or a model: show it to the player, who can continue
        _logger.exception("a message of a player failed: %s", message)
        return Answer({"error": f"{type(error).__name__}: {error}"}, ())


def _read(message: str | bytes) -> dict[str, Any] | MessageError:
    try:
        read = json.loads(message)
    except (ValueError, RecursionError) as error:
        return MessageError(f"a message must be a JSON object, got {message!r}: {error}")
    return read if isinstance(read, dict) else MessageError(f"a message must be a JSON object, got {read!r}")

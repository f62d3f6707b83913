"""Manages several players, each with a session and a thread; a reloaded page finds its session again.

A session is identified by a key that only its page has. It is kept for a while after the page's connection ends.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from worldmodel.training.show.play.session import Session

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

MOST_PLAYERS = 4  # each has its own models and games
IDLE = 60.0  # seconds without a message after which a player may be replaced
KEPT_FOR = 300.0  # seconds for which a session without a page is kept
_HANDOVER = 2.0  # seconds for which a reloaded page waits for its previous connection to end


class Seat:
    """One player's session, and the thread in which all its work is done."""

    def __init__(self, session: Session, connection: "ServerConnection") -> None:
        self.session, self.connection = session, connection
        self.key = secrets.token_urlsafe(16)
        # Always the same thread: torch keeps a pool of workers per calling thread, and games may be bound to a thread.
        self.thread = ThreadPoolExecutor(1)
        self.heard = time.monotonic()
        self.taken = True  # by an open connection

    def hear(self) -> None:
        self.heard = time.monotonic()

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self.thread, self.session.close)
        self.thread.shutdown(wait=False)


class Seats:
    """All players.

    Args:
        make: makes the session of a new player.
    """

    def __init__(self, make: Callable[[], Session]) -> None:
        self._make = make
        self._seats: dict[str, Seat] = {}  # by key

    async def take(self, connection: "ServerConnection", key: str) -> Seat | None:
        """The seat with this key, or a new one, if necessary replacing an idle player; None if all are taken."""
        seat = self._seats.get(key)
        waited = time.monotonic() + _HANDOVER
        while seat is not None and seat.taken and time.monotonic() < waited:
            await asyncio.sleep(0.05)
        if seat is not None and not seat.taken and key in self._seats:
            seat.taken, seat.connection = True, connection
            seat.hear()
            return seat
        if len(self._seats) >= MOST_PLAYERS and not self._make_room():
            return None
        seat = Seat(self._make(), connection)
        self._seats[seat.key] = seat
        return seat

    def _make_room(self) -> bool:
        """Remove a player: preferably one whose page is gone, otherwise an idle one."""
        longest = min(self._seats.values(), key=lambda seat: (seat.taken, seat.heard))
        if not longest.taken:
            self._end(longest)
            return True
        if time.monotonic() - longest.heard < IDLE:
            return False
        del self._seats[longest.key]
        longest.connection.transport.abort()  # not awaited: a gone browser would keep the new player waiting
        return True

    async def leave(self, seat: Seat) -> None:
        """Handle the end of a connection: keep its session for a while, unless it was replaced."""
        seat.taken = False
        seat.hear()
        if seat.key not in self._seats:
            await seat.close()
            return
        heard = seat.heard
        asyncio.get_running_loop().call_later(KEPT_FOR, lambda: self._end_unless_heard(seat, heard))

    def _end_unless_heard(self, seat: Seat, heard: float) -> None:
        if not seat.taken and seat.heard == heard and seat.key in self._seats:
            self._end(seat)

    def _end(self, seat: Seat) -> None:
        del self._seats[seat.key]
        seat.thread.submit(seat.session.close)
        seat.thread.shutdown(wait=False)

    async def close(self) -> None:
        """End all sessions, after their connections have ended."""
        for seat in list(self._seats.values()):
            del self._seats[seat.key]
            await seat.close()

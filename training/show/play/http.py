"""HTTP responses of the play server: the files of the page with their security headers, and refusals.

Anyone who can reach the server may play; pages of other sites, opened in a browser that can reach it, may not. A
browser sends the requested name as Host, so a foreign name that resolves to this machine (DNS rebinding) is detected.
"""

import ipaddress
import re
import socket
from collections.abc import Collection
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}  # of the page's files, all in UTF-8


class Http:
    """Responds to requests for the page, and checks requests to play.

    Args:
        host: address on which the server listens.
        allowed: further host names that browsers may use.
    """

    def __init__(self, host: str, allowed: Collection[str] = ()) -> None:
        page = files("worldmodel.training.show.play").joinpath("page")
        self._files = {f"/{file.name}": file.read_text(encoding="utf-8") for file in page.iterdir()}
        self._files["/"] = self._files.pop("/index.html")
        self._open = host not in THIS_MACHINE  # to other machines
        names = {*THIS_MACHINE, host, *allowed}
        if self._open:
            names |= {socket.gethostname(), socket.getfqdn()}
        self._names = {name.lower() for name in names}

    def respond(self, connection: "ServerConnection", request: "Request") -> "Response | None":
        """The response to a request; None passes a WebSocket on to the player's session."""
        name, refusal = self._check(request)
        if refusal is not None:
            return connection.respond(*refusal)
        path = urlsplit(request.path).path
        if path == "/play":
            return None
        if path not in self._files:
            return connection.respond(HTTPStatus.NOT_FOUND, "There is only one page: /\n")
        response = connection.respond(HTTPStatus.OK, self._files[path])
        for header, value in self._headers(name, path).items():
            if header in response.headers:
                del response.headers[header]
            response.headers[header] = value
        return response

    def _check(self, request: "Request") -> tuple[str, tuple[HTTPStatus, str] | None]:
        """The Host header, and the refusal if the request is not allowed."""
        hosts, origins = (request.headers.get_all(name) for name in ("Host", "Origin"))
        try:
            if len(hosts) != 1 or len(origins) > 1:
                raise ValueError(f"one Host and at most one Origin, got {len(hosts)} and {len(origins)}")
            name, path = _name_of(hosts[0]), urlsplit(request.path).path
            elsewhere = any(urlsplit(origin).netloc.lower() != hosts[0].lower() for origin in origins)
        except ValueError as error:
            return "", (HTTPStatus.BAD_REQUEST, f"The request is malformed: {error}\n")
        if not self._is_ours(name):
            return "", (
                HTTPStatus.FORBIDDEN,
                f"This server does not answer to the name {name}. Use its address, or start it with --allow-host "
                f"{name}.\n",
            )
        if path == "/play" and elsewhere:
            return "", (HTTPStatus.FORBIDDEN, "Pages of other sites may not play here.\n")
        return hosts[0], None

    def _is_ours(self, name: str) -> bool:
        if name in self._names:
            return True
        try:  # unlike a name, an address cannot be redirected here by a foreign name server
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._open

    def _headers(self, host: str, path: str) -> dict[str, str]:
        policy = {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "data:",
            "connect-src": f"'self' ws://{host} wss://{host}",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        return {
            "Content-Type": f"{_TYPES[path.rpartition('.')[2] if path != '/' else 'html']}; charset=utf-8",
            "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }


def _name_of(host: str) -> str:
    """The name in a Host header, in lower case; ValueError if it is anything but a name and a port."""
    parts = urlsplit(f"//{host}")
    name = parts.hostname or ""
    if not re.fullmatch(r"[a-z0-9._:-]+", name) or host.lower() not in _spellings(name, parts.port):
        raise ValueError(f"{host!r} is not the name of a host")
    return name


def _spellings(name: str, port: int | None) -> set[str]:
    written = f"[{name}]" if ":" in name else name
    return {written, f"{written}:"} if port is None else {f"{written}:{port}"}

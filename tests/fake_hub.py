"""A small Hugging Face hub on this machine: the routes by which huggingface_hub creates, fills and reads models.

Repositories live in memory; a commit's name is the hash of its files. Every file travels inside its commit, where the
real hub takes large ones apart.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


@dataclass
class Repository:
    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)  # branch -> commit
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # commit -> path -> content
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str = "") -> str:
        name = hashlib.sha1(repr((message, sorted(files.items()))).encode()).hexdigest()
        self.commits[name], self.branches[branch] = files, name
        self.messages.append(message)
        return name

    def files_at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commit = self.branches.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None


class FakeHub:
    """The hub's contents. `tokens` are accepted; every other one is refused."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.tokens = {"hf_owner", "hf_reader"}
        self.requests: list[str] = []
        self.url = ""

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        found = self.repositories[name].files_at(revision)
        assert found is not None, f"{name} has no {revision}"
        return found[1]


class RefusalError(Exception):
    """An answer of the hub that is not 200."""

    def __init__(self, status: int, code: str = "", message: str = "", content: object = None) -> None:
        self.status, self.headers = status, {"X-Error-Code": code, "X-Error-Message": message}
        self.content = content or {}


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self) -> None:
            self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = unquote(self.path.partition("?")[0])
            hub.requests.append(f"{self.command} {path}")
            try:
                authorized = self._authorized()
                for method, pattern, route in ROUTES:
                    found = re.fullmatch(pattern, path)
                    if found and self.command in method:
                        return self._send(200, *route(self, authorized, *found.groups()))
                raise RefusalError(404)
            except RefusalError as refusal:
                self._send(refusal.status, refusal.content, refusal.headers)

        def _send(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _authorized(self) -> bool:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if token and token not in hub.tokens:
                raise RefusalError(401, message="Invalid credentials in Authorization header")
            return bool(token)

    def repository(authorized: bool, name: str, write: bool = False) -> Repository:
        found = hub.repositories.get(name)
        if found is None or (not authorized and (write or found.private)):
            raise RefusalError(404 if authorized else 401, "RepoNotFound")  # as the real one: it does not say which
        return found

    def at(authorized: bool, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        found = repository(authorized, name).files_at(revision)
        if found is None:
            raise RefusalError(404, "RevisionNotFound")
        return found

    def info(request, authorized, name, revision):
        commit, files = at(authorized, name, revision)
        return ({"id": name, "sha": commit, "siblings": [{"rfilename": path} for path in files]},)

    def tree(request, authorized, name, revision):
        _, files = at(authorized, name, revision)
        return (
            [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in files.items()
            ],
        )

    def content(request, authorized, name, revision, path):
        commit, files = at(authorized, name, revision)
        if path not in files:
            raise RefusalError(404, "EntryNotFound")
        return files[path], {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(files[path]).hexdigest()}"'}

    def who(request, authorized):
        role = "read" if request.headers["Authorization"].endswith("hf_reader") else "write"
        return ({"name": "me", "auth": {"accessToken": {"role": role}}},)

    def create(request, authorized):
        asked = json.loads(request.body)
        name = f"{asked['organization']}/{asked['name']}"
        if not authorized:
            raise RefusalError(401, message="Invalid username or password.")
        about = {"url": f"{hub.url}/{name}", "name": name, "id": name}
        if name in hub.repositories:
            raise RefusalError(409, content=about)
        hub.repositories[name] = Repository(private=bool(asked.get("private") or asked.get("visibility") == "private"))
        hub.repositories[name].commit("main", {})
        return (about,)

    def branch(request, authorized, name, new):
        found = repository(authorized, name, write=True)
        if new in found.branches:
            raise RefusalError(409)
        found.branches[new] = found.branches["main"]
        return ({},)

    def preupload(request, authorized, name, revision):
        repository(authorized, name, write=True)
        paths = [file["path"] for file in json.loads(request.body)["files"]]
        return ({"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]},)

    def commit(request, authorized, name, revision):
        found = repository(authorized, name, write=True)
        _, before = at(authorized, name, revision)
        files, message = dict(before), ""
        for line in map(json.loads, request.body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        made = found.commit(revision, files, message)
        return ({"commitUrl": f"{hub.url}/{name}/commit/{made}", "commitOid": made, "pullRequestUrl": None},)

    id_ = r"([\w.-]+/[\w.-]+)"
    ROUTES = (
        (("GET",), rf"/api/models/{id_}/revision/(.+)", info),
        (("GET",), rf"/api/models/{id_}/tree/([^/]+)", tree),
        (("GET", "HEAD"), rf"/{id_}/resolve/([^/]+)/(.+)", content),
        (("GET",), "/api/whoami-v2", who),
        (("POST",), "/api/repos/create", create),
        (("POST",), rf"/api/models/{id_}/branch/(.+)", branch),
        (("POST",), "/api/validate-yaml", lambda *_: ({"errors": [], "warnings": []},)),
        (("POST",), rf"/api/models/{id_}/preupload/(.+)", preupload),
        (("POST",), rf"/api/models/{id_}/commit/(.+)", commit),
    )
    return Handler


@contextmanager
def serving() -> Iterator[FakeHub]:
    """Serve an empty hub on a free port."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()

"""The server: its page, and one session for each connection."""

import asyncio
import json
import re
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from itertools import product
from urllib.parse import urlsplit

import pytest
from gymnasium.error import DependencyNotInstalled
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.tiny import tiny_world
from worldmodel.envs import DreamEnv
from worldmodel.training.show.play import seats
from worldmodel.training.show.play.server import serve
from worldmodel.training.show.scenes import DreamScene


@contextmanager
def served(scenes=None, **options):
    """The address of a server that runs in its own thread."""
    world = tiny_world()
    scenes = scenes or {"dream": lambda: DreamScene(DreamEnv(world, "codes"))}
    loop, started, addresses = asyncio.new_event_loop(), threading.Event(), []

    def ready(address):
        addresses.append(address)
        started.set()

    task = loop.create_task(serve(scenes, port=0, ready=ready, **options))

    def run():
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(20)
    try:
        yield addresses[0]
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(20)
        assert not thread.is_alive()


def ask(line, **message):
    """Words and arrays of the answer; other lines are skipped."""
    line.send(json.dumps(message))
    words = message_of(line)
    return words, None if "error" in words else line.recv(20)


def message_of(line):
    while True:
        words = json.loads(line.recv(20))
        if not {"session", "waiting"} & set(words):
            return words


def play_address(address):
    return address.replace("http:", "ws:") + "play"


def test_the_page_is_served_and_nothing_else():
    with served() as address:
        with urllib.request.urlopen(address) as page:
            assert page.headers["Content-Type"] == "text/html; charset=utf-8"
            text = page.read().decode()
        for name in [*re.findall(r'(?:href|src)="(\w+\.\w+)"', text), "line.js"]:
            with urllib.request.urlopen(address + name) as file:
                assert file.headers["Content-Type"].startswith("text/") and file.read()
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(address + "etc/passwd")
        with error.value:
            assert error.value.code == 404


def test_a_step_is_sent_as_json_and_pixels():
    with served() as address, connect(play_address(address)) as line:
        words, pixels = ask(line, do="step", keys=["Digit1"])
        assert words["now"]["step"] == 1 and words["parts"] == [["frames", [2, 16, 16, 3]]]
        assert len(pixels) == 2 * 16 * 16 * 3


def test_each_connection_plays_its_own_dream():
    with served() as address, connect(play_address(address)) as one, connect(play_address(address)) as other:
        for _ in range(3):
            ask(one, do="step", keys=[])
        assert ask(one, do="show")[0]["now"]["step"] == 3
        assert ask(other, do="show")[0]["now"]["step"] == 0


@pytest.mark.parametrize(
    "message", ["no json", "[]", '{"do": "nonsense"}', '{"do": "step", "keys": 3}', b"\xff", "[" * 4096]
)
def test_bad_messages_are_answered_and_the_game_continues(message, caplog):
    with served() as address, connect(play_address(address)) as line:
        line.send(message)
        assert message_of(line)["error"]
        (logged,) = [record for record in caplog.records if record.name == "worldmodel.training.show.play.server"]
        assert logged.levelname == "WARNING" and logged.exc_info is None
        assert ask(line, do="step", keys=[])[0]["now"]["step"] == 1


def test_pages_of_other_sites_may_not_play():
    with served() as address:
        with pytest.raises(InvalidStatus, match="403"):
            connect(play_address(address), origin="http://elsewhere.example")
        with connect(play_address(address), origin=address.rstrip("/")) as line:
            assert ask(line, do="show")[1]


def test_a_game_that_breaks_does_not_end_the_connection():
    class BrokenError(Exception):
        """Like ViZDoom's own errors, which have no other base class."""

    class Breaking(DreamScene):
        def step(self, action=None):
            if self.shown.step == 1:
                raise BrokenError("the game has gone")
            return super().step(action)

    world = tiny_world()
    scenes = {"dream": lambda: Breaking(DreamEnv(world, "codes"))}
    with served(scenes) as address, connect(play_address(address)) as line:
        ask(line, do="step", keys=[])
        assert "BrokenError: the game has gone" in ask(line, do="step", keys=[])[0]["error"]
        assert ask(line, do="begin")[0]["now"]["step"] == 0


def request(address, *headers, path="/play"):
    """Status and text of the answer to a request with these header lines."""
    with socket.create_connection(("127.0.0.1", urlsplit(address).port), 20) as line:
        usual = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines = [f"GET {path} HTTP/1.1", *headers, *usual, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
        line.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        answer = line.recv(4000).decode("latin-1")
    return int(answer.split()[1]), answer


@pytest.mark.parametrize(("name", "status"), [("localhost", 101), ("127.0.0.1", 101), ("evil.example", 403)])
def test_only_names_of_this_machine_may_play(name, status):
    with served() as address:
        assert request(address, f"Host: {name}:9000", f"Origin: http://{name}:9000")[0] == status


def test_a_server_open_to_others_warns_and_answers_only_to_its_names_and_addresses():
    names = {"192.168.1.7:80": 101, "[fe80::1]:80": 101, socket.gethostname(): 101, "Doom.example": 101}
    warned = pytest.warns(UserWarning, match=r"listening on 0\.0\.0\.0: everyone .* no password")
    with warned, served(host="0.0.0.0", allowed_hosts=["doom.example"]) as address:
        for name, status in (names | {"evil.example": 403, "evil.example:80": 403}).items():
            assert request(address, f"Host: {name}")[0] == status, name
        assert "--allow-host evil.example" in request(address, "Host: evil.example", path="/")[1]


MALFORMED = [
    [],
    ["Host: [::1"],
    ["Host: localhost:port"],
    ["Host: localhost:99999"],
    ["Host: user@localhost"],
    ["Host: localhost/path"],
    ["Host: localhost", "Host: localhost"],
    ["Host: localhost", "Origin: http://[::1"],
    ["Host: localhost", "Origin: http://localhost", "Origin: http://localhost"],
    ["Host: l\xf6calhost"],
    ["Host:"],
]


def test_malformed_headers_are_a_bad_request(caplog):
    with served() as address:
        for headers, path in product(MALFORMED, ("/", "/play")):
            assert request(address, *headers, path=path)[0] == 400, headers
    assert not caplog.records


def test_the_page_allows_its_own_files_and_nothing_else():
    with served() as address, urllib.request.urlopen(address) as page:
        policy, text = page.headers["Content-Security-Policy"], page.read().decode()
        assert page.headers["X-Content-Type-Options"] == "nosniff" and page.headers["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert "script-src 'self';" in policy and "style-src 'self';" in policy
    assert "style=" not in text and " onclick" not in text and "<style" not in text  # the policy would drop all
    assert not re.search(r"<script[^>]*>[^<]", text)


def test_an_idle_player_makes_room_for_another(monkeypatch):
    monkeypatch.setattr(seats, "IDLE", 0.2)
    with served() as address, ExitStack() as stack:
        idle, *others = (stack.enter_context(connect(play_address(address))) for _ in range(4))
        for line in (idle, *others):
            ask(line, do="show")
        time.sleep(0.3)
        for line in others:
            ask(line, do="step", keys=[])
        with connect(play_address(address)) as fifth:
            assert ask(fifth, do="show")[1]
            for line in others:
                assert ask(line, do="show")[1]
        with pytest.raises(ConnectionClosed):
            idle.recv(20)


def key_of(line):
    return json.loads(line.recv(20))["session"]


def test_a_reloaded_page_resumes():
    with served() as address:
        with connect(play_address(address)) as line:
            key = key_of(line)
            for _ in range(3):
                ask(line, do="step", keys=[])
        with connect(f"{play_address(address)}?session={key}") as line:
            assert key_of(line) == key and ask(line, do="show")[0]["now"]["step"] == 3
            with connect(play_address(address)) as other:
                assert key_of(other) != key and ask(other, do="show")[0]["now"]["step"] == 0


def test_a_copied_tab_gets_its_own_dream(monkeypatch):
    monkeypatch.setattr(seats, "_HANDOVER", 0.1)
    with served() as address, connect(play_address(address)) as line:
        key = key_of(line)
        ask(line, do="step", keys=[])
        with connect(f"{play_address(address)}?session={key}") as copy:
            assert key_of(copy) != key and ask(copy, do="show")[0]["now"]["step"] == 0
        assert ask(line, do="show")[0]["now"]["step"] == 1


def test_a_dream_whose_page_is_gone_is_closed_after_a_while(monkeypatch):
    monkeypatch.setattr(seats, "KEPT_FOR", 0.1)
    with served() as address:
        with connect(play_address(address)) as line:
            key = key_of(line)
            ask(line, do="step", keys=[])
        time.sleep(0.4)
        with connect(f"{play_address(address)}?session={key}") as line:
            assert key_of(line) != key and ask(line, do="show")[0]["now"]["step"] == 0


def test_a_long_wait_is_announced_before_its_answer():
    with served() as address, connect(play_address(address)) as line:
        key_of(line)
        line.send(json.dumps({"do": "show"}))
        assert json.loads(line.recv(20)) == {"waiting": "Opening dream. This takes a few seconds."}
        assert json.loads(line.recv(20))["now"]["step"] == 0


def test_a_fifth_player_is_refused_until_one_leaves():
    with served() as address:
        with ExitStack() as four:
            for _ in range(4):
                ask(four.enter_context(connect(play_address(address))), do="show")
            with connect(play_address(address)) as fifth, pytest.raises(ConnectionClosed, match="4 are playing"):
                fifth.recv(20)
        for _ in range(100):  # the server hears of the closing a little later
            with suppress(ConnectionClosed), connect(play_address(address)) as again:
                assert ask(again, do="show")[1]  # in place of one whose page is gone
                return
            time.sleep(0.05)
        pytest.fail("nobody may play although all have left")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "websockets", None)
    with pytest.raises(DependencyNotInstalled, match=r"videogen-dream\[play\]"):
        asyncio.run(serve({}))

"""The server: its page, and one session for each connection."""

import asyncio
import json
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import pytest
from gymnasium.error import DependencyNotInstalled
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.tiny import tiny_world
from worldmodel.envs import DreamEnv
from worldmodel.training.play import serve
from worldmodel.training.scenes import DreamScene


@contextmanager
def served(tmp_path, scenes=None):
    """The address of a server that runs in a thread of its own."""
    world = tiny_world()
    scenes = scenes or {"dream": lambda: DreamScene(DreamEnv(world, "codes"))}
    loop, started, addresses = asyncio.new_event_loop(), threading.Event(), []

    def ready(address):
        addresses.append(address)
        started.set()

    task = loop.create_task(serve(scenes, tmp_path, port=0, ready=ready))

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
    line.send(json.dumps(message))
    words = json.loads(line.recv(20))
    return words, None if "error" in words else line.recv(20)


def play_address(address):
    return address.replace("http:", "ws:") + "play"


def test_the_page_is_served_and_nothing_else(tmp_path):
    with served(tmp_path) as address:
        with urllib.request.urlopen(address) as page:
            assert page.headers["Content-Type"] == "text/html; charset=utf-8"
            assert "<canvas>" in page.read().decode()
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(address + "etc/passwd")
        with error.value:
            assert error.value.code == 404


def test_a_step_comes_as_words_and_pixels(tmp_path):
    with served(tmp_path) as address, connect(play_address(address)) as line:
        words, pixels = ask(line, do="step", keys=["Digit1"])
        assert words["numbers"]["step"] == 1 and words["shape"] == [2, 16, 16, 3]
        assert len(pixels) == 2 * 16 * 16 * 3


def test_each_connection_plays_its_own_dream(tmp_path):
    with served(tmp_path) as address, connect(play_address(address)) as one, connect(play_address(address)) as other:
        for _ in range(3):
            ask(one, do="step", keys=[])
        assert ask(one, do="show")[0]["numbers"]["step"] == 3
        assert ask(other, do="show")[0]["numbers"]["step"] == 0


@pytest.mark.parametrize("message", ["no json", "[]", '{"do": "nonsense"}', '{"do": "step", "keys": 3}', b"\xff"])
def test_bad_messages_are_answered_and_the_game_goes_on(message, tmp_path, caplog):
    with served(tmp_path) as address, connect(play_address(address)) as line:
        line.send(message)
        assert json.loads(line.recv(20))["error"]
        (logged,) = [record for record in caplog.records if record.name == "worldmodel.training.play"]
        assert logged.levelname == "WARNING" and logged.exc_info is None
        assert ask(line, do="step", keys=[])[0]["numbers"]["step"] == 1


def test_pages_of_other_sites_may_not_play(tmp_path):
    with served(tmp_path) as address:
        with pytest.raises(InvalidStatus, match="403"):
            connect(play_address(address), origin="http://elsewhere.example")
        with connect(play_address(address), origin=address.rstrip("/")) as line:
            assert ask(line, do="show")[1]


def test_a_game_that_breaks_does_not_end_the_connection(tmp_path):
    class BrokenError(Exception):
        """As ViZDoom's own, which derive from nothing else."""

    class Breaking(DreamScene):
        def step(self, action=None):
            if self.shown.step == 1:
                raise BrokenError("the game has gone")
            return super().step(action)

    world = tiny_world()
    scenes = {"dream": lambda: Breaking(DreamEnv(world, "codes"))}
    with served(tmp_path, scenes) as address, connect(play_address(address)) as line:
        ask(line, do="step", keys=[])
        assert "BrokenError: the game has gone" in ask(line, do="step", keys=[])[0]["error"]
        assert ask(line, do="begin")[0]["numbers"]["step"] == 0


@pytest.mark.parametrize(("name", "answer"), [("localhost", b"101"), ("127.0.0.1", b"101"), ("evil.example", b"403")])
def test_only_names_of_this_machine_may_play(name, answer, tmp_path):
    with served(tmp_path) as address, socket.create_connection(("127.0.0.1", urlsplit(address).port), 20) as line:
        lines = [
            "GET /play HTTP/1.1",
            f"Host: {name}:9000",
            f"Origin: http://{name}:9000",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Version: 13",
        ]
        line.sendall("\r\n".join([*lines, "", ""]).encode())
        assert line.recv(100).split()[1] == answer


def test_a_fifth_player_is_sent_away_until_one_leaves(tmp_path):
    with served(tmp_path) as address:
        with ExitStack() as four:
            for _ in range(4):
                ask(four.enter_context(connect(play_address(address))), do="show")
            with connect(play_address(address)) as fifth, pytest.raises(ConnectionClosed, match="4 are playing"):
                fifth.recv(20)
        for _ in range(100):  # the server hears of the closing a little later
            with connect(play_address(address)) as again, suppress(ConnectionClosed):
                assert ask(again, do="show")[1]
                return
            time.sleep(0.05)
        pytest.fail("nobody may play although all have left")


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "websockets", None)
    with pytest.raises(DependencyNotInstalled, match=r"videogen-dream\[play\]"):
        asyncio.run(serve({}, tmp_path))

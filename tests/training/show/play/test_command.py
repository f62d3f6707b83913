"""The command: which worlds are opened, what is announced, and which address the browser opens."""

from types import SimpleNamespace

import pytest

from worldmodel.data import ActionSpec
from worldmodel.training.show.play import command

TURN = ActionSpec(kind="discrete", n=2)


class Now:
    """A thread whose work is done when it is started."""

    def __init__(self, target, args, daemon):
        assert daemon  # a browser in the foreground must not keep the command alive
        self.start = lambda: target(*args)


@pytest.fixture
def browsed(monkeypatch):
    """Addresses that the browser has opened, on a machine with a screen; the server starts, and stops at once."""
    addresses = []

    async def serve(scenes, host, port, ready, allow_host, agent):
        ready(f"http://{host}:{port}/")

    monkeypatch.setattr(command, "serve", serve)
    monkeypatch.setattr(command, "check_websockets", lambda: None)
    monkeypatch.setattr(command, "open_scene", lambda name, **options: SimpleNamespace(close=lambda: None, action=TURN))
    monkeypatch.setattr(command, "threading", SimpleNamespace(Thread=Now))
    monkeypatch.setattr(command.webbrowser, "open", addresses.append)
    monkeypatch.setattr(command.sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", ":0")
    return addresses


def test_the_page_is_opened_in_the_browser(browsed, capsys):
    command.play(["VideoGenDream-Doom"])
    assert browsed == ["http://127.0.0.1:8765/"]
    said = capsys.readouterr().out
    assert (
        "Checking that VideoGenDream-Doom can be opened" in said and "Open http://127.0.0.1:8765/ in a browser" in said
    )


def test_no_browser_is_opened_if_it_is_not_wanted_or_there_is_no_screen(browsed, capsys, monkeypatch):
    command.play(["VideoGenDream-Doom"], browser=False)
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    command.play(["VideoGenDream-Doom"])
    assert browsed == [] and capsys.readouterr().out.count("Open http://127.0.0.1:8765/") == 2
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    command.play(["VideoGenDream-Doom"])
    assert len(browsed) == 1


def test_actions_for_which_there_are_too_few_keys_are_refused_before_serving(browsed, monkeypatch):
    arm = SimpleNamespace(close=lambda: None, action=ActionSpec(kind="box", n=7, low=(-1.0,) * 7, high=(1.0,) * 7))
    monkeypatch.setattr(command, "open_scene", lambda name, **options: arm)
    with pytest.raises(ValueError, match="keys for at most 5 dimensions of an action, got 7"):
        command.play(["VideoGenDream-BAIR"])
    assert browsed == []


def test_a_seed_with_which_no_episode_begins_is_refused_before_serving(browsed):
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        command.play(["VideoGenDream-Doom"], seed=-1)
    assert browsed == []


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_a_server_on_all_addresses_is_opened_as_localhost(host, browsed):
    command.play(["VideoGenDream-Doom"], host=host, port=9000)
    assert browsed == ["http://localhost:9000/"]


def test_a_world_that_cannot_be_opened_is_reported_before_anything_is_served(browsed, capsys, monkeypatch):
    def broken(name, **options):
        raise ValueError(f"no world {name}")

    monkeypatch.setattr(command, "open_scene", broken)
    with pytest.raises(ValueError, match="no world missing"):
        command.play(["missing"])
    assert browsed == [] and "Open http" not in capsys.readouterr().out


def test_the_same_world_twice_is_refused(browsed):
    with pytest.raises(ValueError, match="must be different, got VideoGenDream-Doom, VideoGenDream-Doom"):
        command.play(["VideoGenDream-Doom", "VideoGenDream-Doom"])


def test_a_temperature_without_a_dream_is_refused(browsed):
    with pytest.raises(ValueError, match="--temperature is for dreams, and there is none among VideoGenReal-Doom"):
        command.play(["VideoGenReal-Doom"], temperature=0.5)
    assert browsed == []

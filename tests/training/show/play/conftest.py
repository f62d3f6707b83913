"""Fixtures shared by the tests of the page: a server, a browser, and pages that had no error."""

from contextlib import contextmanager

import pytest

from tests.tiny import tiny_world
from tests.training.show.play.browsing import CHROMIUM, mode
from tests.training.show.play.test_server import served
from tests.training.show.play.test_session import LongGame
from worldmodel.agents.scripted import RandomPolicy
from worldmodel.envs import DreamEnv
from worldmodel.training.show.scenes import DreamScene, GameScene


class ManySignals(LongGame):
    signal_names = tuple(f"S{number}" for number in range(21))

    def _look(self, native_reward):
        observation, info = super()._look(native_reward)
        return observation, info | {name: float(number) for number, name in enumerate(self.signal_names)}


@pytest.fixture(scope="module")
def address():
    world = tiny_world()

    def dream(**options):
        scene = DreamScene(DreamEnv(world, "codes", **options), RandomPolicy(world.config.action))
        scene.fps = 40.0
        return scene

    def game(kind=LongGame):
        scene = GameScene(kind(), kind().action_spec)
        scene.fps = 40.0
        return scene

    scenes = {"VideoGenDream-Toy": dream, "VideoGenReal-Toy": game, "short": lambda: dream(horizon=4)}
    scenes["many"] = lambda: game(ManySignals)
    with served(scenes) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--host-resolver-rules=MAP lan.test 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Opens a page that is ready to play; checks afterwards that no page had an error."""
    errors = []

    @contextmanager
    def visit(width=1280, height=800, path="", **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        try:
            yield opened(context, path)
        finally:
            context.close()

    def opened(context, path=""):
        page = watched(context)
        page.goto(address + path)
        mode(page, "ready")
        return page

    def watched(context):
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    visit.opened, visit.watched = opened, watched
    yield visit
    assert errors == []

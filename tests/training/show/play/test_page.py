"""The page in a real browser: keys, pointer, touch and gamepad, and its layout on screens.

Screenshots are kept in the folder that SCREENSHOTS names, else in pytest's own temporary folder.
"""

import dataclasses
import os
import shutil
import time
from contextlib import closing, contextmanager
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import tiny_config, tiny_world
from tests.training.show.play.test_server import served
from tests.training.show.play.test_session import LongGame
from tests.training.show.web.sites import served as served_files
from worldmodel.agents.scripted import RandomPolicy
from worldmodel.envs import DreamEnv
from worldmodel.tokenizer import VQVAE, CodebookConfig, FrameVQVAE, FrameVQVAEConfig
from worldmodel.training.show.compare import CompareConfig, _write
from worldmodel.training.show.play.looking import code_colors, palette
from worldmodel.training.show.scenes import DreamScene, GameScene
from worldmodel.training.show.votes import Tally, a_is_left, tally

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser here: apt-get install chromium")

SIZES = [(360, 640), (768, 1024), (1280, 800), (1920, 1080)]
# Asks in the page which step is shown, and for a sum of the picture's pixels.
STEP = "() => Number(document.querySelector('#scrub').value)"
PIXELS = """() => { const c = document.querySelector('#picture');
  const {data} = c.getContext('2d').getImageData(0, 0, c.width, c.height);
  return data.reduce((sum, n, i) => sum + n * (i % 97), 0); }"""


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


def mode(page, name):
    page.wait_for_selector(f"body[data-mode={name}]")


def until(condition):
    """Wait for it here: the page's own policy forbids Playwright to evaluate strings in it again and again."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def played(page, steps=2):
    """Wait for this many more steps; the pictures must have changed with them."""
    step, pixels = page.evaluate(STEP), page.evaluate(PIXELS)
    until(lambda: page.evaluate(STEP) >= step + steps and page.evaluate(PIXELS) != pixels)


def paused(page):
    page.keyboard.press("KeyP")
    mode(page, "paused")


def keep(page, name, tmp_path):
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")


def test_keys_clicks_and_buttons_play_and_pause(visit):
    with visit() as page:
        assert page.inner_text("#veil").startswith("Tap or press a key to begin")
        page.keyboard.down("Digit1")
        played(page)
        assert "held" in page.get_by_role("button", name="left").get_attribute("class")
        page.keyboard.up("Digit1")
        paused(page)
        assert page.inner_text("#state") == "Paused"
        page.click("#veil")
        played(page)
        for press in ("page.click", "focus and Enter", "click()"):
            paused(page)
            button = page.get_by_role("button", name="right")
            if press == "page.click":
                button.click()
            elif press == "click()":
                button.evaluate("button => button.click()")
            else:
                button.focus()
                page.keyboard.press("Enter")
            played(page)
            page.evaluate("document.activeElement.blur()")


def test_a_tap_begins_and_acts_on_a_phone(visit):
    with visit(360, 640, has_touch=True, is_mobile=True) as page:
        page.tap("#veil")
        played(page)
        paused(page)
        page.get_by_role("button", name="left").tap()
        played(page)


def test_a_gamepad_plays(visit):
    with visit() as page:
        page.evaluate("""() => {
          const pad = {axes: [0, 0], buttons: Array.from({length: 17}, () => ({pressed: false}))};
          window.pad = pad;
          navigator.getGamepads = () => [pad];
          dispatchEvent(new Event("gamepadconnected"));
          pad.buttons[0].pressed = true;
        }""")
        played(page)
        assert "held" in page.get_by_role("button", name="left").get_attribute("class")  # Digit1, the first one
        page.evaluate("window.pad.buttons[9].pressed = true")
        mode(page, "paused")


def test_a_player_looks_back_and_continues_from_there(visit):
    with visit() as page:
        page.keyboard.press("KeyO")  # one step for each press
        pictures = []
        for number in range(1, 6):
            page.keyboard.press("Digit1")
            until(lambda number=number: page.evaluate(STEP) == number)
            pictures.append(page.evaluate(PIXELS))
        page.wait_for_timeout(100)
        assert page.evaluate(STEP) == 5  # and no step without a press
        page.focus("#scrub")
        for _ in range(3):
            page.keyboard.press("ArrowLeft")
        until(lambda: page.evaluate(PIXELS) == pictures[1])
        assert page.inner_text("#state") == "Looking back" and "Step 2 of 5" in page.inner_text("#veil")
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("Digit1")
        until(lambda: page.evaluate(STEP) == 3)
        until(lambda: page.evaluate(PIXELS) == pictures[2])  # the same as before, from the same step


def test_four_futures_are_dreamt_and_one_is_kept(visit, tmp_path):
    with visit() as page:
        page.keyboard.down("Digit1")
        played(page, 3)
        page.click("#transport button:has-text('Fork')")
        futures = page.get_by_role("button", name="Future")
        futures.nth(3).wait_for()
        assert futures.count() == 4 and not page.is_visible("#picture")
        step = page.evaluate(STEP)
        until(lambda: page.evaluate(STEP) >= step + 2)  # they are played on
        sums = page.evaluate("""() => [...document.querySelectorAll('#futures canvas')].map(
          c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.reduce((sum, n) => sum + n, 0))""")
        assert len(set(sums)) > 1
        keep(page, "futures", tmp_path)
        page.keyboard.up("Digit1")
        futures.nth(2).click()
        mode(page, "paused")
        assert page.is_visible("#picture") and page.inner_text("#note") == "The dream continues as future 3."
        page.keyboard.press("Digit1")
        played(page)


def frames_alone(**changes) -> FrameVQVAE:
    codebook = CodebookConfig(num_codes=16, num_slices=8 // changes["frames_per_step"] // 2, code_dim=4)
    widths = (4, 4 * codebook.num_slices)
    return FrameVQVAE(FrameVQVAEConfig(height=16, width=16, stage_widths=widths, codebook=codebook, **changes))


def patches(patch: int) -> VQVAE:
    return VQVAE(dataclasses.replace(tiny_config().tokenizer, patch=patch, stage_widths=(8, 8)))


def test_every_code_has_its_own_place_in_the_map_of_its_slice_and_frame(visit):
    torch.manual_seed(0)
    several = [frames_alone(frames_per_step=2), frames_alone(frames_per_step=4), patches(1), patches(2)]
    with visit() as page:
        for tokenizer in several:
            drawn = code_colors(tokenizer)
            codes = torch.randint(tokenizer.num_codes, (*tokenizer.grid, tokenizer.num_slices))
            latents = tokenizer._unfold(codes) if isinstance(tokenizer, VQVAE) else codes
            colors = np.concatenate([palette(tokenizer)] * (drawn["slices"] // len(tokenizer.lookup.vectors)))
            wanted = np.stack([colors[place][latents[..., place]] for place in range(latents.shape[-1])])
            found = page.evaluate(
                """async ([codes, grid, about, [maps, rows, columns]]) => {
                  const {drawCodes, readPalette} = await import("./pictures.js");
                  const canvas = document.createElement("canvas");
                  drawCodes(canvas, codes, grid, null, {...about, palette: readPalette(about.palette)});
                  const pen = canvas.getContext("2d"), cell = canvas.height / rows, gap = Math.round(cell / 3);
                  const at = (...place) => Array.from(pen.getImageData(...place, 1, 1).data.slice(0, 3));
                  const each = (count, make) => Array.from({length: count}, (_, place) => make(place));
                  return each(maps, map => each(rows, row => each(columns, column =>
                    at(map * (columns * cell + gap) + (column + 0.5) * cell, (row + 0.5) * cell))));
                }""",
                [codes.flatten().tolist(), list(codes.shape), drawn, wanted.shape[:3]],
            )
            assert found == wanted.tolist(), tokenizer.config


def test_the_player_switches_from_a_game_to_its_dream_and_back(visit, tmp_path):
    with visit() as page:
        page.select_option("#world", "VideoGenReal-Toy")
        page.wait_for_selector("body[data-kind=game]")
        assert page.is_visible("#seen") and page.is_visible("#codes")
        page.keyboard.press("Digit1")
        played(page)
        keep(page, "game", tmp_path)
        page.keyboard.press("KeyT")
        page.wait_for_selector("body[data-kind=dream]")
        page.keyboard.press("Digit1")
        played(page)
        page.click("#transport button:has-text('To the game')")
        page.wait_for_selector("body[data-kind=game]")
        assert page.inner_text("#state") == "Paused"


def test_the_selected_player_plays(visit):
    with visit() as page:
        page.get_by_role("radio", name="agent").check()
        played(page)
        assert page.inner_text("#state") == "agent plays"
        page.click("#transport button:has-text('Back')")
        mode(page, "paused")
        assert page.inner_text("#state") == "Paused. agent plays on."
        page.keyboard.press("KeyR")
        played(page)
        page.keyboard.press("KeyN")
        page.wait_for_selector("body[data-kind=game]")
        assert page.inner_text("#state") == "Ready"  # this one has no agent: you play


def test_three_signals_are_shown_and_the_others_folded(visit):
    with visit(1280, 640) as page:
        page.select_option("#world", "many")
        until(lambda: page.title().startswith("many"))
        assert page.locator("#numbers dt").all_text_contents()[-3:] == ["s0", "s1", "s2"]
        page.get_by_text("All 21 signals").click()
        page.get_by_role("checkbox", name="s7").check()
        page.keyboard.press("Digit1")
        played(page)
        assert page.locator("#numbers dt").all_text_contents()[-3:] == ["s1", "s2", "s7"]
        assert page.locator("#numbers").bounding_box()["height"] > 100  # not squeezed by the open list


def test_futures_at_temperature_0_are_all_the_likeliest(visit):
    pictures = "() => [...document.querySelectorAll('#futures canvas')].map(canvas => canvas.toDataURL())"
    with visit() as page:
        several = []
        for key, degrees in (("Home", "0.00"), ("End", "2.00")):  # of the slider
            page.focus("#temperature")
            page.keyboard.press(key)
            assert page.inner_text("#degrees") == degrees
            page.evaluate("document.activeElement.blur()")
            page.keyboard.press("KeyF")
            page.wait_for_selector("#futures button:nth-child(4)")
            page.keyboard.press("Period")
            until(lambda: page.evaluate(STEP) == 1)
            several.append(len(set(page.evaluate(pictures))))
            page.keyboard.press("Escape")
            page.wait_for_selector("#futures", state="hidden")
        assert several[0] == 1 < several[1]
        page.focus("#temperature")
        page.keyboard.press("ArrowLeft")
        page.reload()
        mode(page, "ready")
        assert page.inner_text("#degrees") == "1.95"  # the dream keeps it


def test_a_world_that_does_not_open_can_be_tried_again(visit, tmp_path):
    world, broken = tiny_world(), {"first"}

    def dream(name):
        if name in broken:
            raise FileNotFoundError(f"the folder of the {name} world is gone")
        return DreamScene(DreamEnv(world, "codes"))

    with served({"first": lambda: dream("first"), "second": lambda: dream("second")}) as address, visit() as ready:
        page = visit.watched(ready.context)
        page.goto(address)
        mode(page, "failed")
        assert "the folder of the first world is gone. Click to try again." in page.inner_text("#veil")
        assert inside(page, "#veil-more", "#screen") and page.inner_text("#state") == "Not opened"
        keep(page, "failed", tmp_path)
        page.click("#veil")
        page.wait_for_selector("#veil:not(.busy)")
        mode(page, "failed")
        broken.clear()
        page.click("#veil")
        mode(page, "ready")
        page.click("#veil")
        played(page)
        broken.add("second")
        page.select_option("#world", "second")
        page.wait_for_selector("#note:has-text('second world is gone')")
        assert page.input_value("#world") == "first"
        broken.clear()
        page.select_option("#world", "second")
        until(lambda: page.title().startswith("second"))


def test_an_end_says_what_to_do(visit, tmp_path):
    with visit() as page:
        page.select_option("#world", "short")
        until(lambda: page.title().startswith("short"))
        page.keyboard.down("Digit1")
        mode(page, "ended")
        page.keyboard.up("Digit1")
        assert "Time is up" in page.inner_text("#veil") and "Tap or press R for a new one" in page.inner_text("#veil")
        assert inside(page, "#veil-more", "#screen")
        keep(page, "ended", tmp_path)
        page.click("#veil")
        until(lambda: page.evaluate(STEP) < 4)


@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_a_film_is_downloaded(kind, visit):
    with visit() as page:
        page.keyboard.press("Digit1")
        played(page)
        with page.expect_download() as download:
            page.click(f"#transport button:has-text('{kind.upper()}')")
        assert download.value.suggested_filename.endswith(f".{kind}")
        magic = {"gif": (0, b"GIF89a"), "mp4": (4, b"ftyp")}[kind]
        data = Path(download.value.path()).read_bytes()
        assert data[magic[0] :].startswith(magic[1])


def test_a_reload_continues_and_a_fifth_tab_has_to_wait(visit):
    with visit() as page:
        page.keyboard.press("Digit1")
        played(page, 3)
        paused(page)
        page.wait_for_timeout(500)  # a step that was under way
        step, pixels = page.evaluate(STEP), page.evaluate(PIXELS)
        page.reload()
        mode(page, "ready")
        assert page.evaluate(STEP) == step and page.evaluate(PIXELS) == pixels
        others = [visit.opened(page.context) for _ in range(3)]
        fifth = page.context.new_page()
        fifth.goto(page.url)
        mode(fifth, "closed")
        assert "4 are playing already" in fifth.inner_text("#veil")
        others[0].close()

        def seated():  # the server hears of the closing a little later
            if fifth.get_attribute("body", "data-mode") == "closed":
                fifth.click("#veil")
            return fifth.get_attribute("body", "data-mode") in ("ready", "playing")

        until(seated)
        others[1].bring_to_front()
        others[1].keyboard.press("Digit1")
        played(others[1])


def test_colours_can_be_chosen_and_are_remembered(visit):
    ground = "getComputedStyle(document.body).backgroundColor"
    with visit(color_scheme="dark") as page:
        dark = page.evaluate(ground)
        page.click("#theme")
        light = page.evaluate(ground)
        assert light != dark and page.inner_text("#theme").strip() == "Light"
        page.reload()
        mode(page, "ready")
        assert page.evaluate(ground) == light


def test_everything_has_a_name_and_focus_is_not_trapped(visit):
    with visit() as page:
        unnamed = page.evaluate("""() => [...document.querySelectorAll('button, select, input, canvas[role]')]
          .filter(one => one.checkVisibility()).filter(one => !(one.getAttribute('aria-label') || one.innerText ||
            one.labels?.[0]?.innerText || one.title)).map(one => one.outerHTML)""")
        assert unnamed == []
        page.keyboard.press("Shift+Slash")
        page.keyboard.press("Slash")
        dialog = page.get_by_role("dialog", name="Keys")
        assert "four futures" in dialog.inner_text()
        page.keyboard.press("Escape")
        assert not dialog.is_visible()
        order = []
        for _ in range(6):
            page.keyboard.press("Tab")
            order.append(page.evaluate("document.activeElement.id || document.activeElement.innerText"))
        assert order == ["world", "help", "theme", "veil", "scrub", "Play"]


def boxes(page, selector):
    """(x, y, width, height) of every visible element, by a name to find it."""
    return page.evaluate(
        """selector => [...document.querySelectorAll(selector)].filter(one => one.checkVisibility())
          .map(one => [one.id || one.innerText, one.getBoundingClientRect()])
          .filter(([, box]) => box.width && box.height)
          .map(([name, box]) => [name, [box.x, box.y, box.width, box.height]])""",
        selector,
    )


def overlapping(named):
    def common(a, b, axis):
        return min(a[axis] + a[axis + 2], b[axis] + b[axis + 2]) - max(a[axis], b[axis])

    return [
        (one, other) for (one, a), (other, b) in combinations(named, 2) if min(common(a, b, 0), common(a, b, 1)) > 1
    ]


def inside(page, inner, outer):
    ((_, (x, y, w, h)),), ((_, (left, top, width, height)),) = boxes(page, inner), boxes(page, outer)
    return left <= x and top <= y and x + w <= left + width + 1 and y + h <= top + height + 1


def assert_tidy(page):
    """Nothing overlaps or leaves the screen's width, and everything to press is large enough for a thumb."""
    width, height = page.viewport_size["width"], page.viewport_size["height"]
    assert overlapping(boxes(page, "header, main > section")) == []
    assert overlapping(boxes(page, "header button, header select, h1, .chip")) == []
    outside = "main button:not(#veil, #futures button), #screen, figure, dl, fieldset, #strip-box"
    assert overlapping(boxes(page, outside)) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert inside(page, "#screen", "#stage")
    for name, (_, y, w, h) in boxes(page, "main button:not(#veil)"):
        assert y + h <= height or width == 768, name  # in the first screen
        assert min(w, h) >= 40, name  # for a thumb


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_nothing_overlaps(width, height, visit, tmp_path):
    phone = width < 500
    with visit(width, height, has_touch=phone, color_scheme="dark" if phone else "light") as page:
        for world in ("VideoGenDream-Toy", "VideoGenReal-Toy"):
            page.select_option("#world", world)
            until(lambda world=world: page.title().startswith(world))
            keep(page, f"{width}-{world}", tmp_path)
            assert_tidy(page)
            assert inside(page, "#veil-say", "#screen")
            picture = boxes(page, "#screen")[0][1]
            assert picture[2] >= 0.9 * min(width, 0.55 * height) or (not phone and picture[3] >= 0.5 * height)


def test_nothing_overlaps_while_looking_back_in_futures_and_at_an_end(visit, tmp_path):
    cut = "() => [...document.querySelectorAll('#futures span')].some(one => one.scrollWidth > one.clientWidth)"
    with visit(has_touch=True) as page:

        def sizes(state):
            for width, height in (SIZES[2], SIZES[0]):
                page.set_viewport_size({"width": width, "height": height})
                keep(page, f"{width}-{state}", tmp_path)
                assert_tidy(page)
                yield

        for number in (1, 2):
            page.keyboard.press("Period")
            until(lambda number=number: page.evaluate(STEP) == number)
        page.keyboard.press("Comma")
        until(lambda: page.evaluate(STEP) == 1)
        assert page.inner_text("#veil-say") == "Step 1 of 2"
        for _ in sizes("looking"):
            assert inside(page, "#veil-say", "#screen") and inside(page, "#veil-more", "#screen")
        page.keyboard.press("KeyF")
        page.wait_for_selector("#futures button:nth-child(4)")
        for _ in sizes("futures"):
            assert overlapping(boxes(page, "#futures button")) == [] and inside(page, "#futures", "#screen")
            assert not page.evaluate(cut)
        page.select_option("#world", "short")
        until(lambda: page.title().startswith("short"))
        page.keyboard.down("Digit1")
        mode(page, "ended")
        for _ in sizes("ended"):
            assert inside(page, "#veil-say", "#screen") and inside(page, "#veil-more", "#screen")


def test_a_page_of_pairs_on_another_machine_keeps_choices_and_saves_them_for_the_tally(visit, browser, tmp_path):
    """`compare` shares this file's browser; the address is not a secure context, as those of other machines are not."""
    videos = list(np.random.default_rng(0).integers(256, size=(2, 2, 2, 1, 16, 16, 3), dtype=np.uint8))
    _write(tmp_path, {"page": "p", "pairs": 2, "seed": 0}, {}, videos, 1, CompareConfig(pairs=2, scale=1), 10.0)
    with served_files(tmp_path) as address, closing(browser.new_context()) as context:
        page = visit.watched(context)
        page.goto(address.replace("127.0.0.1", "lan.test"))
        assert not page.evaluate("isSecureContext")
        until(lambda: page.evaluate("[...document.querySelectorAll('video')].every(one => one.readyState > 1)"))
        assert page.locator("video").count() == 4 and page.inner_text("#count") == "0 of 2 chosen."
        for pair, choice in ((0, "right"), (0, "left"), (1, "same")):
            page.click(f"[data-pair='{pair}'][data-choice='{choice}']")
        page.reload()
        assert page.inner_text("#count") == "2 of 2 chosen."
        assert page.locator("button.chosen").all_inner_texts() == ["left is better", "no difference"]
        with page.expect_download() as download:
            page.click("#save")
        assert download.value.suggested_filename == "choices.json"
        counted = tally([download.value.path()])
    assert counted == (Tally(1, 0, 1) if a_is_left(2, 0)[0] else Tally(0, 1, 1))


def test_a_page_whose_server_has_gone_offers_to_try_again_whatever_is_pressed(visit, browser):
    world = tiny_world()
    with closing(browser.new_context()) as context:
        page = context.new_page()
        with served({"dream": lambda: DreamScene(DreamEnv(world, "codes"))}) as address:
            page.goto(address)
            mode(page, "ready")
        mode(page, "closed")
        for key in ("KeyR", "Period", "KeyF", "Digit1"):
            page.keyboard.press(key)
            page.wait_for_timeout(100)
            assert page.inner_text("#veil") == "The connection is closed.\nClick to try again."


def test_pages_that_may_keep_nothing_can_be_played_and_voted_on(visit, browser, tmp_path):
    videos = list(np.zeros((2, 1, 2, 1, 16, 16, 3), np.uint8))
    _write(tmp_path, {"page": "p", "pairs": 1, "seed": 0}, {}, videos, 1, CompareConfig(pairs=1, scale=1), 10.0)
    with served_files(tmp_path) as pairs, closing(browser.new_context()) as context:
        context.add_init_script("""for (const name of ["localStorage", "sessionStorage"])
          Object.defineProperty(window, name, {get() { throw new DOMException("denied", "SecurityError"); }});""")
        page = visit.opened(context)
        page.keyboard.press("Digit1")
        played(page)
        page.click("#theme")
        assert page.inner_text("#theme").strip() == "Light"
        page.goto(pairs)
        page.click("[data-choice='left']")
        assert page.inner_text("#count") == "1 of 1 chosen."


def test_a_page_of_other_pairs_does_not_begin_with_the_choices_of_an_earlier_one(visit, browser, tmp_path):
    videos = list(np.zeros((2, 1, 2, 1, 16, 16, 3), np.uint8))
    with served_files(tmp_path) as address, closing(browser.new_context()) as context:
        page = visit.watched(context)
        for seed in (0, 1):
            about = {"page": "p", "pairs": 1, "seed": seed}
            _write(tmp_path, about, {}, videos, 1, CompareConfig(pairs=1, scale=1, seed=seed), 10.0)
            page.goto(f"{address}?{seed}")  # not from the browser's cache, which is kept for a second
            assert page.inner_text("#count") == "0 of 1 chosen."
            page.click("[data-choice='left']")

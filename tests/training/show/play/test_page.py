"""The page in a real browser: keys, pointer, touch and gamepad."""

from contextlib import closing
from pathlib import Path

import pytest

from tests.tiny import tiny_world
from tests.training.show.play.browsing import PIXELS, STEP, inside, keep, mode, needs_browser, paused, played, until
from tests.training.show.play.test_server import served
from worldmodel.envs import DreamEnv
from worldmodel.training.show.scenes import DreamScene

pytestmark = needs_browser


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

"""The layout of the page on screens of all sizes, its names and its colours, in a real browser."""

from itertools import combinations

import pytest

from tests.training.show.play.browsing import STEP, boxes, inside, keep, mode, needs_browser, until

pytestmark = needs_browser

SIZES = [(360, 640), (768, 1024), (1280, 800), (1920, 1080)]


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


def overlapping(named):
    def common(a, b, axis):
        return min(a[axis] + a[axis + 2], b[axis] + b[axis + 2]) - max(a[axis], b[axis])

    return [
        (one, other) for (one, a), (other, b) in combinations(named, 2) if min(common(a, b, 0), common(a, b, 1)) > 1
    ]


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

"""The page of pairs that `compare` writes, in a real browser."""

from contextlib import closing

import numpy as np

from tests.training.show.play.browsing import needs_browser, played, until
from tests.training.show.web.sites import served as served_files
from worldmodel.training.show.compare import CompareConfig, _write
from worldmodel.training.show.votes import Tally, a_is_left, tally

pytestmark = needs_browser


def test_a_page_of_pairs_on_another_machine_keeps_choices_and_saves_them_for_the_tally(visit, browser, tmp_path):
    """The address is not a secure context, as those of other machines are not."""
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

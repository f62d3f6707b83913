"""The page in a real browser: what its tests look for and wait for.

Screenshots are kept in the folder that SCREENSHOTS names, else in pytest's own temporary folder.
"""

import os
import shutil
import time
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no browser here: apt-get install chromium")

# Asks in the page which step is shown, and for a sum of the picture's pixels.
STEP = "() => Number(document.querySelector('#scrub').value)"
PIXELS = """() => { const c = document.querySelector('#picture');
  const {data} = c.getContext('2d').getImageData(0, 0, c.width, c.height);
  return data.reduce((sum, n, i) => sum + n * (i % 97), 0); }"""


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


def boxes(page, selector):
    """(x, y, width, height) of every visible element, by a name to find it."""
    return page.evaluate(
        """selector => [...document.querySelectorAll(selector)].filter(one => one.checkVisibility())
          .map(one => [one.id || one.innerText, one.getBoundingClientRect()])
          .filter(([, box]) => box.width && box.height)
          .map(([name, box]) => [name, [box.x, box.y, box.width, box.height]])""",
        selector,
    )


def inside(page, inner, outer):
    ((_, (x, y, w, h)),), ((_, (left, top, width, height)),) = boxes(page, inner), boxes(page, outer)
    return left <= x and top <= y and x + w <= left + width + 1 and y + h <= top + height + 1

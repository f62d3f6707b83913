"""The shipped worlds dream the same in Chromium as in Python."""

import pytest
import torch

from tests.training.show.web.dreams import by_env, plan
from tests.training.show.web.sites import CHROMIUM, DREAM, real_runtime, served
from tests.training.show.web.test_export import assert_same
from worldmodel.model import WorldModel
from worldmodel.training.show.web.export import export_web
from worldmodel.training.show.web.onnx_files import rounded

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no browser here: apt-get install chromium"),
]
MOST = 25_000_000  # bytes of a folder


# The tables of a checkerboard take 4.2 MB, two more layers 1.9 MB.
@pytest.mark.parametrize(
    ("name", "more"), [("doom-hg", 0), ("doom-take-cover", 6_100_000), ("doom-defend-the-center", 0)]
)
def test_fifty_steps_in_chromium_have_the_codes_of_a_dream_env(name, more, tmp_path):
    from playwright.sync_api import sync_playwright

    real_runtime(tmp_path / "runtime")
    site = export_web(name, out=tmp_path / "site", runtime=tmp_path / "runtime")
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) <= MOST + more
    world = rounded(WorldModel.from_pretrained(name, dtype=torch.float32))
    actions = plan(world, 50)
    with served(site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"{address}world.json")
        found = page.evaluate(DREAM, [1, actions, 1.0])
        browser.close()
    assert_same(found, by_env(world, 1, actions))

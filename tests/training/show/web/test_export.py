"""An exported folder holds all that a page needs, and dreams in a browser as a DreamEnv does in Python."""

import dataclasses
import os
import re
import shutil
import time
from contextlib import redirect_stderr
from io import StringIO
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

import worldmodel.progress
from tests.tiny import tiny_world
from tests.training.show.web.dreams import OnnxDream, by_env, plan
from tests.training.show.web.sites import CHROMIUM, DREAM, real_runtime, served
from tests.training.show.web.test_agent import odds_of, save_fresh
from worldmodel.data import ActionSpec
from worldmodel.dynamics.sampling import uniforms
from worldmodel.envs import DreamEnv
from worldmodel.envs.dream.start_states import pick_and_seed
from worldmodel.envs.vectors import key_of
from worldmodel.files import read_json
from worldmodel.layers import precision
from worldmodel.media.read import images_per_second, read_images
from worldmodel.model import WorldModel
from worldmodel.training.show.play.keys import Keys
from worldmodel.training.show.web.agent import open_agent
from worldmodel.training.show.web.export import export_web, graphs
from worldmodel.training.show.web.onnx_files import halve, rounded
from worldmodel.training.show.web.runtime import GIF, PLAIN, WEBGPU

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no browser here: apt-get install chromium")
GRAPHS = ("pass", "draw", "picture")
STEP = "() => Number(document.querySelector('#scrub').value)"
PIXELS = """() => { const c = document.querySelector('#picture');
  const {data} = c.getContext('2d').getImageData(0, 0, c.width, c.height);
  return data.reduce((sum, n, i) => sum + n * (i % 97), 0); }"""
CANVAS = """() => { const c = document.querySelector('#picture');
  return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data); }"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A toy world on the disk, with one layer, since every operation takes time to export."""
    world = tiny_world(first=4, layers=1)
    world.config = dataclasses.replace(world.config, steps_per_second=30.0)
    folder = tmp_path_factory.mktemp("world")
    world.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def agent_folder(folder, tmp_path_factory):
    """An agent that sees two steps, and what it did."""
    agent = tmp_path_factory.mktemp("agent")
    save_fresh(WorldModel.from_pretrained(folder), agent, "features", frame_stack=2, previous_action=True)
    return agent


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """Files with the names of the runtime's files."""
    folder = tmp_path_factory.mktemp("runtime")
    for name in (*PLAIN, *WEBGPU, GIF):
        (folder / name).write_text(name)
    return folder


@pytest.fixture(scope="module")
def exported(folder, agent_folder, runtime, tmp_path_factory):
    """An export that counts as long, where bfloat16 is fast, and what it wrote to standard error."""
    out = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(StringIO()) as said:
        patch.setattr(precision, "multiplies_bf16", lambda: True)  # weights are not rounded to it
        patch.setattr(worldmodel.progress, "LONG", 0.0)
        site = export_web(folder, out=out, agent=agent_folder, title="Toy", seed=3, runtime=runtime)
    return site, said.getvalue()


@pytest.fixture(scope="module")
def site(exported):
    return exported[0]


@pytest.fixture(scope="module")
def world(folder):
    return rounded(WorldModel.from_pretrained(folder, dtype=torch.float32))


@pytest.fixture(scope="module")
def dream(world, site):
    return OnnxDream(world, {name: (site / f"{name}.onnx").read_bytes() for name in GRAPHS})


def assert_same(found, wanted):
    assert found["codes"] == wanted.codes and found["ended"] == wanted.ended
    for name in ("rewards", "nll", "signals"):
        np.testing.assert_allclose(found[name], getattr(wanted, name), rtol=1e-3, atol=2e-3, err_msg=name)
    difference = np.abs(np.array(found["frames"], int) - wanted.frames.ravel())
    assert difference.max() <= 1  # a pixel on the border of two numbers


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fifty_steps_of_the_graphs_have_the_codes_of_a_dream_env(world, dream, seed):
    actions = plan(world, 50)
    found = dream.dream(seed, actions)
    assert_same(found._asdict() | {"frames": found.frames.ravel()}, by_env(world, seed, actions))


def test_the_likeliest_codes_are_drawn_at_temperature_0(world, dream):
    actions = plan(world, 5)
    assert dream.dream(0, actions, 0.0).codes == by_env(world, 0, actions, 0.0).codes


def test_drawn_ends_are_those_of_a_dream_env():
    world = tiny_world(first=4, layers=1, heads={"ends": "drawn"})
    world.heads.end_shift.fill_(-1.0)
    world = rounded(world)
    dream, actions = OnnxDream(world, {name: make() for name, make in graphs(world).items()}), plan(world, 50)
    lengths = set()
    for seed in range(8):
        found = dream.dream(seed, actions)
        assert_same(found._asdict() | {"frames": found.frames.ravel()}, by_env(world, seed, actions))
        lengths.add(len(found.ended))
    assert len(lengths) > 3 and max(lengths) < 50
    assert dream.dream(0, actions, 0.0).ended == by_env(world, 0, actions, 0.0).ended


def test_the_folder_holds_the_play_page_the_world_and_the_runtime(site):
    files = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    page = {"index.html", "page.css", "main.js", "panel.js", "line.js", "worker.js"}
    world = {"world.json", "starts.safetensors", *(f"{name}.onnx" for name in (*GRAPHS, "agent"))}
    assert page | world | {f"runtime/{name}" for name in PLAIN} <= files
    assert not {f"runtime/{name}" for name in WEBGPU} & files
    assert "WebSocket" not in (site / "line.js").read_text()
    about = read_json(site / "world.json")
    assert (about["title"], about["seed"], about["fps"]) == ("Toy", 3, 30.0)


def test_a_long_export_shows_how_far_it_is(exported):
    assert "export: 100%" in exported[1] and "6/6" in exported[1] and "agent.onnx" in exported[1]


def test_the_folder_says_how_to_serve_it(site):
    text = (site / "README.txt").read_text()
    assert text.startswith("Toy: a dream") and "python -m http.server\n" in text and "http://localhost:8000" in text


def test_a_folder_that_is_no_export_is_not_replaced(folder, runtime, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="is not an earlier export, and would be replaced"):
        export_web(folder, out=tmp_path, runtime=runtime)
    assert (tmp_path / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("name", ["CNAME", ".git"])
def test_files_beside_an_earlier_export_are_not_deleted(folder, runtime, tmp_path, name):
    for known in ("world.json", "index.html", "draw.onnx", "line.js", "README.txt", name):
        (tmp_path / known).write_text("dear")
    with pytest.raises(ValueError, match=f"holds {re.escape(name)} beside an earlier export, which would be deleted"):
        export_web(folder, out=tmp_path, runtime=runtime)
    assert (tmp_path / name).read_text() == "dear"


def test_a_missing_runtime_leaves_the_earlier_export_as_it_was(folder, site, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*")}
    with pytest.raises(FileNotFoundError, match="holds no ort"):
        export_web(folder, out=site, runtime=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in site.rglob("*")} == before


@pytest.mark.parametrize(
    ("options", "message"), [({"temperature": -1.0}, "temperature must be 0"), ({"seed": -1}, "seed must be from 0")]
)
def test_options_without_meaning_are_refused(folder, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export_web(folder, out=tmp_path / "site", **options)


# --- in the browser -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(site):
    shutil.rmtree(site / "runtime")
    real_runtime(site / "runtime")
    with served(site) as address:
        yield address


@pytest.fixture(scope="module")
def page(address):
    """The page, ready to play; checks afterwards that it had no error."""
    from playwright.sync_api import sync_playwright

    errors = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        mode(page, "ready")
        yield page
        browser.close()
    assert errors == []


def mode(page, name):
    page.wait_for_selector(f"body[data-mode={name}]")


def until(page, condition):
    deadline = time.monotonic() + 30
    while not condition(page.evaluate(STEP)):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@needs_chromium
def test_fifty_steps_in_the_browser_have_the_codes_of_a_dream_env(page, world):
    for seed, temperature in ((0, 1.0), (1, 0.7)):
        actions = plan(world, 50)
        assert_same(page.evaluate(DREAM, [seed, actions, temperature]), by_env(world, seed, actions, temperature))


@needs_chromium
def test_keys_starts_and_noise_are_the_librarys_numbers(page):
    seeds = [0, 1, 12345, 2**32, 2**53 - 1]
    found = page.evaluate(
        """async seeds => {
          const {branchSeed, keyOf, pickAndSeed, uniforms} = await import(new URL("noise.js", location.href).href);
          return seeds.map(one => {
            const key = keyOf(one), {pick, seed} = pickAndSeed(key, 2, 1000);
            return [key, pick, seed, branchSeed(seed, 3), ...uniforms(key, one, 5)].map(String);
          });
        }""",
        seeds,
    )
    for one, numbers in zip(seeds, found, strict=True):
        key = key_of(one)
        pick, seed = pick_and_seed(torch.tensor([key]), torch.tensor([2]), 1000)
        noise = uniforms(torch.tensor([key]), torch.tensor([one]), 5)[0].tolist()
        assert numbers[:4] == [str(n) for n in (key, pick.item(), seed.item(), seed.item() ^ 3 * 0x9E3779B1)]
        assert [float(n) for n in numbers[4:]] == noise


@needs_chromium
def test_keys_play_the_dream_and_time_goes_back_and_parts(page, tmp_path):
    assert page.inner_text("#veil").startswith("Tap or press a key to begin")
    first = page.evaluate(PIXELS)
    page.keyboard.down("Digit1")
    until(page, lambda step: step >= 12)
    page.keyboard.up("Digit1")
    page.keyboard.press("KeyP")
    mode(page, "paused")
    assert page.evaluate(PIXELS) != first
    before = page.evaluate(STEP)
    page.keyboard.press("Comma")
    until(page, lambda step: step == before - 1)
    page.keyboard.press("Backspace")
    until(page, lambda step: step == before - 9)
    page.keyboard.press("KeyF")
    page.wait_for_selector("#futures canvas")
    page.keyboard.press("Period")
    until(page, lambda step: step == before - 8)
    page.keyboard.press("Shift+Digit3")
    page.wait_for_selector("#futures", state="hidden")
    assert page.inner_text("#note") == "The dream continues as future 3."
    assert page.evaluate(STEP) == before - 8
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    page.screenshot(path=folder / "export-web.png")


@needs_chromium
def test_the_steps_are_saved_as_a_film_and_as_a_gif(page, site, tmp_path):
    if not (site / "runtime" / GIF).is_file():
        pytest.skip("no gifenc here")
    page.keyboard.press("KeyR")
    until(page, lambda step: step == 0)
    for number in range(1, 4):
        page.keyboard.press("Period")
        until(page, lambda step, number=number: step == number)
    shown = np.array(page.evaluate(CANVAS)).reshape(16, 16, 4)[..., :3]
    assert shown.mean() > 40  # not black
    for key in ("KeyX", "KeyC"):
        with page.expect_download() as download:
            page.keyboard.press(key)
        name = download.value.suggested_filename
        assert name in (("Toy-4-0-3.gif",) if key == "KeyX" else ("Toy-4-0-3.mp4", "Toy-4-0-3.webm"))
        download.value.save_as(tmp_path / name)
        mode(page, "paused")
        assert page.inner_text("#note") == f"Saved {name}."
        frames = read_images(tmp_path / name, 3).frames.astype(int)
        if key == "KeyX":  # 60 images a second, of which browsers would show each for 0.1 s
            assert len(frames) == 4 and images_per_second(tmp_path / name) == pytest.approx(30, abs=1)
        assert len(frames) > 1  # a busy machine films fewer
        assert frames.shape[1:] == (72, 72, 3)  # 16 pixels and the orange around them, four times as large
        assert np.abs(frames[:, :3] - (230, 159, 0)).max() < 40
        error = np.abs(frames[-1, 4:-4:4, 4:-4:4] - shown)
        assert error.max() <= 8 if key == "KeyX" else error.mean() < 8


@needs_chromium
def test_a_folder_opened_by_a_double_click_says_to_serve_it(page, site):
    other = page.context.new_page()
    other.goto((site / "index.html").as_uri())
    other.get_by_text("This folder must be served").wait_for()
    assert "Run “python -m http.server” in this folder, then open http://localhost:8000" in other.inner_text("#veil")
    other.close()


@needs_chromium
def test_keys_mean_the_same_actions_as_in_python(page):
    names = ("noop", "move_forward", "turn_left", "attack", "move_forward+attack", "move_forward+turn_left+attack")
    keys = Keys(ActionSpec(kind="discrete", n=len(names), names=names))
    codes = [bound[0] for bound, _ in keys.bindings if bound]
    held = [list(some) for count in range(4) for some in permutations(codes, count)]
    found = page.evaluate(
        """async ([names, bindings, held]) => {
          const {actionOf} = await import(new URL("wheel.js", location.href).href);
          return held.map(keys => actionOf(keys, {action: {kind: "discrete", names}, bindings}));
        }""",
        [names, keys.bindings, held],
    )
    assert found == [keys.action(some) for some in held]


@needs_chromium
def test_blind_policies_and_the_agent_play_by_themselves(page):
    page.keyboard.press("KeyR")
    for who in ("random", "sticky", "agent"):
        page.click(f"#wheel label:has-text('{who}')")
        before = page.evaluate(STEP)
        until(page, lambda step, before=before: step >= before + 3)
    page.click("#wheel label:has-text('you')")


@needs_chromium
def test_the_agent_on_the_page_does_what_the_agent_does_in_python(page, world, agent_folder):
    found = page.evaluate(
        """async () => {
          const [{openWorld}, {Session}] = await Promise.all(["world.js", "session.js"].map(
            name => import(new URL(name, location.href).href)));
          const session = new Session(await openWorld(() => {}), 5);
          await session.answer({do: "drive", who: "agent"});
          for (let step = 0; step < 10; step++) await session.answer({do: "step"});
          await session.answer({do: "back", to: 6});  // it sees the same again
          for (let step = 6; step < 10; step++) await session.answer({do: "step"});
          return session.moments.slice(1).map(moment => [moment.action, Array.from(moment.state.codes)]);
        }"""
    )
    agent, env, wanted = open_agent(agent_folder, world), DreamEnv(world, "features"), []
    halve(agent.policy)
    observation, _ = env.reset(seed=5)
    for step in range(10):
        agent.act(observation[None])
        odds = odds_of(agent)
        noise = float(uniforms(torch.tensor([5]), torch.tensor([step]), 1))
        action = int((odds.cumsum() <= noise * odds.sum()).sum())
        agent.acted(np.array([action]))
        observation, _, terminated, _, _ = env.step(action)
        wanted.append([action, env.state.codes.flatten().tolist()])
        if terminated:
            break
    assert found == wanted and len({action for action, _ in wanted}) > 1


@needs_chromium
def test_the_dream_of_a_chosen_seed_equals_that_of_an_env(page, address, world):
    other = page.context.new_page()
    other.goto(f"{address}?seed=1")
    mode(other, "ready")
    other.click("#single")
    for count in range(1, 4):
        other.keyboard.press("Digit2")
        until(other, lambda step, count=count: step == count)
    wanted = by_env(world, 1, [2, 2, 2])
    names, values = (other.locator(f"#numbers {tag}").all_inner_texts() for tag in ("dt", "dd"))
    shown = dict(zip(names, values, strict=True))["Return"]
    assert float(shown.replace("−", "-").replace(",", "")) == pytest.approx(sum(wanted.rewards), abs=0.01)
    other.close()


@needs_chromium
def test_an_address_with_a_wrong_seed_says_so(page, address):
    other = page.context.new_page()
    other.goto(f"{address}?seed=x")
    mode(other, "closed")
    assert "seed must be a whole number" in other.inner_text("#veil")
    other.close()

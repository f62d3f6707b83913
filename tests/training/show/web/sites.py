"""Exported folders in a browser: the runtime from npm, a simple server, and dreams read from the page."""

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gymnasium.error import DependencyNotInstalled

from worldmodel.training.show.web.runtime import PLAIN, copy_runtime

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# Dreams in the page as its worker does: codes of each step, and the last picture.
DREAM = """async ([seed, actions, temperature]) => {
  const [{openWorld}, {begin, step, picture}] = await Promise.all(["world.js", "dream.js"].map(
    name => import(new URL(name, location.href).href)));
  const world = await openWorld(() => {}), dreamt = {codes: [], rewards: [], nll: [], signals: [], ended: []};
  let state = await begin(world, seed);
  for (const action of actions) {
    const out = await step(world, state, action, temperature);
    state = out.state;
    dreamt.codes.push(Array.from(state.codes));
    dreamt.rewards.push(out.reward);
    dreamt.nll.push(out.nll);
    dreamt.signals.push(Array.from(state.signals));
    dreamt.ended.push(out.ended);
    if (out.ended) break;
  }
  return {...dreamt, frames: Array.from(await picture(world, state))};
}"""


def real_runtime(folder: Path) -> None:
    """Put onnxruntime-web at `folder`; skips the test where there is none."""
    given = os.environ.get("ONNXRUNTIME_WEB")
    try:
        copy_runtime(folder, PLAIN, None if given is None else Path(given))
    except (DependencyNotInstalled, FileNotFoundError) as error:
        pytest.skip(f"no onnxruntime-web here: {error}")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder, as `python -m http.server` gives it."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()

"""How fast an exported world dreams in Chromium: time to the first image, and steps per second.

Usage: ``python benchmarks/web.py [doom-hg] [--runtime FOLDER] [--seconds 10] [--cores 1]``. The bars are 25 MB, 5 s and
8.75 steps a second on one core. The page is served by Python from the disk, and loaded with an empty cache. Steps are
those of the page's worker (pass, draw, decode) at full speed. Rates are given by the clock and by processor time; on a
busy machine only the latter can be compared. ``--webgpu`` lets Chromium compute on a graphics card or its emulation.
"""

import argparse
import contextlib
import functools
import http.server
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

from machine import describe

from worldmodel.training.show.web.export import export_web

STEPS = """async seconds => {
  const [{openWorld}, {begin, step, picture}] = await Promise.all(["world.js", "dream.js"].map(
    name => import(new URL(name, location.href).href)));
  const world = await openWorld(() => {}), times = [];
  let {state} = await step(world, await begin(world, 0), 0, 1);  // from here on everything is ready
  await picture(world, state);
  for (const until = performance.now() + 1000 * seconds; performance.now() < until;) {
    const before = performance.now();
    ({state} = await step(world, state, 0, 1));
    await picture(world, state);
    times.push(performance.now() - before);
  }
  return {by: world.fast, times};
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def busy() -> float:
    """Processor time of the browser in seconds: of all processes that descend from this one."""
    parents, times = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)], times[int(stat.parent.name)] = int(fields[1]), sum(map(int, fields[11:13]))
    mine = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return sum(times[pid] for pid in mine - {os.getpid()}) / os.sysconf("SC_CLK_TCK")


def measure(site: Path, seconds: float, gpu: bool, loads: int = 3) -> None:
    from playwright.sync_api import sync_playwright

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    flags = ["--no-sandbox", *(["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"] if gpu else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        first = []
        for _ in range(loads):
            page = browser.new_context().new_page()
            page.set_default_timeout(120_000)
            begun, used = time.perf_counter(), busy()
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.wait_for_selector("body[data-mode=ready]")
            first.append((time.perf_counter() - begun, busy() - used))
        page.goto("about:blank")
        page.goto(f"http://127.0.0.1:{server.server_port}/world.json")  # the same origin, without a page that works
        used = busy()
        page.evaluate(STEPS, 0)
        opening = busy() - used
        used = busy()
        found = page.evaluate(STEPS, seconds)
        used = busy() - used - opening
        browser.close()
    server.shutdown()
    times = sorted(found["times"])
    print("first picture after", ", ".join(f"{wall:.1f} s (processor time {cpu:.1f} s)" for wall, cpu in first))
    print(
        f"{1000 * len(times) / sum(times):.1f} steps/s by {found['by']}; a step takes {times[len(times) // 2]:.0f} ms "
        f"(median), {times[int(0.95 * len(times))]:.0f} ms (95 %)"
    )
    print(f"{len(times) / used:.1f} steps per second of processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("world", nargs="?", default="doom-hg")
    parser.add_argument("--runtime", type=Path, default=None, help="folder of onnxruntime-web; else npm fetches it")
    parser.add_argument("--seconds", type=float, default=10.0, help="of steps")
    parser.add_argument("--cores", type=int, default=1, help="for the browser and the server together")
    parser.add_argument("--webgpu", action="store_true")
    arguments = parser.parse_args()
    describe("cpu")
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        site = export_web(
            arguments.world, out=Path(folder) / "site", runtime=arguments.runtime, webgpu=arguments.webgpu
        )
        print(f"exported in {time.perf_counter() - begun:.0f} s")
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, list(os.sched_getaffinity(0))[: arguments.cores])
        measure(site, arguments.seconds, arguments.webgpu)


if __name__ == "__main__":
    main()

"""Export a world as a folder in which it dreams in the visitor's browser: `videogen-dream export-web`.

The folder holds the play page, the world as ONNX graphs, where its dreams begin, and the runtime that computes them.
"""

import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from worldmodel.dynamics.gpt.gpt import GPT
from worldmodel.envs.registry import load_model, steps_per_second
from worldmodel.envs.spaces import observation_space
from worldmodel.files import write_json, write_text
from worldmodel.layers.defaults import own_defaults
from worldmodel.layers.position import angular_speeds
from worldmodel.model import WorldModel
from worldmodel.model.checks import check_dreams
from worldmodel.progress import progress_if_long
from worldmodel.replacing import finish_replacing, replacing
from worldmodel.settings import check_temperature
from worldmodel.training.show.play.keys import Keys
from worldmodel.training.show.play.looking import code_colors, usual_surprise
from worldmodel.training.show.web.agent import about_agent, agent_graph, open_agent
from worldmodel.training.show.web.graphs import Drawing, Pass, check_exportable
from worldmodel.training.show.web.onnx_files import check_onnx, rounded, to_onnx
from worldmodel.training.show.web.picture import Picture
from worldmodel.training.show.web.runtime import GIF, PLAIN, WEBGPU, copy_runtime

_ABOUT, _STARTS, _README_NAME = "world.json", "starts.safetensors", "README.txt"
_README = """{title}: a dream of a world model, by VideoGenDream.

A double click on index.html does not suffice, since browsers load such pages from servers only. In this folder, run

    python -m http.server

(python3, or py, on some machines), and open http://localhost:8000 in a browser. Or copy the folder to any host of
static files. Nothing else is needed: everything is computed in the browser.
"""
_LARGEST_SEED = 2**53 - 1  # the largest integer to which the page can add one


@own_defaults
def export_web(
    world: str | os.PathLike,
    /,
    out: str | Path,
    agent: str | Path | None = None,
    title: str = "",
    temperature: float = 1.0,
    seed: int = 0,
    webgpu: bool = False,
    runtime: str | Path | None = None,
) -> Path:
    """Export a world as a static folder in which it dreams in the visitor's browser; nothing else is needed.

    Args:
        world: shipped name, run folder, checkpoint folder or hub id.
        out: folder to write; an earlier export is replaced, unless there is anything else in its folder.
        agent: folder of a saved agent that was trained in this world's dreams, which can take over on the page.
        title: what the page calls the world; by default its name.
        temperature: of the dreams; the page can change it.
        seed: of the first dream; a visitor chooses another with ?seed=7 in the address.
        webgpu: add the runtime that computes on the visitor's graphics card where the browser can. Others get the
            plain one, as without this option.
        runtime: folder that holds onnxruntime-web, instead of fetching it from npm; without gifenc.esm.js in it, the
            page saves no GIFs.

    Returns: the folder. Its size, and how to serve it, are printed.
    """
    check_onnx()
    check_temperature(temperature)
    if not 0 <= seed <= _LARGEST_SEED:
        raise ValueError(f"seed must be from 0 to 2**53 - 1, the integers that a browser counts in, got {seed}")
    target = Path(out)
    finish_replacing(target)
    _check_replaceable(target)
    model = load_model(world, "cpu", torch.float32)
    check_dreams(model)
    check_exportable(model)
    if model.starts is None:
        raise ValueError("this world has no starts, so no dream can begin: train-dynamics saves them with the world")
    starts = save(model.starts.packed())
    player = None if agent is None else open_agent(agent, model)
    model = rounded(model)
    names = {"plain": PLAIN} | ({"webgpu": WEBGPU} if webgpu else {})
    parts = graphs(model) | ({} if player is None else {"agent": partial(agent_graph, player, model)})
    title = title or _name_of(world)
    with replacing(target) as folder, progress_if_long(len(parts) + 2, "part", "export") as bar:
        bar.note("runtime")
        copy_runtime(folder / "runtime", [name for pair in names.values() for name in pair], runtime)
        bar.update()
        bar.note(_ABOUT)
        about = about_world(model, title) | {"temperature": temperature, "seed": seed, "runtime": names}
        about |= {"agent": None if player is None else about_agent(player), "gif": (folder / "runtime" / GIF).is_file()}
        write_json(folder / _ABOUT, about)
        (folder / _STARTS).write_bytes(starts)
        _copy_page(folder, title)
        bar.update()
        for name, make in parts.items():
            bar.note(f"{name}.onnx")
            (folder / f"{name}.onnx").write_bytes(make())
            bar.update()
    _report(target)
    return target


def graphs(world: WorldModel) -> dict[str, Callable[[], bytes]]:
    """What makes the ONNX graphs of a step, by name: its pass, its draw, its picture."""
    dynamics, config = world.dynamics, world.config
    assert isinstance(dynamics, GPT)
    tokens, slices = dynamics.tokens_per_step, dynamics.num_slices
    layers, (heads, _, _, features) = dynamics.cache_shape
    past = dynamics.config.window - 1
    codes, action = torch.zeros(tokens, slices, dtype=torch.int32), torch.zeros(config.action.num_features)
    first, ring = torch.zeros(()), torch.zeros(layers, heads, past, tokens, features)
    of_pass: Mapping[str, Tensor] = {
        "codes": codes,
        "action": action,
        "first": first,
        "keys": ring,
        "values": ring.clone(),
        "hidden": torch.zeros(past),
        "turn": torch.zeros(2, features),
    }
    of_draw: Mapping[str, Tensor] = {
        "outputs": torch.zeros(tokens, dynamics.config.width),
        "before": codes,
        "first": first,
        "noise": torch.zeros(tokens, slices),
        "temperature": torch.ones(()),
        "signals": torch.zeros(len(config.signal_names)),
        "action": action,
        "chance": torch.zeros(()),
    }
    drawn = ["codes", "nll", "entropy", "reward", "probability", "ended", "after"]
    return {
        "pass": partial(to_onnx, Pass(world), of_pass, ["outputs", "new_keys", "new_values"]),
        "draw": partial(to_onnx, Drawing(world), of_draw, drawn),
        "picture": partial(to_onnx, Picture(world), {"codes": codes}, ["frames"]),
    }


def about_world(world: WorldModel, title: str) -> dict[str, Any]:
    """What the page needs to know about a world besides its weights."""
    dynamics, config, tokenizer = world.dynamics, world.config, world.tokenizer
    assert isinstance(dynamics, GPT)
    layers, (heads, window, tokens, features) = dynamics.cache_shape
    action = config.action
    return {
        "format": 1,
        "title": title,
        "action": {
            "kind": action.kind,
            "features": action.num_features,
            "frames": action.frames,
            "names": list(action.held.names),
            "low": list(action.held.low),
            "high": list(action.held.high),
            "count": action.held.n,
        },
        "bindings": Keys(action.held).bindings,
        "signals": list(config.signal_names),
        "fps": steps_per_second(config),
        "usual": usual_surprise(world),
        **code_colors(tokenizer),
        "grid": [*tokenizer.grid, tokenizer.num_slices],
        "frames": [world.frames_per_step, *observation_space(world, "rgb").shape[:2], 3],
        "width": dynamics.config.width,
        "lead": dynamics.config.lead,
        "cache": {"layers": layers, "heads": heads, "window": window, "tokens": tokens, "features": features},
        "speeds": angular_speeds(features).tolist() if dynamics.config.position == "rotary-time" else [],
    }


def _check_replaceable(target: Path) -> None:
    """ValueError if `target` is something else than an earlier export, or holds anything besides one."""
    if target.is_file() or (target.is_dir() and any(target.iterdir()) and not (target / _ABOUT).is_file()):
        raise ValueError(f"{target} is not an earlier export, and would be replaced: give another --out, or remove it")
    ours = {
        _ABOUT,
        _STARTS,
        _README_NAME,
        "runtime",
        ".DS_Store",
        *(file.name for page in _pages() for file in page.iterdir()),
    }
    there = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    if others := [name for name in there if name not in ours and not name.endswith(".onnx")]:
        raise ValueError(
            f"{target} holds {', '.join(others)} beside an earlier export, which would be deleted with it: give "
            "another --out and copy the export from there, or move them away"
        )


def _pages() -> list[Traversable]:
    """The folders of the play page and of what this module adds to it or replaces in it."""
    packages = ("worldmodel.training.show.play", "worldmodel.training.show.web")
    return [files(package).joinpath("page") for package in packages]


def _copy_page(folder: Path, title: str) -> None:
    """The play page, with this module's own line: not to a server, but to the world in the page's worker."""
    for source in _pages():
        with as_file(source) as page:
            for file in page.iterdir():
                shutil.copyfile(file, folder / file.name)
    page, head = folder / "index.html", "</head>"
    text = page.read_text(encoding="utf-8")
    assert head in text
    write_text(page, text.replace(head, f'  <script src="file.js" defer></script>\n{head}'))
    write_text(folder / _README_NAME, _README.format(title=title))


def _name_of(world: str | os.PathLike) -> str:
    path = Path(world)
    return path.resolve().name if path.exists() else str(world)


def _report(folder: Path) -> None:
    sizes = {path: path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    for path, size in sizes.items():
        if size >= 100_000:
            print(f"{size / 1e6:8.2f} MB  {path.relative_to(folder)}")
    print(f"{sum(sizes.values()) / 1e6:8.2f} MB in all")
    print(f"Serve it with any static host, or here: python -m http.server -d {shlex.quote(str(folder))}")

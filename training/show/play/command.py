"""Play dreams and real games in a browser: `videogen-dream play`."""

import asyncio
import os
import re
import sys
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from worldmodel.agents.blind.policies import is_scripted
from worldmodel.envs.ids import is_dream, is_env_id
from worldmodel.training.show.play.keys import Keys
from worldmodel.training.show.play.server import check_websockets, serve
from worldmodel.training.show.scenes import open_scene


def play(
    envs: Sequence[str] = ("VideoGenDream-Doom", "VideoGenReal-Doom"),
    /,
    agent: str | Path | None = None,
    world: str | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    host: str = "127.0.0.1",
    port: int = 8765,
    allow_host: Sequence[str] = (),
    browser: bool = True,
    device: str = "auto",
) -> None:
    """Play dreams and real games yourself, in a browser, until Ctrl-C.

    Args:
        envs: ids of real games or of dreams, or worlds, between which the page switches. If a game and a dream of it
            are given, the first such dream can continue from the game's current step, and its world follows the game.
        agent: folder of a saved agent, or a blind policy (docs/collecting.md), which can take over.
        world: world model of the agent's observations in a real game, if it has moved since training; for dreams, the
            world to use instead of the one shipped for the id.
        temperature: temperature of dreams.
        seed: seed of the first episodes.
        host: address to listen on; the default can be reached only from this machine.
        port: port to listen on; 0 takes a free one.
        allow_host: further host names that browsers may use for this machine, besides its own names and addresses.
        browser: open the page in this machine's browser, if there is a screen.
        device: where the worlds run; "auto" takes a GPU if there is one.
    """
    check_websockets()
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    if len(set(envs)) < len(envs):
        raise ValueError(f"the envs must be different, got {', '.join(envs)}")

    def location(name: str) -> str:  # absolute, since starting a game briefly changes the process's working folder
        return str(Path(name).absolute()) if Path(name).is_dir() else name

    blind = agent is not None and is_scripted(str(agent))
    player = "" if agent is None else str(agent) if blind else str(Path(agent).absolute())
    seen = None if world is None else location(world)
    games = {name for name in envs if is_env_id(name) and not is_dream(name)}
    if temperature != 1.0 and games == set(envs):
        raise ValueError(f"--temperature is for dreams, and there is none among {', '.join(envs)}: omit it, or add one")
    # Without an agent no game is observed through the world, which is then for the dreams only.
    unseen = games if (not player or blind) and games != set(envs) else set()
    opening = partial(open_scene, player=player, temperature=temperature, seed=seed, device=device)
    scenes = {name: partial(opening, location(name), world=None if name in unseen else seen) for name in envs}
    for name, opened in scenes.items():  # report errors before serving
        print(f"Checking that {name} can be opened …", flush=True)
        with closing(opened()) as scene:
            Keys(scene.action)

    def announce(address: str) -> None:
        print(f"Open {address} in a browser. Ctrl-C stops.", flush=True)
        if browser and _has_screen():
            here = re.sub(r"//(0\.0\.0\.0|\[::\]):", "//localhost:", address)
            threading.Thread(target=webbrowser.open, args=(here,), daemon=True).start()

    asyncio.run(serve(scenes, host, port, announce, allow_host, str(agent) if blind else "agent"))


def _has_screen() -> bool:
    """Whether a browser would open in a window rather than in this terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

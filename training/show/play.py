"""Play dreams and real games in a browser: `videogen-dream play`."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from worldmodel.training.show.play_server import check_websockets, serve
from worldmodel.training.show.scenes import open_scene


def play(
    envs: Sequence[str] = ("VideoGenDream-Doom",),
    /,
    agent: str | Path | None = None,
    world: str | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    out: str | Path = "runs/play",
    host: str = "127.0.0.1",
    port: int = 8765,
    allow_host: Sequence[str] = (),
    device: str = "auto",
) -> None:
    """Play dreams and real games yourself, in a browser, until Ctrl-C.

    Args:
        envs: ids of real games or of dreams, or worlds to dream of, between which the page switches. A dream that
            follows a real game of its kind continues from where the game stands.
        agent: folder of a saved agent, which can take over.
        world: world through which the agent sees a real game, if it has moved since its training; of dreams, the world
            to dream of in place of the one shipped for the id.
        temperature: temperature of dreams.
        seed: seed of the first episodes.
        out: folder for saved clips.
        host: address to listen on; the default can be reached from this machine alone.
        port: port to listen on; 0 takes a free one.
        allow_host: further names under which browsers may ask for this machine; its own names and addresses always may.
        device: where the worlds run; "auto" takes a GPU if there is one.
    """
    check_websockets()
    if len(set(envs)) < len(envs):
        raise ValueError(f"each of the envs counts once, got {', '.join(envs)}")

    def place(name: str) -> str:  # absolute, since a game that starts moves the process to another folder for a moment
        return str(Path(name).absolute()) if Path(name).is_dir() else name

    player = "" if agent is None else str(Path(agent).absolute())
    seen = None if world is None else place(world)
    scenes = {
        name: partial(open_scene, place(name), player, world=seen, temperature=temperature, seed=seed, device=device)
        for name in envs
    }
    for opened in scenes.values():  # report now what cannot be opened
        with closing(opened()):
            pass

    def announce(address: str) -> None:
        print(f"Open {address} in a browser. Ctrl-C stops.", flush=True)

    asyncio.run(serve(scenes, Path(out), host, port, announce, allow_host))

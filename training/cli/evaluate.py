"""Commands that show or judge what was made, built as those of making_commands.py are."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from worldmodel.training.cli.train import Fields, Function


def make_sample(options: Sequence[str]) -> Function:
    from worldmodel.training.show.sample import SampleConfig, sample_videos

    line = shlex.join(["videogen-dream", "sample", *options])

    def run_sample(
        model: Annotated[str, tyro.conf.Positional],
        out: Path,
        data: Path | None = None,
        frames: Path | None = None,
        actions: tuple[str, ...] = (),
        device: str = "auto",
        config: Annotated[SampleConfig, Fields] = SampleConfig(),  # noqa: B008 (frozen)
    ) -> None:
        """Write a grid of sampled videos as OUT (.mp4 or .gif), and how they were made as a .json beside it.

        Args:
            model: a run folder, a checkpoint folder, a shipped name or a hub id.
            data: store of play of the same game: real clips to go on from, shown beside the videos.
            frames: first frames of your own: .npy, .npz, .mp4, .gif, .png, or a folder of pictures.
            actions: names or numbers, each with *COUNT if it is repeated, such as "turn_right*4 move_forward*8";
                or a .npy file.
            device: where the model runs; "auto" takes a GPU if there is one.
        """
        samples = sample_videos(
            model, out, config, data=data, frames=frames, actions=actions or None, device=device, command=line
        )
        print(samples.legend)

    return run_sample


def make_evaluate_model(options: Sequence[str]) -> Function:
    from dataclasses import asdict

    from worldmodel.data import open_stores
    from worldmodel.evaluation.evaluate_model import ModelEvaluation, evaluate_model
    from worldmodel.model import WorldModel
    from worldmodel.training.dream_vs_real.quick_trust import QuickTrust, quick_trust
    from worldmodel.training.reports.plots import check_matplotlib
    from worldmodel.training.reports.run import write_report

    line = shlex.join(["videogen-dream", "evaluate-model", *options])

    def run_evaluate_model(
        run: Annotated[str, tyro.conf.Positional],
        data: tuple[Path, ...],
        out: Path = Path("runs/evaluation"),
        i3d: Path | None = None,
        real: str | None = None,
        device: str = "auto",
        plots: bool = True,
        trust: QuickTrust = QuickTrust(),  # noqa: B008 (frozen)
        config: Annotated[ModelEvaluation, Fields] = ModelEvaluation(),  # noqa: B008 (frozen)
    ) -> None:
        """Measure a world model on the test episodes of a store; OUT gets report.md, report.json and plots.

        Args:
            run: a run folder, a checkpoint folder, a shipped name or a hub id; before --data.
            data: store, or stores, of play of the game that the model was learned from.
            i3d: TorchScript file of an I3D network that gives logits, for FVD; without it FVD is absent.
            real: id of the real game: adds how true the dream is where blind policies go, in about a minute.
            device: where the models run; "auto" takes a GPU if there is one.
            plots: draw PNG files too, which needs matplotlib.
        """
        if real is None and trust != QuickTrust():
            raise ValueError("--trust options are for playing in the real game: give its id, --real ID")
        if plots:
            check_matplotlib()
        model = WorldModel.from_pretrained(run, device=device)
        store = open_stores(data)
        if store.info.env_id and model.config.env_id and store.info.env_id != model.config.env_id:
            print(f"note: this is play of {store.info.env_id}, the model was learned from {model.config.env_id}")
        absent = {"absent": "no real game was given (--real ID)"}
        judged = absent if real is None else quick_trust(model, real, trust)
        results = evaluate_model(model, store, config, i3d) | {"trust": judged}
        report = write_report(out, {"run": {"command": line, "config": asdict(config)}} | results, plots)
        print(report.read_text(encoding="utf-8"))
        print(f"Everything is in {out}.")

    return run_evaluate_model


def run_watch(
    player: Annotated[str, tyro.conf.Positional],
    env: str,
    out: Path,
    episodes: int = 4,
    steps: int = 200,
    seed: int = 10_000,
    world: str | None = None,
    temperature: float = 1.0,
    columns: int = 2,
    scale: int = 4,
    device: str = "auto",
) -> None:
    """Write a video of an agent, or of scripted play, in a real game or in a dream: the first episodes of `evaluate`.

    Args:
        player: the folder of a saved agent, or a blind policy, such as random, sticky or
            cycle:move_left*8,move_right*8 (docs/collecting.md).
        env: id of a real game or of a dream; or the world to dream of: a run folder, a checkpoint folder, a shipped
            name or a hub id.
        out: .mp4 or .gif, or without an ending for both.
        steps: of an episode at most.
        seed: of the first episode; the next ones have the next numbers.
        world: name or folder of the agent's world, if that has moved since; of a dream, the world to dream of in
            place of the one shipped for the id.
        temperature: of a dream.
        columns: of the grid.
        scale: screen pixels per pixel.
    """
    from contextlib import closing

    from worldmodel.training.show.scenes import open_scene
    from worldmodel.training.show.watch import watch

    with closing(open_scene(env, player, world=world, temperature=temperature, seed=seed, device=device)) as scene:
        if temperature != 1.0 and not scene.is_dream:
            raise ValueError(f"--temperature is for dreams, {env} is a real game: leave it out")
        for watched in watch(scene, out, episodes, steps, columns, scale):
            print(watched)


def run_play(
    envs: Annotated[tuple[str, ...], tyro.conf.Positional] = ("VideoGenDream-Doom",),
    agent: Path | None = None,
    world: str | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    out: Path = Path("runs/play"),
    host: str = "127.0.0.1",
    port: int = 8765,
    allow_host: tuple[str, ...] = (),
    device: str = "auto",
) -> None:
    """Play dreams and real games yourself, in a browser, until Ctrl-C.

    Args:
        envs: ids of real games or of dreams, or worlds to dream of; the page goes from one to the next. A dream that
            follows a real game of its kind goes on from where that stands.
        agent: folder of a saved agent, which can take over.
        world: name or folder of the agent's world, if that has moved since; of dreams, the world to dream of in place
            of the one shipped for the id.
        temperature: of dreams.
        seed: of the first episodes.
        out: folder for saved clips.
        host: address to listen on; the default is reached from this machine alone.
        port: 0 takes a free one.
        allow_host: further names under which browsers may ask for this machine; its own names and addresses always may.
    """
    import asyncio
    from contextlib import closing
    from functools import partial

    from worldmodel.training.show.play_server import check_websockets, serve
    from worldmodel.training.show.scenes import open_scene

    check_websockets()
    player = "" if agent is None else str(agent.absolute())
    # Absolute, since a game that starts moves the process to another folder for a moment.
    places = {name: str(Path(name).absolute()) if Path(name).is_dir() else name for name in envs}
    world = str(Path(world).absolute()) if world is not None and Path(world).is_dir() else world
    if len(set(envs)) < len(envs):
        raise ValueError(f"each of the envs counts once, got {', '.join(envs)}")
    scenes = {
        name: partial(open_scene, places[name], player, world=world, temperature=temperature, seed=seed, device=device)
        for name in envs
    }
    for opened in scenes.values():  # what cannot be opened says so now
        with closing(opened()):
            pass

    def announce(address: str) -> None:
        print(f"Open {address} in a browser. Ctrl-C stops.", flush=True)

    asyncio.run(serve(scenes, out, host, port, announce, allow_host))


def make_evaluate(options: Sequence[str]) -> Function:
    from worldmodel.agents.blind.policies import is_scripted
    from worldmodel.data import EpisodeStorage
    from worldmodel.envs.dream.env import world_of
    from worldmodel.model import WorldModel
    from worldmodel.training.cli.play_one import BLIND, check_plays_one, play_one
    from worldmodel.training.dream_vs_real.compare import DreamReport, dream_report
    from worldmodel.training.dream_vs_real.page import write_dream_report
    from worldmodel.training.reports.plots import check_matplotlib

    line = shlex.join(["videogen-dream", "evaluate", *options])

    def run_evaluate(
        agents: Annotated[tuple[Path, ...], tyro.conf.Positional] = (),
        env: str | None = None,
        dream: str | None = None,
        real: str | None = None,
        data: Path | None = None,
        episodes: int | None = None,
        search_episodes: int | None = None,
        horizon: int | None = None,
        seed: int = 10_000,
        world: str | None = None,
        deterministic: bool = False,
        out: Path | None = None,
        device: str = "auto",
        plots: bool = True,
        config: Annotated[DreamReport, Fields] = DreamReport(),  # noqa: B008 (frozen)
    ) -> None:
        """Judge agents, in one of three ways.

        evaluate AGENT --env ID: mean return of one agent with its 95 % interval, beside random play on the same seeds.
        AGENT may also be a blind policy, such as random, sticky or cycle:move_left*8,move_right*8 (docs/collecting.md).

        evaluate blind --env ID: the same of the best blind policy, which looks at nothing, that a search on other seeds
        finds: what an agent with eyes should beat.

        evaluate [AGENT ...] --dream WORLD --real ID --out FOLDER: how far a dream can be trusted. The agents, sticky
        and random play and blind policies (--policies names others) play in the dream and in the real game, from the
        game's first frames and from the middle of play; OUT gets the verdict in report.md, report.json and plots.

        Args:
            agents: folders of saved agents.
            env: id of a real game, which the agent sees as it saw its training, through its world's tokenizer; or
                of a dream, which it sees as it is.
            dream: the world to judge: a run folder, a checkpoint folder, a shipped name, a hub id or a dream's id.
            real: id of the real game to judge it by.
            episodes: 30 with --env, of evaluate blind 100; with --dream 20 of each policy and each kind of beginning,
                in both worlds.
            search_episodes: of evaluate blind, of each policy in the search's last round; 40 if not given.
            data: store of play of that game: adds how well the dream predicts rewards and ends, obeys and drifts.
            horizon: steps of a dream's episode. With --env a dream needs it and a real game has its own end; with
                --dream it is 300 if not given, and both worlds are cut there.
            world: with --env, name or folder of the agent's world, if that has moved since; of a dream, the world to
                dream of in place of the one shipped for the id.
            deterministic: with --env, the agent takes its likeliest actions instead of drawing.
            out: with --env a JSON file for the numbers; with --dream the folder of the report.
            device: with --dream, where the world runs; "auto" takes a GPU if there is one.
            plots: with --dream, draw PNG files too, which needs matplotlib.
        """
        if env is not None:
            only = {"dream": dream, "real": real, "data": data}
            check_plays_one(agents, only, config == DreamReport() and device == "auto" and plots)
            play_one(agents[0], env, episodes, horizon, seed, world, out, deterministic, search_episodes)
            return
        if dream is None or real is None:
            raise ValueError(
                "give --env ID to play one agent, or --dream WORLD and --real ID for a report on a dream, such as "
                "--dream doom-hgs --real VideoGenReal-Doom --out runs/trust"
            )
        if out is None:
            raise ValueError("a report needs a folder: give --out, such as --out runs/trust")
        if search_episodes is not None:
            raise ValueError("--search-episodes is for evaluate blind --env ID: leave it out")
        if world is not None:
            raise ValueError("--world is for --env; in a report every agent sees through the world of --dream")
        if deterministic:
            raise ValueError("--deterministic is for --env; in a report agents draw their actions, as in training")
        for agent in agents:
            if is_scripted(str(agent)) or str(agent) == BLIND:
                raise ValueError(f"a report plays scripted policies besides: leave out {agent}, or give --policies")
        if plots:
            check_matplotlib()
        model = WorldModel.from_pretrained(world_of(dream), device=device)
        store = None if data is None else EpisodeStorage.open(data)
        sizes = {"episodes": episodes, "horizon": horizon}
        asked = {name: size for name, size in sizes.items() if size is not None}
        results = dream_report(model, real, agents, store, **asked, seed=seed, config=config)
        page = write_dream_report(out, {"run": {"command": line, "world": dream}} | results, plots)
        print(page.read_text(encoding="utf-8"))
        print(f"Everything is in {out}.")

    return run_evaluate


JUDGING: dict[str, Callable[[Sequence[str]], Function]] = {
    "sample": make_sample,
    "evaluate-model": make_evaluate_model,
    "watch": lambda _: run_watch,
    "play": lambda _: run_play,
    "evaluate": make_evaluate,
}

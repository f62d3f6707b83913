"""Commands that measure: `evaluate` (agents, or how far to trust a dream) and `evaluate-model` (a world model)."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from worldmodel.agents.blind.policies import is_scripted
from worldmodel.data import EpisodeStorage, open_stores
from worldmodel.envs.dream.env import world_of
from worldmodel.evaluation.evaluate_model import ModelEvaluation
from worldmodel.evaluation.evaluate_model import evaluate_model as measure
from worldmodel.files import check_output
from worldmodel.model import WorldModel
from worldmodel.training.cli.play_one import BLIND, check_plays_one, play_one
from worldmodel.training.dream_vs_real.compare import DreamReport, dream_report
from worldmodel.training.dream_vs_real.other_report import other_report
from worldmodel.training.dream_vs_real.other_world import find_other
from worldmodel.training.dream_vs_real.page import write_dream_report
from worldmodel.training.dream_vs_real.quick_trust import QuickTrust, quick_trust
from worldmodel.training.reports.plots import check_matplotlib
from worldmodel.training.reports.run import write_report
from worldmodel.training.show.sample_inputs import check_same_game

# Settings of a report on a dream that only some of its parts use: those on recorded play, from mid-play, or on either.
_OF_DATA = ("split", "samples", "drift_steps", "max_segments", "inverse_dynamics")
_OF_MID_PLAY = ("lead", "lead_steps")
_OF_CONTEXT = ("context_steps",)


def evaluate_model(
    run: str,
    /,
    data: Sequence[Path],
    out: Path = Path("runs/evaluation"),
    i3d: Path | None = None,
    real: str | None = None,
    device: str = "auto",
    plots: bool = True,
    trust: QuickTrust = QuickTrust(),  # noqa: B008 (frozen)
    config: ModelEvaluation | None = None,
    command: str = "",
) -> None:
    """Measure a world model on the test episodes of a store; OUT gets report.md, report.json and plots.

    Args:
        run: a run folder, a checkpoint folder, a shipped name or a hub id; before --data.
        data: store, or stores, of the game on which the model was trained.
        out: folder of the report.
        i3d: TorchScript file of an I3D network that gives logits, for FVD; without it FVD is absent.
        real: id of the real game: also measures how true the dream is where blind policies go, in about a minute.
        device: where the models run; "auto" takes a GPU if there is one.
        plots: also draw PNG files, which needs matplotlib.
    """
    if real is None and trust != QuickTrust():
        raise ValueError("--trust options are for playing in the real game: give its id, --real ID")
    if plots:
        check_matplotlib()
    check_output(out, folder=True)
    config, model, store = (
        config or ModelEvaluation(),
        WorldModel.from_pretrained(run, device=device),
        open_stores(data),
    )
    check_same_game(model.config, store)
    absent = {"absent": "no real game was given (--real ID)"}
    judged = absent if real is None else quick_trust(model, real, trust)
    results = measure(model, store, config, i3d) | {"trust": judged}
    _show(write_report(out, {"run": {"command": command, "config": asdict(config)}} | results, plots))


def evaluate(
    agents: Sequence[Path] = (),
    /,
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
    config: DreamReport | None = None,
    command: str = "",
) -> None:
    """Evaluate agents, in one of three ways.

    evaluate AGENT --env ID: mean return of one agent with its 95 % interval, beside random play on the same seeds.
    AGENT may also be a blind policy, such as random, sticky or cycle:move_left*8,move_right*8 (docs/collecting.md).

    evaluate blind --env ID: the same for the best blind policy that a search on other seeds finds: a baseline for
    agents that see.

    evaluate [AGENT ...] --dream WORLD --real ID --out FOLDER: how far a dream can be trusted. The agents, sticky and
    random play and blind policies (or those of --policies) play in the dream and in the real game, from the first
    frames of the game and from the middle of episodes; OUT gets the verdict in report.md, report.json and plots.

    Args:
        agents: folders of saved agents.
        env: id of a real game, which the agent sees as it did in training, through its world's tokenizer; or of a
            dream, which it sees as it is.
        dream: the world to judge: a run folder, a checkpoint folder, a shipped name, a hub id or a dream's id; or
            module:maker, a class or function of yours that makes a world model of another project fit
            (docs/dream-vs-real.md).
        real: id of the real game to compare it with.
        data: store of that game: also measures how well the dream predicts rewards and ends, obeys and drifts.
        episodes: by default 30 with --env (100 for evaluate blind), and 20 with --dream, of each policy and each kind
            of beginning, in both worlds.
        search_episodes: for evaluate blind, episodes of each policy in the last round of the search; default 40.
        horizon: steps of a dream's episode. With --env a dream needs it and a real game has its own end; with --dream
            it is 300 by default, and both worlds are cut there.
        seed: seed of the first episode; the next ones have the next numbers.
        world: with --env, the agent's world, if it has moved since; of a dream, the world to dream of in place of the
            one shipped for the id.
        deterministic: with --env, the agent takes its likeliest actions instead of sampling.
        out: with --env a JSON file for the results; with --dream the folder of the report.
        device: with --dream, where the world runs; "auto" takes a GPU if there is one.
        plots: with --dream, also draw PNG files, which needs matplotlib.
    """
    config = config or DreamReport()
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
        raise ValueError("--deterministic is for --env; in a report agents sample their actions, as in training")
    for agent in agents:
        if is_scripted(str(agent)) or str(agent) == BLIND:
            raise ValueError(f"a report plays blind policies in any case: leave out {agent}, or give --policies")
    if plots:
        check_matplotlib()
    check_output(out, folder=True)
    asked = {name: size for name, size in (("episodes", episodes), ("horizon", horizon)) if size is not None}
    if (other := find_other(dream)) is not None:
        if agents or data is not None or device != "auto":
            raise ValueError(f"{dream} is judged with blind policies alone: leave out agents, --data and --device")
        results = other_report(other, real, **asked, seed=seed, config=config)
    else:
        _check_used(config, data)
        model = WorldModel.from_pretrained(world_of(dream), device=device)
        store = None if data is None else EpisodeStorage.open(data)
        results = dream_report(model, real, agents, store, **asked, seed=seed, config=config)
    _show(write_dream_report(out, {"run": {"command": command, "world": dream}} | results, plots))


def _check_used(config: DreamReport, data: Path | None) -> None:
    """ValueError if a report is given options that it would not use."""
    default = DreamReport()
    unused = {
        "give --data STORE": () if data is not None else _OF_DATA,
        "leave --no-mid-play out": () if config.mid_play else _OF_MID_PLAY,
        "give --data STORE, or leave --no-mid-play out": () if config.mid_play or data is not None else _OF_CONTEXT,
    }
    for remedy, names in unused.items():
        if changed := [name for name in names if getattr(config, name) != getattr(default, name)]:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
            raise ValueError(f"{options} would have no effect on this report: {remedy}, or leave them out")


def _show(page: Path) -> None:
    print(page.read_text(encoding="utf-8"))
    print(f"Everything is in {page.parent}.")

"""Package a trained world model for sharing: half-size weights, and a card with its data, metrics and recipe."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from worldmodel.agents.blind.policies import is_scripted
from worldmodel.cards import model_card
from worldmodel.checkpoint import check_replaceable, resolve
from worldmodel.data import EpisodeStorage, open_stores
from worldmodel.evaluation.evaluate_model import summarize_model
from worldmodel.files import JsonObject, read_json
from worldmodel.hub import FILES, check_upload, upload
from worldmodel.layers.defaults import own_defaults
from worldmodel.layers.precision import cast_matmuls
from worldmodel.model import WorldModel
from worldmodel.model.card import game_text
from worldmodel.training.cli.command_lines import command_line, options_of
from worldmodel.training.collect.collect import SETTINGS
from worldmodel.training.dream_vs_real.quick_trust import quick_trust
from worldmodel.training.dream_vs_real.trust_page import card_text
from worldmodel.training.reports.markdown import machine, made_on, number, table
from worldmodel.training.show.sample_inputs import check_same_game
from worldmodel.training.train_dynamics import DynamicsTraining
from worldmodel.training.train_tokenizer import TokenizerTraining

_PLAY = {"random": "random play", "sticky": "sticky random play", "diverse": "diverse blind play"}


@own_defaults
def publish(
    world: str | os.PathLike,
    data: str | Path,
    target: str | Path,
    /,
    notes: str = "",
    also: Sequence[str | Path] = (),
    real: str | None = None,
    push: str | None = None,
    private: bool = False,
    license: str | None = None,
    datasets: Sequence[str] = (),
) -> Path:
    """Package a trained world model for sharing: bfloat16 weights and a card with its data, scores and recipe.

    Args:
        world: output of train-dynamics: a run folder, or its best or last checkpoint.
        data: store on which it was trained; its test episodes are measured.
        target: folder to write.
        notes: a sentence for the card, such as what an agent reached in it.
        also: further stores on which it was trained; their test episodes are measured too.
        real: id of the real game; then the card reports how true the dream is where blind policies go.
        push: upload it to the Hugging Face hub under this id, OWNER/NAME. The token is that of `hf auth login` or
            HF_TOKEN.
        private: if the repository is new, make it private.
        license: of the world, for its card, by the hub's name of it, such as mit or cc-by-4.0.
        datasets: ids of data sets on the hub from which it was learned, for its card.

    Returns: the folder, which is also printed.
    """
    if private and push is None:
        raise ValueError("private is for push, which names no repository")
    if push is not None:
        check_upload(push)
    folder, target = resolve(world).absolute(), Path(target)
    _check_target(target)
    run = _run_of(folder)
    if run is None or "tokenizer" not in run:
        raise ValueError(
            f"{world} is not the best or last checkpoint in a folder of train-dynamics, whose config.json is its recipe"
        )
    folders = [Path(data), *map(Path, also)]
    model, played = WorldModel.from_pretrained(folder, dtype=torch.float32), open_stores(folders)
    check_same_game(model.config, played)
    cast_matmuls(model, torch.bfloat16)  # as the file holds them: what is measured is what is published
    model.prepare()
    trust = None if real is None else quick_trust(model, real)
    report = summarize_model(model, played)
    stores = [Play.of(store) for store in folders]
    tags = [*(["--license", license] if license else []), *(["--datasets", *datasets] if datasets else [])]
    text = _text(target.absolute().name, folder.name, model, report, run, stores, notes, trust, tags)
    card = model_card("world_model", text, game=model.config.env_id, license=license, datasets=datasets)
    cast_matmuls(model, torch.bfloat16)  # for the file alone: nothing is multiplied
    model.save_pretrained(target, card)
    print(target)
    if push is not None:
        print(upload(target, push, private=private or None))
    return target


def _check_target(target: Path) -> None:
    """FileExistsError, before long work, if saving would refuse `target` or delete files that are not a world's."""
    check_replaceable(target, "world_model")
    there = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    if others := [name for name in there if name not in FILES]:
        raise FileExistsError(
            f"{target} holds {', '.join(others)} beside an earlier world, which would be deleted with it: give another "
            "folder and copy the world from there, or move them away"
        )


def _tokenizer_run(tokenizer: str) -> dict[str, Any] | None:
    """The settings of a tokenizer's own training; None if it is part of a world, or no longer exists."""
    run = _run_of(resolve(tokenizer)) if Path(tokenizer).exists() else None
    return run if run is not None and run["command"] == "train-tokenizer" else None


def _known_as(checkpoint: str) -> str:
    """A name that others can use too: a shipped or hub name, or "EARLIER" for a local folder."""
    return "EARLIER" if Path(checkpoint).is_absolute() else checkpoint


def _run_of(checkpoint: Path) -> dict[str, Any] | None:
    """The settings of the training that wrote a checkpoint; None if none did."""
    path = checkpoint.parent / "config.json"
    return read_json(path, JsonObject) if checkpoint.name in ("best", "last") and path.is_file() else None


_COLLECTED = ("policy", "epsilon", "seed", "env_kwargs")


class Play(NamedTuple):
    """What a card says about a store."""

    fingerprint: str
    episodes: int
    collected: dict[str, Any] | None  # the settings of `collect`, if that made it

    @classmethod
    def of(cls, folder: Path) -> "Play":
        settings, store = folder / SETTINGS, EpisodeStorage.open(folder)
        return cls(
            store.fingerprint(), len(store), read_json(settings, JsonObject, _COLLECTED) if settings.exists() else None
        )

    def __str__(self) -> str:
        if self.collected is None:
            return "recorded play"
        policy, noise = self.collected["policy"], self.collected["epsilon"]
        play = _PLAY.get(policy, f"blind play `{policy}`" if is_scripted(policy) else f"play of a trained {policy}")
        return play + (f" with {noise:.0%} random actions" if noise else "")


def _text(
    name: str,
    checkpoint: str,
    model: WorldModel,
    report: dict,
    run: dict,
    stores: Sequence[Play],
    notes: str,
    trust: dict[str, Any] | None,
    tags: Sequence[str],
) -> str:
    """The card below its front matter."""
    config = model.config
    tokenizer_run = _tokenizer_run(run["tokenizer"])
    seen_by_tokenizer = (tokenizer_run or {}).get("data_fingerprint")  # of a store, or of all as one
    env = config.env_id
    play = " and ".join(str(each) for each in stores)
    folders = ["runs/data", *(f"runs/data{k}" for k in range(2, len(stores) + 1))]
    data = " ".join(folders)
    seen = [folder for folder, store in zip(folders, stores, strict=True) if store.fingerprint == seen_by_tokenizer]
    shown = " ".join(seen or folders)
    coded_by = "runs/tokenizer/best" if tokenizer_run else _known_as(run["tokenizer"])
    further = ["--also", *folders[1:]] if folders[1:] else []
    further += [*([] if trust is None else ["--real", trust["settings"]["env_id"]]), *tags]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"A world model of `{env}`, learned by VideoGenDream from {play}. {notes}".rstrip(),
            "",
            game_text(config.action, config.signal_names, config.reward),
            "",
            table(["what", "value"], _score_rows(model, report, play)),
            "",
            *([] if trust is None else [card_text(trust), ""]),
            "How to repeat it:",
            "",
            "```sh",
            *(_collect_command(env, each, folder) for each, folder in zip(stores, folders, strict=True)),
            *(
                _command(f"train-tokenizer --data {shown}", found, TokenizerTraining)
                for found in (() if tokenizer_run is None else (tokenizer_run,))
            ),
            _command(f"train-dynamics --data {data} --tokenizer {coded_by}", run, DynamicsTraining),
            command_line("publish", f"runs/dynamics/{checkpoint}", "runs/data", name, *further),
            "```",
            "",
            f"Measured on {made_on(machine())}.",
            "",
        ]
    )


def _score_rows(model: WorldModel, report: dict, play: str) -> list[tuple[str, str]]:
    """The card's table: what the model is, and what it reaches on test episodes."""
    facts, env = report["dataset"], model.config.env_id
    picture, loop, heads, dynamics = report["tokenizer"], report["open_loop"], report["heads"], report["dynamics"]
    size = sum(p.numel() for p in model.parameters()) / 1e6
    rows = [
        ("recorded play", f"{facts['steps']:,} decisions in {facts['episodes']:,} episodes of `{env}`, {play}"),
        ("parameters", f"{size:.1f} M, bfloat16"),
        ("reconstruction, test episodes", f"NMSE {picture['nmse']:.3f}, PSNR {picture['psnr_db']:.1f} dB"),
        ("bits per code, test episodes", f"{dynamics['bits_per_code']:.2f}"),
        ("loss with shuffled actions over true", number(dynamics.get("shuffled_action_ratio"), 2)),
    ]
    curves = loop.get("psnr_db", {"dream": (), "copy": ()})  # a model of clips may have no dreams by step
    rows += [
        (f"open-loop PSNR after {n} steps (copying the last frame)", f"{dream:.1f} ({copy:.1f}) dB")
        for n, (dream, copy) in enumerate(zip(curves["dream"], curves["copy"], strict=True), start=1)
        if n in (1, 4, 8, 16)
    ]
    for head, score in heads.items():
        if isinstance(score, dict) and score.get("auroc") is not None:
            rows.append((f"{head.replace('_', ' ')}, AUROC on test episodes", f"{score['auroc']:.2f}"))
    return rows


def _collect_command(env: str, play: Play, folder: str) -> str:
    """The command that records the same episodes: episode i depends only on the seed, i and these settings."""
    collected = play.collected
    if collected is None:
        return f"# put the recorded play into {folder}"
    policy = collected["policy"] if is_scripted(collected["policy"]) else "AGENT"
    words = ["collect", "--env", env, "--out", folder, "--episodes", play.episodes, "--policy", policy]
    words += ["--epsilon", collected["epsilon"], "--seed", collected["seed"]]
    options = [f"{name}={json.dumps(value)}" for name, value in collected["env_kwargs"].items()]
    return command_line(*words, *(["--env-kwargs", *options] if options else []))


def _command(command: str, run: Mapping[str, Any], kind: type[TokenizerTraining] | type[DynamicsTraining]) -> str:
    """The command with every setting of a run's config.json that differs from today's defaults, and with its seed.

    The preset decides the network, so one is named where it is not the default; that with the fewest other settings.
    """
    given = ("model.data_mean", "model.data_variance", "model.net", "loop.seed")
    net, usual = run["model"].get("net"), kind()
    if net in (None, usual.model.net):
        options = options_of(run, usual, leave_out=given)
    else:
        presets = [(name, kind.of_preset(name)) for name in kind.PRESETS]
        ways = [
            ["--preset", name, *options_of(run, training, leave_out=given)]
            for name, training in presets
            if training.model.net == net
        ]
        options = min(ways, key=len)
    options += ["--loop.seed", run["loop"]["seed"]]
    if earlier := run.get("start_from"):
        options += ["--start-from", "EARLIER"]
    note = f"  # EARLIER has the weights {earlier[:16]}… (SHA-256)" if earlier else ""
    return command_line(*command.split(), *options) + note

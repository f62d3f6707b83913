"""Put a trained world model where users find it: half-size weights, and a card with its data, metrics and recipe.

python -m worldmodel.training.publish runs/dynamics/best runs/data worldmodel/pretrained/doom-hg
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
import tyro

from worldmodel.data import EpisodeStorage, open_stores
from worldmodel.files import read_json
from worldmodel.model import WorldModel
from worldmodel.training.collect import SETTINGS
from worldmodel.training.report import machine, world_report
from worldmodel.training.train_dynamics import DynamicsTraining
from worldmodel.training.train_tokenizer import TokenizerTraining

_PLAY = {"random": "random play", "sticky": "sticky random play"}


def publish(world: Path, data: Path, target: Path, /, notes: str = "", also: tuple[Path, ...] = ()) -> Path:
    """Measure a world model on the test episodes of its data and save it with bfloat16 weights and a card.

    Args:
        world: a checkpoint that `train-dynamics` left (`RUN/best` or `RUN/last`).
        data: the store it was trained on.
        target: folder to write.
        notes: a sentence for the card, such as what an agent reached in it.
        also: further stores that it was trained on; the card measures on the test episodes of all.
    """
    model = WorldModel.from_pretrained(world)
    folders = (data, *also)
    report = world_report(model, open_stores(folders))
    run = read_json(world.parent / "config.json")
    card = _card(target.name, world.name, model, report, run, [Play.of(folder) for folder in folders], notes)
    return WorldModel.from_pretrained(world, dtype=torch.bfloat16).save_pretrained(target, card)


class Play(NamedTuple):
    """What a card tells of a store."""

    fingerprint: str
    episodes: int
    collected: dict[str, Any] | None  # the settings of `collect`, if that made it

    @classmethod
    def of(cls, folder: Path) -> "Play":
        settings, store = folder / SETTINGS, EpisodeStorage.open(folder)
        return cls(store.fingerprint(), len(store), read_json(settings) if settings.exists() else None)

    def __str__(self) -> str:
        if self.collected is None:
            return "recorded play"
        play = _PLAY.get(self.collected["policy"], f"play of a trained {self.collected['policy']}")
        noise = self.collected["epsilon"]
        return play + (f" with {noise:.0%} random actions" if noise else "")


def _card(
    name: str, checkpoint: str, model: WorldModel, report: dict, run: dict, stores: Sequence[Play], notes: str
) -> str:
    config, about, facts = model.config, machine(), report["dataset"]
    picture, loop, heads, dynamics = report["tokenizer"], report["open_loop"], report["heads"], report["dynamics"]
    tokenizer_run = read_json(Path(run["tokenizer"]).parent / "config.json")
    seen_by_tokenizer = tokenizer_run["data_fingerprint"]  # of a store, or of all as one
    env = config.env_id
    play = " and ".join(str(each) for each in stores)
    folders = ["runs/data", *(f"runs/data{k}" for k in range(2, len(stores) + 1))]
    data = " ".join(folders)
    seen = [folder for folder, store in zip(folders, stores, strict=True) if store.fingerprint == seen_by_tokenizer]
    shown = " ".join(seen or folders)
    size = sum(p.numel() for p in model.parameters()) / 1e6
    rows = [
        ("recorded play", f"{facts['steps']:,} decisions in {facts['episodes']:,} episodes of `{env}`, {play}"),
        ("parameters", f"{size:.1f} M, bfloat16"),
        ("reconstruction, test episodes", f"NMSE {picture['nmse']:.3f}, PSNR {picture['psnr_db']:.1f} dB"),
        ("bits per code, test episodes", f"{dynamics['bits_per_code']:.2f}"),
        ("loss with shuffled actions over true", f"{dynamics['shuffled_action_ratio']:.2f}"),
    ]
    rows += [
        (f"open-loop PSNR after {n} steps (copying the last frame)", f"{dream:.1f} ({copy:.1f}) dB")
        for n, dream, copy in zip(loop["step"], loop["dream_psnr_db"], loop["copy_psnr_db"], strict=True)
    ]
    for head, score in heads.items():
        if isinstance(score, dict) and score.get("auroc") is not None:
            rows.append((f"{head.replace('_', ' ')}, AUROC on test episodes", f"{score['auroc']:.2f}"))
    lines = [f"| {what} | {value} |" for what, value in rows]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"A world model of `{env}`, learned by VideoGenDream from {play}. {notes}".rstrip(),
            "",
            f"Actions: {', '.join(config.action.names)}. Signals: {', '.join(config.signal_names)}. "
            f"Reward: {config.reward}.",
            "",
            "| what | value |",
            "| --- | --- |",
            *lines,
            "",
            "How to repeat it:",
            "",
            "```sh",
            *(_collect_command(env, each, folder) for each, folder in zip(stores, folders, strict=True)),
            _command(f"train-tokenizer --data {shown}", tokenizer_run, TokenizerTraining()),
            _command(f"train-dynamics --data {data} --tokenizer runs/tokenizer/best", run, DynamicsTraining()),
            f"python -m worldmodel.training.publish runs/dynamics/{checkpoint} runs/data worldmodel/pretrained/{name}"
            + (f" --also {' '.join(folders[1:])}" if folders[1:] else ""),
            "```",
            "",
            f"Measured on {about['cpu']}, {about['cores']} cores, torch {about['torch']}, {about['date']}.",
            "",
        ]
    )


def _collect_command(env: str, play: Play, folder: str) -> str:
    """What records the same play: episode i depends on the seed, i and these settings alone."""
    collected = play.collected
    if collected is None:
        return f"# put the recorded play into {folder}"
    words = ["videogen-dream", "collect", "--env", env, "--out", folder, "--episodes", str(play.episodes)]
    scripted = collected["policy"] in _PLAY
    words += ["--policy", collected["policy"] if scripted else "AGENT", "--epsilon", str(collected["epsilon"])]
    words += ["--seed", str(collected["seed"])]
    options = [f"{name}={json.dumps(value)}" for name, value in collected["env_kwargs"].items()]
    words += ["--env-kwargs", *options] if options else []
    return shlex.join(words)


def _command(command: str, run: Mapping[str, Any], defaults: Any) -> str:
    """The command with every setting of a run's config.json that differs from today's defaults, and with its seed."""
    usual = json.loads(json.dumps(asdict(defaults)))
    for name in ("data_mean", "data_variance"):
        usual["model"].pop(name, None)  # of the tokenizer: measured from the data
    words = [word for option in _differing(run, usual) for word in option]
    if "--loop.seed" not in words:
        words += ["--loop.seed", str(run["loop"]["seed"])]
    return f"videogen-dream {command} {shlex.join(words)}"


def _differing(run: Mapping[str, Any], usual: Mapping[str, Any], prefix: str = "") -> Iterator[list[str]]:
    """Options of the command line for the values of `run` that are not the usual ones, each as its words."""
    for name, value in usual.items():
        found = run.get(name, value)
        option = f"{prefix}{name.replace('_', '-')}"
        if isinstance(value, dict):
            yield from _differing(found, value, f"{option}.")
        elif found != value and isinstance(found, bool):
            *groups, last = option.split(".")
            yield ["--" + ".".join([*groups, last if found else f"no-{last}"])]
        elif found != value:
            yield [f"--{option}", *map(str, found if isinstance(found, list) else [found])]


if __name__ == "__main__":
    print(tyro.cli(publish))

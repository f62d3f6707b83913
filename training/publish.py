"""Put a trained world model where users find it: half-size weights, and a card with its data, metrics and recipe.

python -m worldmodel.training.publish runs/dynamics/best runs/data worldmodel/pretrained/doom-hg
"""

import os
from pathlib import Path

import torch
import tyro

from worldmodel.data import EpisodeStorage
from worldmodel.files import read_json
from worldmodel.model import WorldModel
from worldmodel.training.report import machine, world_report


def publish(world: Path, data: Path, target: Path, /, notes: str = "") -> Path:
    """Measure a world model on the test episodes of its data and save it with bfloat16 weights and a card.

    Args:
        world: a checkpoint that `train-dynamics` left (`RUN/best` or `RUN/last`).
        data: the store it was trained on.
        target: folder to write.
        notes: a sentence for the card, such as what an agent reached in it.
    """
    model = WorldModel.from_pretrained(world)
    store = EpisodeStorage.open(data)
    report = world_report(model, store)
    run = read_json(world.parent / "config.json")
    card = _card(target.name, model, report, run, notes)
    return WorldModel.from_pretrained(world, dtype=torch.bfloat16).save_pretrained(target, card)


def _card(name: str, model: WorldModel, report: dict, run: dict, notes: str) -> str:
    config, about, facts = model.config, machine(), report["dataset"]
    picture, loop, heads, dynamics = report["tokenizer"], report["open_loop"], report["heads"], report["dynamics"]
    tokenizer_run = read_json(Path(run["tokenizer"]).parent / "config.json")
    env = config.env_id
    size = sum(p.numel() for p in model.parameters()) / 1e6
    rows = [
        ("recorded play", f"{facts['steps']:,} decisions in {facts['episodes']:,} episodes of `{env}`, sticky random"),
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
    seed = run["loop"]["seed"]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"A world model of `{env}`, learned by VideoGenDream from random play. {notes}".rstrip(),
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
            f"videogen-dream collect --env {env} --out runs/data --steps {facts['steps'] // 1000 * 1000}",
            f"videogen-dream train-tokenizer --data runs/data --loop.steps {tokenizer_run['loop']['steps']}",
            "videogen-dream train-dynamics --data runs/data --tokenizer runs/tokenizer/best "
            f"--loop.steps {run['loop']['steps']} --loop.seed {seed}",
            f"python -m worldmodel.training.publish runs/dynamics/best runs/data worldmodel/pretrained/{name}",
            "```",
            "",
            f"Measured on {about['cpu']}, {about['cores']} cores, torch {about['torch']}, {about['date']}.",
            "",
        ]
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    print(tyro.cli(publish))

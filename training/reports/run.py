"""The report of a run: every measurement of a world model on one page, for people and for programs."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldmodel.data import EpisodeStorage
from worldmodel.envs.registry import steps_per_second
from worldmodel.errors import did_you_mean
from worldmodel.evaluation.open_loop import dream_along, eventful_segments
from worldmodel.evaluation.world_report import steps_that_fit
from worldmodel.files import atomic_write, write_json
from worldmodel.media.write import dream_vs_real
from worldmodel.model import WorldModel
from worldmodel.training.reports.markdown import machine, strict, table

if TYPE_CHECKING:
    from worldmodel.agents.evaluate import Evaluation


def write_dream_vs_real(
    wm: WorldModel,
    store: EpisodeStorage,
    path: str | Path,
    split: str = "test",
    *,
    episodes: int = 3,
    context_steps: int = 8,
    temperature: float = 1.0,
    seed: int = 0,
) -> list[Path]:
    """Write `path`.mp4 and `path`.gif: held-out starts and recorded actions, real on the left, dream on the right.

    The starts are drawn where a rare positive reward follows in the recorded play (`eventful_segments`), so that there
    is something to see; how the dream looks plays no part. The measured open-loop numbers come from all starts alike.
    """
    context_steps, dreamt = steps_that_fit(store, split, context_steps)
    segments = eventful_segments(store, split, episodes, context_steps, dreamt, seed)
    dreams = dream_along(wm, store, segments, context_steps, temperature, seed)
    fps = steps_per_second(wm.config) * wm.frames_per_step
    return dream_vs_real(dreams.real.numpy(), dreams.dream.numpy(), context_steps, path, fps)


RETURN_KEYS = ("policy", "env_id", "episodes", "mean", "half_width", "unit")


def return_row(policy: str, played: "Evaluation", unit: str) -> dict[str, Any]:
    """One row of the section "returns": how a policy did in an env, in episodes' returns of a unit ("native", …)."""
    return {
        "policy": policy,
        "env_id": played.env_id,
        "episodes": len(played.returns),
        "mean": played.mean,
        "half_width": played.half_width,
        "unit": unit,
    }


def write_report(folder: str | Path, data: Mapping[str, Any]) -> Path:
    """Write `report.md` for people and `report.json` for programs; a section that `data` lacks is left out.

    Args:
        folder: the run folder.
        data: any of these sections:

            - "run": {"command": str, "seed": int, and optionally "minutes": {stage: float}}
            - "returns": list of `return_row`
            - "video": file name of the gif, relative to `folder`
            - "dataset", "tokenizer", "open_loop", "dynamics", "heads", "speed": as `world_report` returns them
            - "machine": as `machine()` returns it; filled in if absent

    Returns: the path of report.md.
    Raises: ValueError for a section it does not know.
    """
    for name in data:
        if name not in _SECTIONS:
            raise ValueError(f"a report has no section {name!r}.{did_you_mean(name, _SECTIONS)}")
    data = {"machine": machine(), **data}
    folder = Path(folder)
    parts = [render(data[name]) for name, render in _SECTIONS.items() if data.get(name)]
    title = data.get("dataset", {}).get("env_id", "world model")
    with atomic_write(folder / "report.md") as temporary:
        temporary.write_text("\n\n".join([f"# Report: {title}", *parts]) + "\n", encoding="utf-8")
    write_json(folder / "report.json", strict(data))
    return folder / "report.md"


def _interval(mean: float, half_width: float) -> str:
    return f"{mean:,.1f} ± {half_width:,.1f}" if math.isfinite(half_width) else f"{mean:,.1f} (one episode)"


def _per_slice(values: list[float]) -> str:
    return " / ".join(f"{value:.0f}" for value in values)


def _run(run: Mapping[str, Any]) -> str:
    text = f"Made by `{run['command']}` with seed {run['seed']}."
    if minutes := run.get("minutes"):
        rows = [[stage, f"{value:.1f}"] for stage, value in minutes.items()]
        text += "\n\n" + table(["stage", "minutes"], [*rows, ["**total**", f"**{sum(minutes.values()):.1f}**"]])
    return text


def _machine(about: Mapping[str, Any]) -> str:
    gpu = f", {about['gpu']}" if "gpu" in about else ""
    return f"Machine: {about['cpu']}, {about['cores']} cores{gpu}; torch {about['torch']}; {about['date']}."


def _returns(rows: list[Mapping[str, Any]]) -> str:
    cells = [
        [row["policy"], row["env_id"], row["episodes"], _interval(row["mean"], row["half_width"]), row["unit"]]
        for row in rows
    ]
    header = ["policy", "played in", "episodes", "return per episode, mean ± 95 %", "reward unit"]
    return "## Returns\n\n" + table(header, cells)


def _video(name: str) -> str:
    return (
        "## Dream beside reality\n\nThe same start and the same recorded actions: the game on the left, the model on "
        "the right. Blue border: given context. Orange: prediction. The starts are drawn from held-out play in which a "
        "rare positive reward comes 4 to 14 steps after the context (from all held-out play where there is none).\n\n"
        f"![dream beside reality]({name})"
    )


def dataset_rows(facts: Mapping[str, Any]) -> list[list[str]]:
    """The `dataset_facts` in words, two cells each."""
    height, width, channels = facts["frame_size"]
    steps = facts["steps"]
    rows = [
        ["game", facts["env_id"]],
        ["episodes", f"{facts['episodes']:,} ({facts['test_episodes']:,} held out for testing)"],
        ["steps (decisions)", f"{steps:,}"],
        ["frames", f"{facts['frames_per_step']} per step, {height} × {width} × {channels} uint8"],
        [
            f"return per episode ({facts['reward_unit']} reward), mean ± 95 %",
            _interval(facts["return_mean"], facts["return_half_width"]),
        ],
        ["steps with reward above 0", f"{facts['positive_rewards']:,} ({facts['positive_rewards'] / steps:.2%})"],
        ["steps with reward below 0", f"{facts['negative_rewards']:,} ({facts['negative_rewards'] / steps:.2%})"],
        ["episodes terminated / truncated", f"{facts['terminated']:,} / {facts['truncated']:,}"],
    ]
    for name, count in facts.get("actions", {}).items():
        rows.append([f"action {name}", f"{count:,} steps ({count / steps:.1%})"])
    return rows


def _dataset(facts: Mapping[str, Any]) -> str:
    return "## Data\n\n" + table(["", "value"], dataset_rows(facts))


def _tokenizer(scores: Mapping[str, Any]) -> str:
    rows = [
        ["reconstruction NMSE (squared error / pixel variance)", f"{scores['nmse']:.4f}"],
        ["reconstruction PSNR", f"{scores['psnr_db']:.2f} dB"],
        ["reconstruction SSIM", f"{scores['ssim']:.4f}"],
        [f"codes in use of {scores['num_codes']}, per slice", _per_slice(scores["codes_in_use"])],
        ["perplexity of the codes, per slice", _per_slice(scores["perplexity"])],
    ]
    return f"## Tokenizer\n\nOn {scores['steps']:,} held-out steps.\n\n" + table(["", "value"], rows)


def _open_loop(scores: Mapping[str, Any]) -> str:
    kinds = {"dream": "dream_psnr_db", "copy of the last given frame": "copy_psnr_db"}
    kinds["reconstruction of the truth"] = "reconstruction_psnr_db"
    header = ["PSNR in dB at step", *map(str, scores["step"])]
    rows = [[kind, *(f"{value:.2f}" for value in scores[key])] for kind, key in kinds.items()]
    return (
        f"## Open-loop dreams\n\n{scores['starts']} held-out starts, {scores['context_steps']} steps of context, "
        f"recorded actions, temperature {scores['temperature']:g}.\n\n" + table(header, rows)
    )


def _dynamics(scores: Mapping[str, Any]) -> str:
    rows = [["loss", f"{scores['bits_per_code']:.3f} bits per code"]]
    if "shuffled_action_ratio" in scores:
        rows.append(
            ["loss with another segment's actions / with the true ones", f"{scores['shuffled_action_ratio']:.3f}"]
        )
    return f"## Dynamics\n\nOn {scores['steps']:,} held-out steps.\n\n" + table(["", "value"], rows)


def _heads(scores: Mapping[str, Any]) -> str:
    names = {"positive_reward": "reward above 0", "termination": "termination"}
    rows = []
    for key, head in scores.items():
        f1_cell = f"{head['f1']:.3f} (from {head['threshold']:.3g})" if head.get("f1") is not None else "not measured"
        rows.append([names[key], f"{head['events']:,} of {head['steps']:,}", f"{head['auroc']:.3f}", f1_cell])
    return "## Heads\n\n" + table(["event", "held-out steps that have it", "AUROC", "F1 (threshold)"], rows)


def _speed(speeds: Mapping[str, Any]) -> str:
    rows = [
        ["codes and rewards only", f"{speeds['env_steps_per_second']:,.0f} env steps/s"],
        ["with decoded frames", f"{speeds['env_steps_per_second_with_frames']:,.0f} env steps/s"],
    ]
    return f"## Speed\n\n{speeds['rows']} dreams at once, all together.\n\n" + table(["", "value"], rows)


# In the order of the report.
_SECTIONS: dict[str, Callable[[Any], str]] = {
    "run": _run,
    "machine": _machine,
    "returns": _returns,
    "video": _video,
    "dataset": _dataset,
    "tokenizer": _tokenizer,
    "open_loop": _open_loop,
    "dynamics": _dynamics,
    "heads": _heads,
    "speed": _speed,
}

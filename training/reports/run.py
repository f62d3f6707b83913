"""The report of a world model or of a whole run: report.md for people, report.json for programs, plots and a video."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldmodel.data import EpisodeStorage
from worldmodel.envs.registry import steps_per_second
from worldmodel.errors import did_you_mean
from worldmodel.evaluation.open_loop import (
    dream_along,
    dreamt_steps,
    eventful_segments,
    given_steps,
    model_steps_that_fit,
)
from worldmodel.media.write import dream_vs_real
from worldmodel.model import WorldModel
from worldmodel.training.dream_vs_real.plots import plot_trust
from worldmodel.training.dream_vs_real.trust_page import trust_text
from worldmodel.training.reports.blind import BLIND, blind_hint
from worldmodel.training.reports.evaluation import (
    ONE_EPISODE,
    control_part,
    dataset_part,
    distances_part,
    dynamics_part,
    heads_part,
    open_loop_part,
    reward_part,
    settings_part,
    speed_part,
    termination_part,
    tokenizer_part,
)
from worldmodel.training.reports.markdown import machine, made_on, mean_cell, table, write_pages
from worldmodel.training.reports.objects import danger_part, dreamt_part, objects_part
from worldmodel.training.reports.plots import plot_control, plot_open_loop

if TYPE_CHECKING:
    from worldmodel.agents.evaluate import Evaluation

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


def write_dream_vs_real(
    wm: WorldModel,
    store: EpisodeStorage,
    path: str | Path,
    split: str = "test",
    *,
    episodes: int = 3,
    context_steps: int = 8,
) -> list[Path]:
    """Write `path`.mp4 and `path`.gif: held-out starts and recorded actions, real on the left, dream on the right.

    The starts are drawn where a rare positive reward follows in the recorded play (`eventful_segments`), so that there
    is something to see; how the dream looks plays no part. The open-loop scores come from all starts alike.
    """
    context_steps, dreamt = model_steps_that_fit(wm, store, split, context_steps)
    context_steps = given_steps(wm, context_steps)
    dreamt = dreamt_steps(wm, context_steps, dreamt)
    segments = eventful_segments(store, split, episodes, context_steps, dreamt)
    dreams = dream_along(wm, store, segments, context_steps, temperature=1.0)
    fps = steps_per_second(wm.config) * wm.frames_per_step
    return dream_vs_real(dreams.real.numpy(), dreams.dream.numpy(), context_steps, path, fps)


def write_report(folder: str | Path, results: Mapping[str, Any], plots: bool = False) -> Path:
    """Write `report.md` and `report.json`; a section that `results` lacks is left out.

    Args:
        folder: the run folder.
        results: any of these sections:

            - "run": {"command": str, and optionally "seed": int, "minutes": {stage: float} and more}
            - "returns": list of `return_row`
            - "video": file name of the gif, relative to `folder`
            - all of `evaluate_model`
            - "trust": as `quick_trust` returns it
            - "machine": as `machine()` returns it; filled in if absent
        plots: draw PNG files too.

    Returns: the path of report.md.
    Raises: ValueError for an unknown section.
    """
    for name in results:
        if name not in _KNOWN:
            raise ValueError(f"a report has no section {name!r}.{did_you_mean(name, _KNOWN)}")
    results = {"machine": machine(), **results}
    folder = Path(folder)
    page = [f"# Report: {_game(results)}"]
    for name, (title, render) in _SECTIONS.items():
        if results.get(name) and (text := render(results)):
            page += [f"## {title}" if title else "", text]
            page += [_picture(name, results[name], folder)] if plots else []
    return write_pages(folder, "report", page, results)


def _game(results: Mapping[str, Any]) -> str:
    names = (results.get(name, {}).get("env_id") for name in ("settings", "dataset"))
    return next((name for name in names if name), "an unnamed game")


def _picture(name: str, section: Mapping[str, Any], folder: Path) -> str:
    """Draw the plot of a section, if it has one; returns the line that shows it."""
    if name not in _PLOTS or ("absent" in section and name != "control"):
        return ""
    draw, file = _PLOTS[name]
    return f"![{name.replace('_', ' ')}]({draw(section, folder / file).name})"


def _run(results: Mapping[str, Any]) -> str:
    run = results["run"]
    text = f"Made by `{run['command']}`" + (f" with seed {run['seed']}." if "seed" in run else ".")
    if minutes := run.get("minutes"):
        rows = [[stage, f"{value:.1f}"] for stage, value in minutes.items()]
        text += "\n\n" + table(["stage", "minutes"], [*rows, ["**total**", f"**{sum(minutes.values()):.1f}**"]])
    return text


def _returns(results: Mapping[str, Any]) -> str:
    cells = [
        [
            row["policy"],
            row["env_id"],
            row["episodes"],
            mean_cell(row, unknown=ONE_EPISODE),
            row["unit"],
        ]
        for row in results["returns"]
    ]
    text = table(["policy", "played in", "episodes", "return per episode, mean ± 95 %", "reward unit"], cells)
    blind = any(row["policy"].startswith(BLIND) for row in results["returns"])
    return text if blind else f"{text}\n\n{blind_hint(results['returns'][0]['env_id'])}"


def _video(results: Mapping[str, Any]) -> str:
    return (
        "The same start and the same recorded actions: the game on the left, the model on the right. Blue border: "
        "given context. Orange: prediction. The starts are drawn from held-out play in which a rare positive reward "
        "comes 4 to 14 steps after the context (from all held-out play where there is none).\n\n"
        f"![dream beside reality]({results['video']})"
    )


def _of(name: str, render: Callable[[Any], str]) -> Callable[[Mapping[str, Any]], str]:
    """A renderer that needs one section alone."""
    return lambda results: render(results[name])


_DISTANCES = ("idm_fd", "fvd", "unconditional")
# In the order of the report: the section that must be there, its title, and its text.
_SECTIONS: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "run": ("", _run),
    "machine": ("", lambda results: f"Machine: {made_on(results['machine'])}."),
    "settings": ("", _of("settings", settings_part)),
    "returns": ("Returns", _returns),
    "video": ("Dream beside reality", _video),
    "dataset": ("Data", _of("dataset", dataset_part)),
    "tokenizer": ("Tokenizer", _of("tokenizer", tokenizer_part)),
    "objects": ("Objects that the tokenizer keeps", _of("objects", objects_part)),
    "dreamt_objects": ("Objects in dreams", _of("dreamt_objects", dreamt_part)),
    "danger": ("Coming hits", _of("danger", danger_part)),
    "dynamics": ("Dynamics", lambda results: dynamics_part(results["dynamics"], results.get("control", {}))),
    "open_loop": ("Open-loop dreams", _of("open_loop", open_loop_part)),
    "heads": ("Heads", _of("heads", heads_part)),
    "reward": ("Predicted rewards", lambda results: reward_part(results["reward"], results["dataset"]["reward_unit"])),
    "termination": ("Predicted ends", _of("termination", termination_part)),
    "control": ("Control", _of("control", control_part)),
    "idm_fd": ("Distances", lambda results: distances_part(*(results[name] for name in _DISTANCES))),
    "speed": ("Speed", _of("speed", speed_part)),
    "trust": ("Is the dream true where policies go?", _of("trust", trust_text)),
}
_KNOWN = (*_SECTIONS, *_DISTANCES[1:])
_PLOTS: dict[str, tuple[Callable[[Mapping[str, Any], Path], Path], str]] = {
    "open_loop": (plot_open_loop, "horizon.png"),
    "control": (plot_control, "control.png"),
    "trust": (plot_trust, "trust.png"),
}

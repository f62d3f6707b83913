"""The dream-vs-real report as files: report.md for people, report.json for programs, and plots in one folder."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from worldmodel.training.dream_vs_real.plots import plot_calibration, plot_returns, plot_survival, plot_trust
from worldmodel.training.dream_vs_real.trust_page import trust_text
from worldmodel.training.reports.evaluation import control_part, open_loop_part, reward_part, termination_part
from worldmodel.training.reports.markdown import absent, machine, made_on, mean_cell, or_absent, table, write_pages
from worldmodel.training.reports.plots import plot_control, plot_open_loop


def write_dream_report(folder: str | Path, results: Mapping[str, Any], plots: bool = True) -> Path:
    """Write what `dream_report` returned; `results` may also hold "run" ({"command": str}).

    Returns: the path of report.md.
    """
    folder = Path(folder)
    results = {"machine": machine(), **results}
    return write_pages(folder, "report", _page(results, _draw(folder, results) if plots else {}), results)


def _draw(folder: Path, results: Mapping[str, Any]) -> dict[str, str]:
    """Picture of each section -> its file name."""
    settings, policies = results["settings"], results["policies"]
    unit = settings["reward_unit"]
    paths = {
        "returns": plot_returns(policies, unit, settings["horizon"], folder / "returns.png"),
        "survival": plot_survival(policies, folder / "survival.png"),
    }
    if "absent" not in results["trust"]:
        paths["trust"] = plot_trust(results["trust"], folder / "trust.png")
    if "absent" not in results["reward"]:
        path = folder / "calibration.png"
        paths["calibration"] = plot_calibration(results["reward"], results["termination"], unit, path)
    if results["control"].get("reliable"):
        paths["control"] = plot_control(results["control"], folder / "control.png")
    if "absent" not in results["drift"]:
        paths["drift"] = plot_open_loop(results["drift"], folder / "drift.png")
    return {name: path.name for name, path in paths.items()}


def _page(results: Mapping[str, Any], pictures: Mapping[str, str]) -> list[str]:
    def picture(name: str, about: str) -> str:
        return f"![{about}]({pictures[name]})" if name in pictures else ""

    settings = results["settings"]
    return [
        f"# Dream and reality: {settings['env_id']}",
        _summary(results),
        "## Is the dream true where policies go?",
        trust_text(results["trust"]),
        picture("trust", "survival and reward per step, dream over real"),
        "## Returns side by side",
        _setting(settings, results["policies"]),
        _returns(results["policies"], settings),
        picture("returns", "dream and real return of every policy"),
        "## Does the dream rank the policies as the game does?",
        _agreement(results["agreement"], settings),
        "## Survival",
        _survival(results["policies"], settings["horizon"]),
        picture("survival", "share of episodes alive by step"),
        "## Are the predicted rewards right?",
        reward_part(results["reward"], settings["reward_unit"]),
        "## Are the predicted ends right?",
        termination_part(results["termination"]),
        picture("calibration", "predicted against real rewards and ends"),
        "## Does the dream follow its actions?",
        _control(results["control"]),
        picture("control", "action accuracy by dreamt step"),
        "## How fast does it drift from what happened?",
        _drift(results["drift"]),
        picture("drift", "PSNR and SSIM by dreamt step"),
        f"Machine: {made_on(results['machine'])}."
        + (f" Made by `{results['run']['command']}`." if "run" in results else "")
        + " docs/dream-vs-real.md says what each number means.",
    ]


# --- returns ---------------------------------------------------------------------------------------------------------


def _summary(results: Mapping[str, Any]) -> str:
    """The summary, in one paragraph."""
    agreed, unit = results["agreement"], results["settings"]["reward_unit"]
    rank = agreed["real"]["spearman"]
    order = (
        f"Rank correlation of dream and real returns: {absent(rank)}."
        if "absent" in rank
        else f"Rank correlation of dream and real returns: **{rank['value']:.2f}** over {rank['policies']} policies."
    )
    more = "more" if agreed["mean_gap"] >= 0 else "less"
    picked = (
        "The policy that the dream finds best is also the best in the game."
        if agreed["picked"] == agreed["best"]
        else f"The dream finds *{agreed['picked']}* best, which earns {agreed['picked_real']:.1f} in the game; "
        f"the best there is *{agreed['best']}* with {agreed['best_real']:.1f}."
    )
    return (
        f"{order} On average the dream pays {abs(agreed['mean_gap']):.1f} {unit} reward {more} than the game. {picked}"
    )


def _setting(settings: Mapping[str, Any], policies: Sequence[Mapping[str, Any]]) -> str:
    """What was compared, and the limits of the comparison."""
    horizon, unit = settings["horizon"], settings["reward_unit"]
    begins = {
        "game": "Dreams begin with the first frame of real episodes, so both begin alike",
        "recorded": "**Dreams begin in the middle of recorded play (the checkpoint's starts), real episodes at their "
        "reset: these are different tasks, and only reward per step compares, with care**",
    }[settings["starts"]]
    lines = [
        f"{settings['episodes']} episodes of each policy in each world, equal seeds for all. *Dream* and *real* are "
        f"the sums of the first {horizon} rewards of an episode in one unit ({unit}), not discounted, mean ± 95 %. "
        f"{begins}. Temperature {settings['temperature']:g}. *Whole real episode* continues to the game's own end, in "
        "the game's native reward."
    ]
    if settings["learned_from"] not in ("", settings["env_id"]):
        lines.append(f"The dream was learned from another game, {settings['learned_from']}.")
    if cut := sum(row["real"]["cut_early"] for row in policies):
        lines.append(
            f"{cut} real episodes were cut by the game's clock before step {horizon}, which the dream does "
            "not know; a shorter horizon compares better."
        )
    if any(row["sees"] == "frames" for row in policies):
        lines.append("Agents trained on the game's own frames see these in the game, and decoded ones in the dream.")
    return " ".join(lines)


def _returns(policies: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    rows = [
        [
            f"{place}. {row['policy']}",
            mean_cell(row["dream"]),
            mean_cell(row["real"]),
            mean_cell(row["difference"], signed=True),
            f"{row['dream']['reward_per_step']:.3f}",
            f"{row['real']['reward_per_step']:.3f}",
            mean_cell(row["whole"]),
        ]
        for place, row in enumerate(policies, start=1)
    ]
    header = ["policy", "dream", "real", "dream − real", "dream, per step", "real, per step", "whole real episode"]
    return table(header, rows)


def _agreement(agreed: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    horizon = settings["horizon"]
    names = {
        "real": f"return in dream and game, first {horizon} steps",
        "whole": "return in the dream and of whole real episodes",
        "steps": f"steps alive in dream and game, of the first {horizon}",
    }
    rows = []
    for key, name in names.items():
        for measure, label in (("spearman", "Spearman (ranks)"), ("pearson", "Pearson (values)")):
            rows.append([f"{name}: {label}", *_correlation(agreed[key][measure])])
    head = table(["over policies", "correlation", "95 % over policies", "chance", "policies"], rows)
    words = f"*Chance* is the share of all orders of the policies that agree at least as well.{_few(agreed)}"
    return f"{head}\n\n{words}\n\n" + table(
        ["", "value"],
        [
            ["mean gap, dream − real", f"{agreed['mean_gap']:+.2f}"],
            ["mean maximum rank violation, in real return", f"{agreed['rank_violation']:.2f}"],
            ["best policy in the dream, and its real return", f"{agreed['picked']}: {agreed['picked_real']:.2f}"],
            ["best policy in the game, and its real return", f"{agreed['best']}: {agreed['best_real']:.2f}"],
        ],
    )


def _correlation(found: Mapping[str, Any]) -> list[str]:
    if "absent" in found:
        return [absent(found), "", "", ""]
    interval = "none" if found["interval"] is None else "{:.2f} to {:.2f}".format(*found["interval"])
    return [f"{found['value']:.2f}", interval, f"{found['chance']:.3f}", str(found["policies"])]


def _few(agreed: Mapping[str, Any]) -> str:
    """Why there are no intervals, or ""."""
    for found in (part for name in ("real", "whole", "steps") for part in agreed[name].values()):
        if found.get("interval", ()) is None:
            return f" {found['policies']} policies are too few for an interval, which would be nearly −1 to 1."
    return ""


def _survival(policies: Sequence[Mapping[str, Any]], horizon: int) -> str:
    steps = sorted({max(1, round(horizon * share)) for share in (0.25, 0.5, 0.75, 1.0)})
    rows = []
    for place, row in enumerate(policies, start=1):
        cells = [" / ".join(_percent(row[world]["survival"][step]) for world in ("dream", "real")) for step in steps]
        lengths = f"{row['dream']['mean_steps']:.0f} / {row['real']['mean_steps']:.0f}"
        rows.append([f"{place}. {row['policy']}", *cells, lengths, f"{row['survival_gap']:.2f}"])
    header = ["policy", *(f"alive after {step} steps" for step in steps), "mean steps", "largest gap"]
    return "Dream / real.\n\n" + table(header, rows)


# --- recorded play ---------------------------------------------------------------------------------------------------


@or_absent
def _control(found: Mapping[str, Any]) -> str:
    text = control_part(found)
    if not found["reliable"]:
        text += (
            "\n\n**The network recognises the actions of real play hardly better than without looking, so these "
            "numbers say nothing about the dream.** Train it longer (--inverse-dynamics.steps)."
        )
    return text


@or_absent
def _drift(found: Mapping[str, Any]) -> str:
    given = found["context_steps"]
    return f"{found['dreams']} dreams with the recorded actions, from {given} given steps.\n\n{open_loop_part(found)}"


def _percent(share: float) -> str:
    return "unknown" if math.isnan(share) else f"{share:.0%}"

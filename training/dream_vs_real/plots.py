"""Plots of the dream-vs-real report, as PNG files.

Letters: n policies.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from worldmodel.training.reports.plots import COLORS, new_figure, save

_GRAY, _BLUE = "#888888", "#0072B2"
_KINDS = {"first": _BLUE, "mid": "#D55E00"}  # of beginnings
_LABELS = {"first": "from first frames", "mid": "from mid-play"}


def plot_returns(policies: Sequence[Mapping[str, Any]], unit: str, horizon: int, path: str | Path) -> Path:
    """Dream and real return of every policy side by side, and one against the other."""
    figure = new_figure(11, max(3.6, 1.4 + 0.42 * len(policies)))
    bars, scatter = figure.subplots(1, 2, width_ratios=(3, 2))
    means = {world: [row[world]["mean"] for row in policies] for world in ("dream", "real")}
    reach = {world: [_finite(row[world]["half_width"]) for row in policies] for world in ("dream", "real")}
    for shift, world in ((-0.19, "dream"), (0.19, "real")):
        places = [index + shift for index in range(len(policies))]
        bars.barh(
            places, means[world], 0.36, xerr=reach[world], color=COLORS[world], ecolor=_GRAY, label=world, capsize=2
        )
    bars.axvline(0, color=_GRAY, linewidth=0.8)
    names = [f"{number}. {_short(row['policy'])}" for number, row in enumerate(policies, start=1)]
    bars.set_yticks(range(len(policies)), names, fontsize="small")
    bars.invert_yaxis()
    bars.set(xlabel=f"return of the first {horizon} steps ({unit} reward), mean and 95 %")
    scatter.errorbar(
        means["dream"], means["real"], xerr=reach["dream"], yerr=reach["real"], fmt="o", color=_BLUE, ecolor="#bbbbbb"
    )
    scatter.axline((means["dream"][0],) * 2, slope=1, color=_GRAY, linestyle=":", label="dream = real")
    for number, point in enumerate(zip(means["dream"], means["real"], strict=True), start=1):
        scatter.annotate(str(number), point, textcoords="offset points", xytext=(5, 4), fontsize="small")
    scatter.set(xlabel="dream", ylabel="real")
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    return save(figure, path)


def plot_trust(section: Mapping[str, Any], path: str | Path) -> Path:
    """Survival and reward per step of every policy, dream over real with 95 %; the bands are what may be trusted."""
    kinds = {kind: color for kind, color in _KINDS.items() if kind in section}
    names = [row["policy"] for row in section[next(iter(kinds))]["policies"]]
    figure = new_figure(11, max(3.6, 1.6 + 0.34 * len(names)))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key, what in zip(panels, ("steps", "reward_per_step"), ("steps", "reward per step"), strict=True):
        axes.axvspan(*section["thresholds"]["survival" if key == "steps" else key], color="#dddddd")
        axes.axvline(1, color=_GRAY, linewidth=0.8)
        for place, (kind, color) in enumerate(kinds.items()):
            shift = 0.3 * (place - (len(kinds) - 1) / 2)
            _ratios(axes, [row["ratios"][key] for row in section[kind]["policies"]], shift, color, _LABELS[kind])
        axes.set_xscale("symlog", linthresh=0.5, linscale=0.5)
        axes.set_xticks(ticks := [0, 0.5, 0.75, 1, 1.33, 2, 4, 8], [f"{tick:g}" for tick in ticks], fontsize="small")
        axes.set_xlim(-0.1, 10)
        axes.set(xlabel=f"{what}, dream over real")
    panels[0].set_yticks(range(len(names)), [_short(name) for name in names], fontsize="small")
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize="small")
    return save(figure, path)


def _ratios(axes: Any, ratios: Sequence[Mapping[str, Any]], shift: float, color: str, label: str) -> None:
    """One dot for each ratio that exists, at its row."""
    there = [(place + shift, ratio) for place, ratio in enumerate(ratios) if "absent" not in ratio]
    values = [ratio["value"] for _, ratio in there]
    reach = [[_finite(abs(ratio["interval"][side] - ratio["value"])) for _, ratio in there] for side in (0, 1)]
    axes.errorbar(values, [place for place, _ in there], xerr=reach, fmt="o", color=color, label=label, markersize=4)


def plot_survival(policies: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Share of episodes alive by step, one panel per policy."""
    columns = min(4, len(policies))
    rows = -(-len(policies) // columns)
    figure = new_figure(3.1 * columns, 2.3 * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(policies) :]:
        axes.set_visible(False)
    for number, (axes, row) in enumerate(zip(grid.flat, policies, strict=False), start=1):
        for world, width in (("real", 2.5), ("dream", 1.5)):  # the thinner line on top leaves the other visible
            curve = row[world]["survival"]
            axes.step(range(len(curve)), curve, COLORS[world], where="post", label=world, linewidth=width)
        axes.set_title(f"{number}. {_short(row['policy'], 30)}", fontsize="small")
        axes.set(ylim=(-0.03, 1.03))
        axes.tick_params(labelbottom=True)
    figure.supxlabel("step", fontsize="medium")
    figure.supylabel("share of episodes alive", fontsize="medium")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize="small")
    return save(figure, path)


def plot_calibration(reward: Mapping[str, Any], termination: Mapping[str, Any], unit: str, path: str | Path) -> Path:
    """Predicted against real rewards and ends. Points are bins; larger ones hold more steps."""
    figure = new_figure(9.5, 4)
    left, right = figure.subplots(1, 2)
    _reliability(left, reward["bins"])
    left.axline((0, 0), slope=1, color=_GRAY, linestyle=":", label="as predicted")
    left.set(xlabel=f"predicted reward ({unit})", ylabel="real reward, mean and 95 %")
    left.legend(loc="upper left", fontsize="small")
    _reliability(right, termination["bins"])
    right.plot([0, 1], [0, 1], color=_GRAY, linestyle=":", label="as predicted")
    if termination.get("ends") != "drawn":  # absent from older reports
        right.axvline(termination["threshold"], color="#CC79A7", linestyle="--", label="a dream ends from here on")
    # Ends are rare: most bins lie close to 0, and to see them the axes are stretched there.
    right.set_xscale("symlog", linthresh=1e-3)
    right.set_yscale("symlog", linthresh=1e-3)
    right.set(xlim=(0, 1.3), ylim=(0, 1.3))
    right.set(xlabel="predicted probability of an end", ylabel="share that ended, and 95 %")
    right.legend(loc="lower right", fontsize="small")
    return save(figure, path)


def _reliability(axes: Any, bins: Sequence[Mapping[str, Any]]) -> None:
    predicted, actual = [part["predicted"] for part in bins], [part["actual"] for part in bins]
    lows = [_finite(part["actual"] - part["interval"][0]) for part in bins]
    highs = [_finite(part["interval"][1] - part["actual"]) for part in bins]
    axes.errorbar(predicted, actual, yerr=[lows, highs], fmt="none", ecolor="#bbbbbb")
    most = max(part["count"] for part in bins)
    sizes = [12 + 100 * (part["count"] / most) ** 0.5 for part in bins]
    axes.scatter(predicted, actual, sizes, color=COLORS["dream"], zorder=3)


def _finite(reach: float) -> float:
    """Half of an error bar: 0 if the spread is unknown, and not below 0 by rounding."""
    return max(reach, 0.0) if math.isfinite(reach) else 0.0


def _short(name: str, most: int = 34) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]

"""Plots of an evaluation, as PNG files."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymnasium.error import DependencyNotInstalled

from worldmodel.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind people can distinguish.
COLORS = {
    "real": "#000000",
    "reconstruction": "#009E73",
    "dream": "#E69F00",
    "dream_swapped": "#CC79A7",
    "copy": "#0072B2",
}
_LABELS = {"copy": "copy of the last given frame", "dream_swapped": "dream, another start's actions"}


def check_matplotlib() -> None:
    """Raise at once, and not after an hour of measuring, if plots cannot be drawn."""
    if find_spec("matplotlib") is None:
        raise DependencyNotInstalled("plots need matplotlib: pip install 'videogen-dream[plots]', or use --no-plots")


def plot_open_loop(section: Mapping[str, Any], path: str | Path) -> Path:
    """PSNR and SSIM by dreamt step, for the section "open_loop"; the dotted line is the usable horizon."""
    panels = [
        (section["psnr_db"], "PSNR in dB", {"usable horizon": section["usable_horizon_psnr_db"]}),
        (section["ssim"], "SSIM", {"usable horizon": section["usable_horizon_ssim"]}),
    ]
    return _draw(path, panels, level=None)


def plot_control(section: Mapping[str, Any], path: str | Path) -> Path:
    """How well actions are recognised from frames, by dreamt step, for the section "control"."""
    label = "accuracy of the inverse dynamics" if section["measure"] == "accuracy" else "R² of the inverse dynamics"
    return _draw(path, [(section["by_step"], label, {})], level=section["blind"])


def _draw(
    path: str | Path,
    panels: Sequence[tuple[Mapping[str, list[float]], str, Mapping[str, int]]],
    level: float | None,
) -> Path:
    """One panel per set of curves by step, its y label, and marked steps; `level` is the score without looking."""
    figure = new_figure(5.5 * len(panels), 3.6)
    for axes, (curves, label, marks) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, values in curves.items():
            steps = range(1, len(values) + 1)
            axes.plot(steps, values, color=COLORS[name], marker=".", label=_LABELS.get(name, name))
        for name, step in marks.items():
            axes.axvline(step, color="#888888", linestyle=":", label=f"{name}: {step}")
        if level is not None:
            axes.axhline(level, color="#888888", linestyle="--", label="without looking")
        axes.set(xlabel="dreamt step", ylabel=label)
        axes.legend(fontsize="small")
    return save(figure, path)


def new_figure(width: float, height: float) -> "Figure":
    check_matplotlib()
    from matplotlib.figure import Figure  # without pyplot there is no global state and no display

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: "Figure", path: str | Path) -> Path:
    """Write a figure as PNG, whole or not at all."""
    path = Path(path)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return path

"""What reports share: tables, numbers and intervals in Markdown, the two files of a report, and the machine."""

import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from worldmodel.files import write_json, write_text


def machine() -> dict[str, Any]:
    """The machine that the figures come from, and the date."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    about = {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch": str(torch.__version__),
        "date": datetime.now(UTC).date().isoformat(),
    }
    if torch.cuda.is_available():
        about["gpu"] = torch.cuda.get_device_name()
    return about


def hardware(about: Mapping[str, Any]) -> str:
    """Processor and GPU of a `machine`."""
    return f"{about['cpu']}, {about['cores']} cores" + (f", {about['gpu']}" if "gpu" in about else "")


def made_on(about: Mapping[str, Any]) -> str:
    """A `machine` in words."""
    return f"{hardware(about)}; torch {about['torch']}; {about['date']}"


def write_pages(folder: str | Path, name: str, page: Sequence[str], results: Any) -> Path:
    """Write the paragraphs of a page as NAME.md and the results as NAME.json; returns the path of the page."""
    folder = Path(folder)
    write_text(folder / f"{name}.md", "\n\n".join(part for part in page if part) + "\n")
    write_json(folder / f"{name}.json", strict(results))
    return folder / f"{name}.md"


def table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def number(value: float | None, digits: int = 4, missing: str = "not measured") -> str:
    """A number with this many digits; `missing` for None, and a dash for what is infinite or NaN."""
    if value is None:
        return missing
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"  # such as the interval of a single episode


def per_slice(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.0f}" for value in values)


def interval(mean: float, half_width: float | None, digits: int = 1, *, signed: bool = False, unknown: str = "") -> str:
    """A mean ± its half-width; `unknown` in place of a half-width that is infinite, as of a single value, or None."""
    text = f"{mean:{'+' if signed else ''},.{digits}f}"
    known = half_width is not None and math.isfinite(half_width)
    return f"{text} ± {half_width:,.{digits}f}" if known else f"{text}{unknown}"


def mean_cell(found: Mapping[str, Any], **options: Any) -> str:
    """The "mean" and "half_width" of a result as an `interval`."""
    return interval(found["mean"], found["half_width"], **options)


def absent(section: Mapping[str, Any]) -> str:
    """Why a section does not apply, or nothing."""
    return f"absent: {section['absent']}" if "absent" in section else ""


def or_absent(part: Callable[..., str]) -> Callable[..., str]:
    """A section as text, or why it does not apply."""

    @wraps(part)
    def text(section: Mapping[str, Any], *more: Any) -> str:
        return absent(section) or part(section, *more)

    return text


def strict(value: Any) -> Any:
    """JSON has no infinity (the interval of a single episode) and no NaN: they become null."""
    if isinstance(value, Mapping):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

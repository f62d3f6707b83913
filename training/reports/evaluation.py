"""The report of an evaluated world model: report.json, report.md and plots in one folder."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worldmodel.evaluation.fvd import PROTOCOL
from worldmodel.files import atomic_write, write_json
from worldmodel.training.dream_vs_real.plots import plot_trust
from worldmodel.training.dream_vs_real.trust_page import trust_text
from worldmodel.training.reports.markdown import machine, strict, table
from worldmodel.training.reports.objects import danger_part, dreamt_part, objects_part
from worldmodel.training.reports.plots import plot_control, plot_horizon

_PAPERS_CLIPS = 256


def write_evaluation(folder: str | Path, results: Mapping[str, Any], plots: bool = True) -> Path:
    """Write what `evaluate_model` returned; `results` may also hold "run" ({"command": str, …}) and "trust".

    Returns: the path of report.md.
    """
    folder = Path(folder)
    results = {"machine": machine(), "trust": {"absent": "no real game was given (--real ID)"}, **results}
    pictures = {}
    if plots and "absent" not in results["horizon"]:
        pictures["horizon"] = plot_horizon(results["horizon"], folder / "horizon.png").name
    if plots:
        pictures["control"] = plot_control(results["control"], folder / "control.png").name
    if plots and "absent" not in results["trust"]:
        pictures["trust"] = plot_trust(results["trust"], folder / "trust.png").name
    with atomic_write(folder / "report.md") as temporary:
        temporary.write_text(_page(results, pictures), encoding="utf-8")
    write_json(folder / "report.json", strict(results))
    return folder / "report.md"


def _page(results: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    settings, about = results["settings"], results["machine"]
    parts = [
        f"# World model of {settings['env_id'] or 'an unnamed game'}",
        f"Measured on the {settings['split']} split: {settings['dreams']} dreams from {_given(settings)}, "
        f"{settings['horizon']} steps long ({settings['frames_per_step']} frames per step), beside {settings['clips']} "
        f"different clips of {settings['episodes']} episodes; temperature {settings['temperature']:g}, "
        f"seed {settings['seed']}. docs/evaluation.md says what each number means.",
        "## Numbers\n\n" + table(["part", "number", "value"], [*_rows(results)]),
        "## Objects that the tokenizer keeps\n\n" + objects_part(results["objects"]),
        "## Objects in dreams\n\n" + dreamt_part(results["dreamt_objects"]),
        "## Coming hits\n\n" + danger_part(results["danger"]),
        "## By dreamt step\n\n" + by_step_table(_curves(results)),
        *(f"![{name} by dreamt step]({pictures[name]})" for name in ("horizon", "control") if name in pictures),
        "## Is the dream true where policies go?",
        trust_text(results["trust"]),
        *(f"![{name}: dream over real]({pictures[name]})" for name in ("trust",) if name in pictures),
        f"Machine: {about['cpu']}, {about['cores']} cores"
        + (f", {about['gpu']}" if "gpu" in about else "")
        + f"; torch {about['torch']}; {about['date']}."
        + (f" Made by `{results['run']['command']}`." if "run" in results else ""),
    ]
    return "\n\n".join(parts) + "\n"


def _given(settings: Mapping[str, Any]) -> str:
    steps = settings["context_steps"]
    return f"{steps} real step{'s' if steps > 1 else ''} each" if steps else "nothing"


def _rows(results: Mapping[str, Any]) -> list[list[str]]:
    tokenizer, prior, horizon = results["tokenizer"], results["prior"], results["horizon"]
    shuffled = absent(results["control"]) or _number(prior.get("shuffled_action_ratio"), 3)
    rows = [
        ["tokenizer", "NMSE (squared error / pixel variance)", _number(tokenizer["nmse"])],
        ["", "PSNR", f"{tokenizer['psnr_db']:.2f} dB"],
        ["", "SSIM", _number(tokenizer["ssim"])],
        ["", f"NMSE in changed pixels ({tokenizer['changed_share']:.1%} of all)", _number(tokenizer["nmse_changed"])],
        ["", "NMSE in unchanged pixels", _number(tokenizer["nmse_unchanged"])],
        [
            "",
            f"NMSE in changed pixels, camera still ({tokenizer['small_steps']:,} of {tokenizer['steps']:,} steps)",
            _number(tokenizer["nmse_changed_small"]),
        ],
        ["", f"codes in use of {tokenizer['num_codes']}, per slice", _per_slice(tokenizer["codes_in_use"])],
        ["", "perplexity of the codes, per slice", _per_slice(tokenizer["perplexity"])],
        ["prior", "bits per code", f"{prior['bits_per_code']:.3f}"],
        ["", f"bits per frame ({prior['codes_per_frame']:g} codes)", f"{prior['bits_per_frame']:.1f}"],
        ["", f"uniform guess ({prior['codes_kept']:.1%} of the codes stay)", f"{prior['uniform_bits_per_code']:.3f}"],
        ["", "codes stay as they were (copy last frame), bits per code", _number(prior.get("copy_bits_per_code"), 3)],
        ["", "the same per frame", _number(prior.get("copy_bits_per_frame"), 1)],
        ["", "loss with another segment's actions / the true ones", shuffled],
        ["dreams", "usable horizon by PSNR", horizon_cell(horizon, "psnr_db")],
        ["", "usable horizon by SSIM", horizon_cell(horizon, "ssim")],
    ]
    return [*rows, *control_rows(results["control"]), *_distance_rows(results)]


def control_rows(control: Mapping[str, Any]) -> list[list[str]]:
    """Rows of three cells for the section "control"."""
    measure = "action accuracy" if control["measure"] == "accuracy" else "R² of the actions"
    names = {
        "real": "real play",
        "reconstruction": "reconstructions of it",
        "dream": "dreams with the recorded actions",
        "dream_swapped": "dreams with another start's actions",
        "blind": "without looking",
    }
    unread = absent(control)
    rows = [
        ["", f"{measure}, {what}", unread if control[name] is None and unread else _number(control[name], 3)]
        for name, what in names.items()
    ]
    rows.append(["", "controllability: dreams / real play", unread or _number(control["dream_over_real"], 3)])
    rows.append(["", "action error: dreams / real play", unread or _number(control["error_over_real"], 3)])
    rows[0][0] = f"control ({control['transitions']:,} transitions)"
    return rows


def _distance_rows(results: Mapping[str, Any]) -> list[list[str]]:
    idm, fvd = results["idm_fd"], results["fvd"]
    names = {"dream": "dreams", "reconstruction": "reconstructions"}
    rows = [["", f"{what} against real clips", _number(idm[name], 3)] for name, what in names.items()]
    there = idm["other_real"] is not None
    source, value = (f" {idm['floor']}", _number(idm["other_real"], 3)) if there else ("", f"absent: {idm['floor']}")
    rows.append(["", f"other real clips{source} (the floor) against real clips", value])
    rows[0][0] = f"IDM-FD ({idm['clips']} clips, {idm['transitions']:,} transitions, {idm['features']} features)"
    free = results["unconditional"]
    rows.append(["", "dreams from nothing against real clips", absent(free) or _number(free["idm_fd"], 3)])
    if "absent" in fvd:
        return [*rows, *(["I3D", name, absent(fvd)] for name in ("FVD", "R-FVD", "FVD\\*"))]
    real, samples = fvd["clips"]
    part = f"I3D ({samples} against {real} clips, {fvd['given_frames']} of 16 frames given; {PROTOCOL})"
    if real != _PAPERS_CLIPS:
        part += f"; papers have {_PAPERS_CLIPS} clips, so this compares to none of them"
    rows += [
        [part, "FVD", f"{fvd['fvd']:.1f}"],
        ["", "R-FVD", f"{fvd['r_fvd']:.1f}"],
        ["", "FVD\\*", f"{fvd['fvd_star']:.1f}"],
        ["", "FVD of dreams from nothing", absent(free) or _number(free["fvd"], 1)],
    ]
    return rows


def _curves(results: Mapping[str, Any]) -> dict[str, Mapping[str, list[float]]]:
    horizon, control = results["horizon"], results["control"]
    names = {"psnr_db": "PSNR in dB", "ssim": "SSIM"}
    curves = {name: dict(horizon[key]) for key, name in names.items() if key in horizon}
    if sure := horizon.get("psnr_sureness"):
        words = {"half_width": "dream, ± 95 %", "gain": "dream less copy", "gain_half_width": "dream less copy, ± 95 %"}
        curves["PSNR in dB"] |= {name: sure[key] for key, name in words.items()}
    return curves | {control["measure"]: control["by_step"]}


def by_step_table(curves: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Some steps of curves of equal length: measure -> name -> its value at each step, from step 1."""
    rows = [(f"{measure}, {name}", values) for measure, part in curves.items() for name, values in part.items()]
    last = len(rows[0][1])
    steps = sorted({step for step in (1, 2, 4, 8, 16, 32, 64, 128, last) if step <= last})
    return table(["step", *steps], [[name, *(_number(values[step - 1], 3) for step in steps)] for name, values in rows])


def absent(section: Mapping[str, Any]) -> str:
    """The word for a section that does not apply, or nothing."""
    return f"absent: {section['absent']}" if "absent" in section else ""


def horizon_cell(section: Mapping[str, Any], name: str) -> str:
    """The usable horizon by the measure `name`."""
    if "absent" in section:
        return absent(section)
    usable, measured = section[f"usable_horizon_{name}"], len(section[name]["dream"])
    return f"at least {usable} steps (all measured)" if usable == measured else f"{usable} of {measured} steps"


def _per_slice(values: list[float]) -> str:
    return " / ".join(f"{value:.0f}" for value in values)


def _number(value: float | None, digits: int = 4) -> str:
    if value is None:
        return "not measured"
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"  # such as an interval of one play

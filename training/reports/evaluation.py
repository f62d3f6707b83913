"""The sections of `evaluate_model` as text: what each of them measured, in tables. docs/evaluation.md explains them."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from worldmodel.evaluation.fvd import PROTOCOL
from worldmodel.training.reports.markdown import absent, interval, number, or_absent, per_slice, table

_PAPERS_CLIPS = 256
_VALUES = ["", "value"]
ONE_EPISODE = " (one episode)"  # in place of an interval
_ONE_STEP = (
    "On held-out play, one step at a time: the model is shown the steps before, the action and the step that came. "
    "In a dream it reads the steps that it dreamt.\n\n"
)


def settings_part(about: Mapping[str, Any]) -> str:
    steps = about["context_steps"]
    given = f"{steps} real step{'s' if steps > 1 else ''} each" if steps else "nothing"
    return (
        f"Measured on the {about['split']} split: {about['dreams']} dreams from {given}, {about['horizon']} steps long "
        f"({about['frames_per_step']} frames per step), with the recorded actions, beside {about['clips']} different "
        f"clips of {about['episodes']} episodes; temperature {about['temperature']:g}, seed {about['seed']}. "
        "docs/evaluation.md says what each number means."
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
            interval(facts["return_mean"], facts["return_half_width"], unknown=ONE_EPISODE),
        ],
        ["steps with reward above 0", f"{facts['positive_rewards']:,} ({facts['positive_rewards'] / steps:.2%})"],
        ["steps with reward below 0", f"{facts['negative_rewards']:,} ({facts['negative_rewards'] / steps:.2%})"],
        ["episodes terminated / truncated", f"{facts['terminated']:,} / {facts['truncated']:,}"],
    ]
    for name, count in facts.get("actions", {}).items():
        rows.append([f"action {name}", f"{count:,} steps ({count / steps:.1%})"])
    return rows


def dataset_part(facts: Mapping[str, Any]) -> str:
    return table(_VALUES, dataset_rows(facts))


def tokenizer_part(scores: Mapping[str, Any]) -> str:
    still = f"camera still ({scores['small_steps']:,} steps)"
    rows = [
        ["reconstruction NMSE (squared error / pixel variance)", number(scores["nmse"])],
        *_given_row(scores),
        ["reconstruction PSNR", f"{scores['psnr_db']:.2f} dB"],
        ["reconstruction SSIM", number(scores["ssim"])],
        [f"NMSE in changed pixels ({scores['changed_share']:.1%} of all)", number(scores["nmse_changed"])],
        ["NMSE in unchanged pixels", number(scores["nmse_unchanged"])],
        [f"NMSE in changed pixels, {still}", number(scores["nmse_changed_small"])],
        [f"codes in use of {scores['num_codes']}, per slice", per_slice(scores["codes_in_use"])],
        ["perplexity of the codes, per slice", per_slice(scores["perplexity"])],
    ]
    return f"On {scores['steps']:,} held-out steps.\n\n" + table(_VALUES, rows)


def _given_row(scores: Mapping[str, Any]) -> list[list[str]]:
    if "given_over_whole" not in scores:
        return []
    return [["NMSE with the given step encoded alone / with the whole clip", number(scores["given_over_whole"], 3)]]


def dynamics_part(scores: Mapping[str, Any], control: Mapping[str, Any]) -> str:
    """`control` is the section of that name, which may say that actions do not matter; {} if it was not measured."""
    shuffled = absent(control) or number(scores.get("shuffled_action_ratio"), 3)
    rows = [
        ["bits per code", f"{scores['bits_per_code']:.3f}"],
        [f"bits per frame ({scores['codes_per_frame']:g} codes)", f"{scores['bits_per_frame']:.1f}"],
        [f"uniform guess ({scores['codes_kept']:.1%} of the codes stay)", f"{scores['uniform_bits_per_code']:.3f}"],
        ["codes stay as they were (copy last frame), bits per code", number(scores.get("copy_bits_per_code"), 3)],
        ["the same per frame", number(scores.get("copy_bits_per_frame"), 1)],
        ["loss with another segment's actions / the true ones", shuffled],
    ]
    return f"On {scores['steps']:,} held-out steps.\n\n" + table(_VALUES, rows)


@or_absent
def open_loop_part(section: Mapping[str, Any]) -> str:
    """Usable horizons, and the curves at some steps."""
    curves = {"PSNR in dB": section["psnr_db"], "SSIM": section["ssim"]}
    if sure := section.get("psnr_sureness"):
        words = {"half_width": "dream, ± 95 %", "gain": "dream less copy", "gain_half_width": "dream less copy, ± 95 %"}
        curves["PSNR in dB"] = curves["PSNR in dB"] | {name: sure[key] for key, name in words.items()}
    rows = [
        [f"usable horizon by {name}", _usable(section, key)] for key, name in (("psnr_db", "PSNR"), ("ssim", "SSIM"))
    ]
    return table(_VALUES, rows) + "\n\n" + _by_step(curves)


def _usable(section: Mapping[str, Any], name: str) -> str:
    usable, measured = section[f"usable_horizon_{name}"], len(section[name]["dream"])
    return f"at least {usable} steps (all measured)" if usable == measured else f"{usable} of {measured} steps"


def _by_step(curves: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Some steps of curves of equal length: measure -> name -> its value at each step, from step 1."""
    rows = [(f"{measure}, {name}", values) for measure, part in curves.items() for name, values in part.items()]
    last = len(rows[0][1])
    steps = sorted({step for step in (1, 2, 4, 8, 16, 32, 64, 128, last) if step <= last})
    return table(["step", *steps], [[name, *(number(values[step - 1], 3) for step in steps)] for name, values in rows])


def heads_part(scores: Mapping[str, Any]) -> str:
    names = {"positive_reward": "reward above 0", "termination": "termination"}
    rows = []
    for key, head in scores.items():
        f1 = f"{head['f1']:.3f} (from {head['threshold']:.3g})" if head.get("f1") is not None else "not measured"
        rows.append([names[key], f"{head['events']:,} of {head['steps']:,}", f"{head['auroc']:.3f}", f1])
    return table(["event", "held-out steps that have it", "AUROC", "F1 (threshold)"], rows) if rows else ""


@or_absent
def reward_part(found: Mapping[str, Any], unit: str) -> str:
    rows = [
        [
            f"mean of {found['steps']:,} held-out steps: predicted / real ({unit})",
            f"{found['predicted_mean']:.4f} / {found['actual_mean']:.4f}",
        ],
        ["mean absolute error", f"{found['mean_absolute_error']:.4f}"],
        ["variance explained", number(found["explained"], 3)],
        ["calibration error (mean distance over the bins)", f"{found['calibration_error']:.4f}"],
    ]
    return _ONE_STEP + table(_VALUES, rows) + "\n\n" + _bins(found["bins"], "{:.3f}")


@or_absent
def termination_part(found: Mapping[str, Any]) -> str:
    rows = [
        [
            f"share of {found['steps']:,} held-out steps that end: predicted / real ({found['events']} ends)",
            f"{found['predicted_share']:.5f} / {found['actual_share']:.5f}",
        ],
        ["Brier score / that of always saying the real share", f"{found['brier']:.5f} / {found['brier_constant']:.5f}"],
        ["skill (1: perfect, 0: like always saying the share)", number(found["skill"], 3)],
        ["calibration error (mean distance over the bins)", f"{found['calibration_error']:.5f}"],
        ["AUROC", number(found["auroc"], 3)],
        [f"ends announced, from probability {found['threshold']:.3g} on", f"{found['announced']}"],
        ["share of these that came (precision)", number(found["precision"], 3)],
        ["share of the real ends that were announced (recall)", number(found["recall"], 3)],
    ]
    return _ONE_STEP + table(_VALUES, rows) + "\n\n" + _bins(found["bins"], "{:.4f}")


def _bins(bins: Sequence[Mapping[str, Any]], form: str) -> str:
    rows = []
    for part in bins:
        low, high, predicted, actual = (form.format(part[name]) for name in ("low", "high", "predicted", "actual"))
        sure = " to ".join(map(form.format, part["interval"])) if math.isfinite(part["interval"][0]) else "one episode"
        rows.append([f"{low} to {high}", f"{part['count']:,}", predicted, actual, sure])
    return table(["predictions", "steps", "predicted, mean", "real, mean", "95 % over episodes"], rows)


def control_part(control: Mapping[str, Any]) -> str:
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
        [f"{measure}, {what}", unread if control[name] is None and unread else number(control[name], 3)]
        for name, what in names.items()
    ]
    rows.append(["controllability: dreams / real play", unread or number(control["dream_over_real"], 3)])
    rows.append(["action error: dreams / real play", unread or number(control["error_over_real"], 3)])
    curves = {control["measure"]: control["by_step"]}
    return f"On {control['transitions']:,} transitions.\n\n{table(_VALUES, rows)}\n\n{_by_step(curves)}"


def distances_part(idm: Mapping[str, Any], fvd: Mapping[str, Any], free: Mapping[str, Any]) -> str:
    """The sections "idm_fd", "fvd" and "unconditional"."""
    names = {"dream": "dreams", "reconstruction": "reconstructions"}
    rows = [["", f"{what} against real clips", number(idm[name], 3)] for name, what in names.items()]
    rows[0][2] = _over_samplings(idm.get("dream_by_sampling", [idm["dream"]]), 3)
    there = idm["other_real"] is not None
    source, value = (f" {idm['floor']}", number(idm["other_real"], 3)) if there else ("", f"absent: {idm['floor']}")
    rows.append(["", f"other real clips{source} (the floor) against real clips", value])
    rows[0][0] = f"IDM-FD ({idm['clips']} clips, {idm['transitions']:,} transitions, {idm['features']} features)"
    rows.append(["", "dreams from nothing against real clips", absent(free) or number(free["idm_fd"], 3)])
    return table(["features", "distance", "value"], [*rows, *_fvd_rows(fvd, free)])


def _over_samplings(values: Sequence[float], digits: int) -> str:
    """The mean and standard deviation over several draws of the dreams; of a single draw, its value."""
    if len(values) == 1:
        return number(values[0], digits)
    return f"{number(fmean(values), digits)} ± {number(stdev(values), digits)} (deviation of {len(values)} samplings)"


def _fvd_rows(fvd: Mapping[str, Any], free: Mapping[str, Any]) -> list[list[str]]:
    if "absent" in fvd:
        return [["I3D", name, absent(fvd)] for name in ("FVD", "R-FVD", "FVD\\*")]
    real, samples = fvd["clips"]
    part = f"I3D ({samples} against {real} clips, {fvd['given_frames']} of 16 frames given; {PROTOCOL})"
    if real != _PAPERS_CLIPS:
        part += f"; papers have {_PAPERS_CLIPS} clips, so this compares to none of them"
    return [
        [part, "FVD", _over_samplings(fvd.get("fvd_by_sampling", [fvd["fvd"]]), 1)],
        ["", "FVD by 2-fold cross-validation (samples of one half, real clips of the other)", _folds(fvd)],
        ["", "R-FVD", f"{fvd['r_fvd']:.1f}"],
        ["", "FVD\\*", f"{fvd['fvd_star']:.1f}"],
        ["", "FVD of dreams from nothing", absent(free) or number(free["fvd"], 1)],
    ]


def _folds(fvd: Mapping[str, Any]) -> str:
    return "absent: fewer than four clips" if fvd["fvd_two_fold"] is None else number(fvd["fvd_two_fold"], 1)


@or_absent
def speed_part(speeds: Mapping[str, Any]) -> str:
    rows = [
        ["codes and rewards only", f"{speeds['env_steps_per_second']:,.0f} env steps/s"],
        ["with decoded frames", f"{speeds['env_steps_per_second_with_frames']:,.0f} env steps/s"],
    ]
    return f"{speeds['rows']} dreams at once, all together.\n\n" + table(_VALUES, rows)

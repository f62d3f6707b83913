"""A finished comparison as a page and as JSON: the paper's figures beside ours, and whether their orders agree."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from worldmodel.evaluation.fvd import CLIP_FRAMES
from worldmodel.training.ablations.papers import PAPER, STATED, WORDS, Figure
from worldmodel.training.reports.markdown import made_on, table, write_pages

# Our metrics for one of the paper: the same, then its substitute without I3D. Lower is better for all.
STAND_INS = {
    "mse": ("mse",),
    "nmse": ("nmse",),
    "r_fvd": ("r_fvd", "r_idm_fd"),
    "fvd": ("fvd", "idm_fd"),
    "fvd_star": ("fvd_star", "idm_fd_star"),
    "bits_per_code": ("bits_per_code",),
    "seconds_per_clip": ("seconds_per_clip",),
}
_NEEDS_I3D = ("r_fvd", "fvd", "fvd_two_fold", "fvd_star")
# Of each metric: its header, and how its values are written.
METRICS = {
    "mse": ("MSE", ".5f"),
    "nmse": ("NMSE", ".4f"),
    "r_fvd": ("R-FVD", ".1f"),
    "r_idm_fd": ("R-IDM-FD", ".3f"),
    "fvd": ("FVD", ".1f"),
    "fvd_two_fold": ("FVD, 2-fold", ".1f"),
    "idm_fd": ("IDM-FD", ".3f"),
    "fvd_star": ("FVD\\*", ".1f"),
    "idm_fd_star": ("IDM-FD\\*", ".3f"),
    "bits_per_code": ("bits/dim", ".3f"),
    "bits_per_clip": ("bits per clip", ",.0f"),
    "bits_per_frame": ("bits per frame", ",.1f"),
    "unigram_bits": ("bits/dim by frequency", ".3f"),
    "copy_bits": ("bits/dim by copying or frequency", ".3f"),
    "shuffled_action_ratio": ("loss with other actions / true ones", ".3f"),
    "action_score": ("actions recognised in samples", ".3f"),
    "action_score_real": ("in real clips", ".3f"),
    "predicted_psnr_db": ("PSNR of predicted frames, dB", ".2f"),
    "copy_beaten_frames": ("predicted frames that beat copying", ".0f"),
    "changed_share": ("changed pixels, samples / real", ".2f"),
    "psnr_db": ("PSNR of reconstructions, dB", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "perplexity": ("perplexity", ",.0f"),
    "codes_in_use": ("codes in use", ",.0f"),
    "seconds_per_clip": ("seconds per clip sampled", ".2f"),
    "tokenizer_parameters": ("weights of the VQ-VAE", ",.0f"),
    "tokenizer_minutes": ("minutes to train it", ".1f"),
    "prior_parameters": ("weights of the prior", ",.0f"),
    "prior_minutes": ("minutes to train it", ".1f"),
}


class Order(NamedTuple):
    """How many of the pairs that a paper distinguishes have the same order here, and those that do not."""

    agreeing: int
    pairs: int
    reversed: tuple[tuple[str, str], ...]


def paper_order(name: str, metric: str) -> list[tuple[str, str]]:
    """Pairs of rows (better, worse) that a paper distinguishes: by more than both ±, or in words."""
    figures = {row: values[metric] for row, values in PAPER.get(name, {}).items() if metric in values}
    pairs = [
        (a, b)
        for a, left in figures.items()
        for b, right in figures.items()
        if right.value - left.value > left.spread + right.spread
    ]
    return [*pairs, *STATED.get(name, {}).get(metric, ())]


def order_agreement(pairs: Sequence[tuple[str, str]], ours: Mapping[str, float]) -> Order:
    """Compare a paper's pairs with our numbers, of which lower is better; a tie of ours is not an agreement."""
    known = [(better, worse) for better, worse in pairs if better in ours and worse in ours]
    reversed_ = tuple((better, worse) for better, worse in known if ours[better] >= ours[worse])
    return Order(len(known) - len(reversed_), len(known), reversed_)


def orders(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Order]]:
    """Paper's metric -> our metric -> how far the rows have the paper's order."""
    found: dict[str, dict[str, Order]] = {}
    for metric, stand_ins in STAND_INS.items():
        if pairs := paper_order(name, metric):
            for mine in stand_ins:
                ours = {row["name"]: row["metrics"][mine] for row in rows if mine in row["metrics"]}
                found.setdefault(metric, {})[mine] = order_agreement(pairs, ours)
    return found


def write_table(folder: str | Path, name: str, results: Mapping[str, Any]) -> str:
    """Write FOLDER/NAME.md and NAME.json.

    Args:
        results: "rows", each with "name", "here" and "metrics" (or "failed"), and what the page says of the run:
            "preset", "seed", "samples", "samplings", "command", "machine", "env_id", "steps", "floor", "floor_source".

    Returns: the page.
    """
    found = orders(name, results["rows"])
    rows = [{**row, "paper": _plain(PAPER.get(name, {}).get(row["name"], {}))} for row in results["rows"]]
    agreement = {metric: {mine: order._asdict() for mine, order in by.items()} for metric, by in found.items()}
    written = {**results, "table": name, "rows": rows, "order": agreement}
    return write_pages(folder, name, _page(name, results, found), written).read_text(encoding="utf-8")


def _plain(figures: Mapping[str, Figure]) -> dict[str, list[float]]:
    return {metric: list(figure) for metric, figure in figures.items()}


def _page(name: str, results: Mapping[str, Any], found: Mapping[str, Mapping[str, Order]]) -> list[str]:
    rows = results["rows"]
    failed = [f"- {row['name']}: {row['failed']}" for row in rows if "failed" in row]
    compared = _metrics_of_paper(name)
    return [
        f"# {name}: {'as in the paper, and here' if compared else 'what differs'} (preset {results['preset']})",
        WORDS[name],
        beside_paper(name, rows) if compared else "",
        "\n".join(order_lines(found)),
        "Failed:\n\n" + "\n".join(failed) if failed else "",
        "## What else was measured here" if compared else "",
        _rest(name, rows),
        _psnr_by_frame(rows),
        f"{results['samples']} clips of 16 frames of the test split of `{results['env_id']}`; the trainings learned "
        f"from {results['steps']:,} steps of its train split, seed {results['seed']}; one training each, so small "
        f"differences may be chance. {_floor(results)}{_samplings(results['samplings'])}",
        f"Machine: {made_on(results['machine'])}. Made by `{results['command']}`.",
    ]


def _floor(results: Mapping[str, Any]) -> str:
    if not results["floor"]:
        return f"These distances have no floor: {results['floor_source']}."
    values = ", ".join(f"{METRICS[metric][0]} {_number(metric, value)}" for metric, value in results["floor"].items())
    return f"Other real clips, {results['floor_source']}, against the same real clips: {values}, the floor of these."


def _samplings(count: int) -> str:
    return f" Distances of samples are means over {count} draws, ± their standard deviation." if count > 1 else ""


def beside_paper(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The metrics of the paper's table, its figures and ours. "—": none in the paper; "absent": no I3D file."""
    shown = _metrics_of_paper(name)
    header = ["paper's row", "here"]
    for metric in shown:
        header += [f"{METRICS[metric][0]}, paper", *(METRICS[mine][0] for mine in STAND_INS[metric])]
    lines = []
    for row in rows:
        line = [row["name"], row["here"]]
        for metric in shown:
            line.append(str(PAPER.get(name, {}).get(row["name"], {}).get(metric, "—")))
            line += [_cell(row, mine) for mine in STAND_INS[metric]]
        lines.append(line)
    return table(header, lines)


def _metrics_of_paper(name: str) -> list[str]:
    figures = PAPER.get(name, {}).values()
    return [m for m in STAND_INS if any(m in row for row in figures) or m in STATED.get(name, {})]


def order_lines(found: Mapping[str, Mapping[str, Order]]) -> list[str]:
    """A line for each metric of the paper and of ours: how many pairs of rows have the same order."""
    lines = []
    for metric, by in found.items():
        for mine, order in by.items():
            what = f"- Order by {METRICS[metric][0]} (paper) and {METRICS[mine][0]} (here):"
            if not order.pairs:
                lines.append(f"{what} not compared, {'no I3D file was given' if mine in _NEEDS_I3D else 'no numbers'}.")
                continue
            turned = "; ".join(f'"{better}" is not below "{worse}"' for better, worse in order.reversed)
            pairs = "pair that the paper distinguishes" if order.pairs == 1 else "pairs that the paper distinguishes"
            lines.append(
                f"{what} {order.agreeing} of {order.pairs} {pairs} agree" + (f"; here {turned}." if turned else ".")
            )
    return lines


def _rest(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    before = {mine for metric in _metrics_of_paper(name) for mine in STAND_INS[metric]}
    shown = [m for m in METRICS if m not in before and any(m in row["metrics"] for row in rows)]
    lines = [[row["here"], *(_cell(row, metric) for metric in shown)] for row in rows if row["metrics"]]
    return table(["here", *(METRICS[metric][0] for metric in shown)], lines)


def _psnr_by_frame(rows: Sequence[Mapping[str, Any]]) -> str:
    """PSNR of each predicted frame, the frames of a clip counted from 1; empty if no row has it."""
    curves = {row["here"]: row["metrics"]["psnr_by_frame"] for row in rows if "psnr_by_frame" in row["metrics"]}
    if not curves:
        return ""
    longest = max(map(len, curves.values()))
    header = ["PSNR in dB of frame", *map(str, range(CLIP_FRAMES - longest + 1, CLIP_FRAMES + 1))]
    return table(header, [[here, *(f"{value:.1f}" for value in curve)] for here, curve in curves.items()])


def _cell(row: Mapping[str, Any], metric: str) -> str:
    if metric in row["metrics"]:
        spread = row["metrics"].get(f"{metric}_deviation")
        value = _number(metric, row["metrics"][metric])
        return value if spread is None else f"{value} ± {_number(metric, spread)}"
    if "failed" in row:
        return "failed"
    return "absent" if metric in _NEEDS_I3D and row["metrics"] else "—"


def _number(metric: str, value: float) -> str:
    return format(value, METRICS[metric][1])

"""The parts of a report on small things: objects that a tokenizer keeps, objects in dreams, and coming hits."""

from collections.abc import Mapping
from typing import Any

from worldmodel.training.reports.markdown import interval, number, or_absent, table

_HEAD = [
    "class",
    "pixels",
    "objects",
    "recall ± 95 %",
    "of those alone",
    "contrast kept",
    "another step's picture",
    "median picture",
]

_DREAMT = {
    "pixels": "pixels",
    "pictures": "pictures",
    "kept": "pictures, shown at 0",
    "appeared": "pictures, not shown at 0",
}


@or_absent
def objects_part(section: Mapping[str, Any]) -> str:
    """What `object_recall` returned, as a table with a line above it."""
    line = (
        f"Recall in the decoded pictures of {section['steps']:,} steps ({section['frames']:,} frames, NMSE "
        f"{section['nmse']:.4f}, {section['psnr_db']:.2f} dB), by the pixels of an object in the frame. Those alone "
        "touch no other object. The last two columns are the recall of pictures that know nothing of the frame."
    )
    rows = []
    for name, groups in section["classes"].items():
        shown = {size: scores for size, scores in groups.items() if scores["objects"] or scores["invisible"]}
        rows += [[name if not place else "", size, *_cells(shown[size])] for place, size in enumerate(shown)]
    return f"{line}\n\n{table(_HEAD, rows)}" if rows else f"{line} There was none."


def _cells(scores: Mapping[str, Any]) -> list[str]:
    unseen = f" (and {scores['invisible']:,} that hardly stand out)" if scores["invisible"] else ""
    objects = f"{scores['objects']:,}{unseen}"
    if not scores["objects"]:
        return [objects, *["–"] * 5]
    values = (scores[name] for name in ("recall_alone", "gain", "other", "background"))
    return [objects, interval(scores["recall"], scores["half_width"], 2), *map(_share, values)]


@or_absent
def dreamt_part(section: Mapping[str, Any]) -> str:
    """What `dreamt_objects` returned, as a table with a line above it."""
    line = (
        f"Pixels with an object's colours, and pictures that show them, in {section['dreams']} dreams over the game, "
        f"by dreamt step (0: the last of {section['context_steps']} given ones); recorded actions, temperature "
        f"{section['temperature']:g}, {section['episodes']} episodes."
    )
    rows: list[list[str]] = []
    steps: list[str] = []
    for name, scores in section["classes"].items():
        steps = [*scores["pixels"]]
        what = f"{name} (precision {_share(scores['precision'])}, recall {_share(scores['recall'])})"
        rows.append([what, "pixels in the game", *(f"{part['game']:.2%}" for part in scores["pixels"].values())])
        for kind, words in _DREAMT.items():
            if kind in scores:  # reports of earlier releases have two kinds
                rows.append(["", f"{words}, dream / game", *(_ratio(part) for part in scores[kind].values())])
    return f"{line}\n\n{table(['class', '', *steps], rows)}" if rows else f"{line} There was none."


@or_absent
def danger_part(section: Mapping[str, Any]) -> str:
    """What `danger_probe` returned, as a table with a line above it."""
    near, far = section["steps"]
    line = (
        f"AUROC ± 95 % of linear probes on the last two steps, learned from {section['states']['train']:,} states: "
        "does HEALTH fall soon?"
    )
    names = {"near": f"within {near} steps", "far": f"not within {near}, but within {far} steps"}
    rows = [
        [
            words,
            f"{section[target]['states']:,}",
            _share(section[target]["hits"], 3),
            *(_auroc(section[target], look) for look in ("codes", "pixels")),
        ]
        for target, words in names.items()
    ]
    return f"{line}\n\n" + table(["hit", "states", "share hit", "from codes", "from small pictures"], rows)


def _ratio(part: Mapping[str, Any]) -> str:
    return "–" if part["ratio"] is None else interval(part["ratio"], part["half_width"], 2)


def _auroc(scores: Mapping[str, Any], look: str) -> str:
    value = scores[look]
    return "not measured" if value is None else interval(value, scores[f"{look}_half_width"], 3)


def _share(value: float | None, digits: int = 2) -> str:
    return number(value, digits, "–")

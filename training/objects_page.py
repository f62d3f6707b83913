"""The part of a report that says which objects a tokenizer keeps."""

import math
from collections.abc import Mapping
from typing import Any

from worldmodel.training.tables import table

_HEAD = ["class", "pixels", "objects", "recall ± 95 %", "contrast kept", "another step's picture", "median picture"]


def objects_part(section: Mapping[str, Any]) -> str:
    """What `object_recall` returned, as a table with a line above it."""
    if "absent" in section:
        return f"absent: {section['absent']}"
    line = (
        f"Recall in the decoded pictures of {section['steps']:,} steps ({section['frames']:,} frames, NMSE "
        f"{section['nmse']:.4f}), by the pixels of an object in the frame; the last two columns are the recall of "
        "pictures that know nothing of the frame."
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
        return [objects, *["–"] * 4]
    sure = f" ± {scores['half_width']:.2f}" if math.isfinite(scores["half_width"]) else ""
    values = (scores[name] for name in ("gain", "other", "background"))
    return [objects, f"{scores['recall']:.2f}{sure}", *(f"{value:.2f}" for value in values)]

"""The section "trust" of a report as text: the verdict, and a table for each kind of beginning."""

import math
from collections.abc import Mapping
from typing import Any

from worldmodel.training.dream_vs_real.trust import fixed
from worldmodel.training.reports.markdown import absent, mean_cell, or_absent, table

_HEADS = {
    "first": "From the game's own first frames",
    "mid": "From the middle of play",
}
_NOTE = (
    "*Ratio* is dream over real with its 95 % interval (Fieller's, over episodes that begin alike in both worlds); it "
    "is absent where the game's own value does not differ significantly from 0. Pairs count if the game distinguishes "
    "them: the 95 % intervals of their means do not overlap."
)


@or_absent
def trust_text(section: Mapping[str, Any]) -> str:
    """The whole section."""
    parts = [f"**Verdict:** {section['line']}", *_settings(section), _thresholds(section["thresholds"])]
    if section["clock"] is not None:
        parts.append(f"The game's time is up after {section['clock']} steps of an episode; dreams are cut then too.")
    for kind, head in _HEADS.items():
        if kind in section:
            parts += [f"### {head}", _rows(section[kind]), _orders(section[kind])]
    return "\n\n".join([*parts, _NOTE])


def card_text(section: Mapping[str, Any]) -> str:
    """The verdict as a paragraph of a model card."""
    about = section["settings"]
    return (
        f"Is the dream true where policies go? {about['policies']} blind policies played in it and in "
        f"`{about['env_id']}`, {about['episodes']} episodes of {about['horizon']} steps at most each: {section['line']}"
    )


def _settings(section: Mapping[str, Any]) -> list[str]:
    if "settings" not in section:
        return []
    about = section["settings"]
    return [
        f"{about['episodes']} episodes of each of {about['policies']} blind policies in the dream and in "
        f"{about['env_id']}, cut after {about['horizon']} steps; {about['lead']} play leads to the middle; seed "
        f"{about['seed']}. `videogen-dream evaluate --dream` plays more episodes, and agents."
    ]


def _thresholds(bars: Mapping[str, Any]) -> str:
    survival, reward = ("{:g} to {:g}".format(*bars[name]) for name in ("survival", "reward_per_step"))
    return (
        f"A dream is *trusted* if at least {bars['in_order']:.0%} of the pairs of policies that the game distinguishes "
        f"are in the right order in it, by survival and by return, and if for every policy survival is {survival} and "
        f"reward per step {reward} of the game's. It is *undecided* if only ratios are outside and their intervals "
        "reach in: more --episodes decide."
    )


def _rows(kind: Mapping[str, Any]) -> str:
    rows = []
    for row in kind["policies"]:
        dream, real, ratios = row["dream"], row["real"], row["ratios"]
        rows.append(
            [
                row["policy"],
                f"{mean_cell(dream['steps'])} / {mean_cell(real['steps'])}",
                _ratio(ratios["steps"]),
                f"{fixed(dream['reward_per_step'], 3)} / {fixed(real['reward_per_step'], 3)}",
                _ratio(ratios["reward_per_step"]),
                f"{100 * dream['ends_per_step']:.2f} / {100 * real['ends_per_step']:.2f}",
                _ratio(ratios["ends_per_step"]),
            ]
        )
    header = ["policy, dream / real", "steps", "ratio", "reward per step", "ratio", "ends per 100 steps", "ratio"]
    return table(header, rows)


def _orders(kind: Mapping[str, Any]) -> str:
    rows = [[name, *_order(kind[key])] for key, name in (("survival", "survival"), ("return", "return"))]
    return table(["by", "pairs in the right order", "smallest ratio", "largest ratio", "Spearman"], rows)


def _order(found: Mapping[str, Any]) -> list[str]:
    pairs = f"{found['in_order']} of {found['told_apart']}" + (
        f" ({found['share']:.0%})" if found["share"] is not None else ""
    )
    ends = [
        "none" if found[side] is None else f"{fixed(found[side]['ratio'], 2)} ({found[side]['policy']})"
        for side in ("smallest", "largest")
    ]
    rank = found["spearman"]
    return [pairs, *ends, absent(rank) or f"{rank['value']:.2f}"]


def _ratio(found: Mapping[str, Any]) -> str:
    if "absent" in found:
        return "absent"
    low, high = found["interval"]
    value = fixed(found["value"], 2)
    return f"{value} ({fixed(low, 2)} to {fixed(high, 2)})" if math.isfinite(high) else value

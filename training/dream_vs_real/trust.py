"""Whether a dream is true where policies go: how long they live in it, what it pays them and how it ranks them.

Letters: P policies, K episodes of each, with the same starts in both worlds.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, zip_longest
from typing import Any, NamedTuple

import numpy as np

from worldmodel.evaluation.rank_correlation import correlation
from worldmodel.statistics import mean_with_interval, ratio_with_interval
from worldmodel.training.dream_vs_real.paired_play import Match, Trace

# Criteria of a trusted dream.
LEAST_IN_ORDER = 0.9  # share of the pairs that the game distinguishes
SURVIVAL = (0.75, 1.33)  # mean steps, dream over real
REWARD = (0.8, 1.25)  # reward per step, dream over real
_NO_EVENT = -math.log(0.025)  # upper 95 % limit (two-sided) of a Poisson mean with no observed event
_NAMED = 2  # reasons that a verdict gives for each kind of start, at most
_KINDS = {"first": "first frames", "mid": "mid-play"}


class Side(NamedTuple):
    """A policy's episodes in one world, up to where both are cut; (K,) each."""

    steps: np.ndarray
    returns: np.ndarray
    ended: np.ndarray  # bool: terminated, and not cut

    @classmethod
    def of(cls, trace: Trace, limits: np.ndarray) -> "Side":
        returns = [sum(rewards[:most]) for rewards, most in zip(trace.rewards, limits, strict=True)]
        ended = trace.terminated & (trace.lengths <= limits)
        return cls(np.minimum(trace.lengths, limits), np.array(returns), ended)


def trust_section(names: Sequence[str], matches: Mapping[str, Match], seed: int = 0) -> dict[str, Any]:
    """The section "trust" of a report: what `judge` finds for each kind of start, thresholds, and the verdict.

    "clock" is the number of steps after which the game's time is up, None if it never was.

    Args:
        matches: by kind, "first" and "mid"; those that were played.
    """
    judged = {}
    for kind, match in matches.items():
        dream = [Side.of(trace, match.limits) for trace in match.dream]
        real = [Side.of(play.trace, match.limits) for play in match.real]
        judged[kind] = judge(names, dream, real, seed)
    return {
        "thresholds": {"in_order": LEAST_IN_ORDER, "survival": list(SURVIVAL), "reward_per_step": list(REWARD)},
        "clock": next(iter(matches.values())).clock,
        **judged,
        "verdict": _worst({section["verdict"] for section in judged.values()}),
        "line": verdict_line(judged),
    }


def judge(names: Sequence[str], dream: Sequence[Side], real: Sequence[Side], seed: int = 0) -> dict[str, Any]:
    """Compare the policies in both worlds for one kind of start.

    Args:
        names: of the P policies, in the order of `dream` and `real`.

    Returns: "policies", one entry each with "steps", "reward_per_step" and "ends_per_step"; "survival" and "return",
    how the dream orders the policies by them; "verdict" ("trusted", "not trusted" or "undecided") and "because".
    """
    rows = [_policy(*row) for row in zip(names, dream, real, strict=True)]
    found: dict[str, Any] = {
        "policies": rows,
        "survival": _order(names, [s.steps for s in dream], [s.steps for s in real], seed) | _ends(rows, "steps"),
        "return": _order(names, [s.returns for s in dream], [s.returns for s in real], seed)
        | _ends(rows, "reward_per_step"),
    }
    return found | _verdict(found)


def verdict_line(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """One line about all kinds of starts: kind ("first", "mid") -> the result of `judge`."""
    figures = [f"{_KINDS[kind]}: {_figures(section)}" for kind, section in sections.items()]
    verdicts = {section["verdict"] for section in sections.values()}
    because = [
        f"{reason} ({_KINDS[kind]})" if len(sections) > 1 else reason
        for kind, section in sections.items()
        for reason in section["because"][:_NAMED]
        if section["verdict"] == _worst(verdicts)
    ]
    reasons = f", because {' and '.join(because)}" if because else ""
    return "; ".join([*figures, f"**{_worst(verdicts)}**{reasons}"]) + "."


# --- one policy ------------------------------------------------------------------------------------------------------


def _policy(name: str, dream: Side, real: Side) -> dict[str, Any]:
    sides = {"dream": dream, "real": real}
    values: dict[str, dict[str, Any]] = {
        world: {"steps": _mean(side.steps), "return": _mean(side.returns)} | _rates(side)
        for world, side in sides.items()
    }
    pays = _ratio(dream.returns, real.returns, dream.steps, real.steps)
    if "absent" in pays:  # a dream that pays where the game does not is wrong, too
        pays["difference"] = _mean(dream.returns / dream.steps - real.returns / real.steps)
    ends = _ratio(dream.ended, real.ended, dream.steps, real.steps)
    if "absent" not in ends and not dream.ended.any():  # no spread, but not certainly 0
        ends["interval"][1] = _NO_EVENT / int(dream.steps.sum()) / values["real"]["ends_per_step"]
    return {
        "policy": name,
        **values,
        "ratios": {
            "steps": _survival_ratio(dream.steps, real.steps),
            "reward_per_step": pays,
            "ends_per_step": ends,
        },
    }


def _mean(values: np.ndarray) -> dict[str, float]:
    mean, half_width = mean_with_interval(values)
    return {"mean": mean, "half_width": half_width}


def _rates(side: Side) -> dict[str, float]:
    total = int(side.steps.sum())
    return {"reward_per_step": float(side.returns.sum() / total), "ends_per_step": float(side.ended.sum() / total)}


def _ratio(
    dream: np.ndarray, real: np.ndarray, dream_steps: np.ndarray | None = None, real_steps: np.ndarray | None = None
) -> dict[str, Any]:
    found = ratio_with_interval(dream, real, dream_steps, real_steps)
    if found is None:
        return {"absent": "in the game it does not differ significantly from 0"}
    return {"value": found[0], "interval": [found[1], found[2]]}


def _survival_ratio(dream: np.ndarray, real: np.ndarray) -> dict[str, Any]:
    """As `_ratio`, but never absent, since no episode has 0 steps; with few episodes the interval is unbounded."""
    found = _ratio(dream, real)
    return {"value": float(dream.mean() / real.mean()), "interval": found.get("interval", [0.0, math.inf])}


# --- all policies ----------------------------------------------------------------------------------------------------


def _order(names: Sequence[str], dream: Sequence[np.ndarray], real: Sequence[np.ndarray], seed: int) -> dict[str, Any]:
    """Whether the dream orders the pairs that the game distinguishes in the same way."""
    dreamt = [float(values.mean()) for values in dream]
    means = [mean_with_interval(values) for values in real]
    wrong, right = [], 0
    for i, j in combinations(range(len(names)), 2):
        (low, low_reach), (high, high_reach) = sorted((means[i], means[j]))
        if low + low_reach >= high - high_reach:
            continue
        better, worse = (i, j) if means[i] > means[j] else (j, i)
        if dreamt[better] > dreamt[worse]:
            right += 1
        else:
            wrong.append([names[better], names[worse]])
    apart = right + len(wrong)
    return {
        "told_apart": apart,
        "in_order": right,
        "share": right / apart if apart else None,
        "wrong_pairs": wrong,  # the better one in the game first
        "spearman": correlation("spearman", dreamt, [mean for mean, _ in means], seed),
    }


def _ends(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """The smallest and the largest ratio, with its policy; None if there is none."""
    there = [(row["ratios"][name]["value"], row["policy"]) for row in rows if "absent" not in row["ratios"][name]]
    if not there:
        return {"smallest": None, "largest": None}
    return {
        side: {"policy": policy, "ratio": ratio}
        for side, (ratio, policy) in (("smallest", min(there)), ("largest", max(there)))
    }


# --- the verdict -----------------------------------------------------------------------------------------------------


def _verdict(found: Mapping[str, Any]) -> dict[str, Any]:
    """Not trusted if an order, or a ratio with its whole interval, is wrong; undecided if an interval reaches in."""
    orders = [[text] if (text := _disorder(found[key], key)) else [] for key in ("survival", "return")]
    lives, lives_maybe = _outside(found["policies"], "steps", SURVIVAL)
    pays, pays_maybe = _outside(found["policies"], "reward_per_step", REWARD)
    sure, doubtful = [lives, pays, _invented(found["policies"]), *orders], [lives_maybe, pays_maybe]
    verdict = "not trusted" if any(sure) else "undecided" if any(doubtful) else "trusted"
    # The worst of each, then the second of each, and so on.
    because = [text for turn in zip_longest(*(sure if any(sure) else doubtful)) for text in turn if text]
    return {"verdict": verdict, "because": because}


def _disorder(order: Mapping[str, Any], key: str) -> str:
    """What is wrong with the order of the policies, or ""."""
    if order["share"] is None or order["share"] >= LEAST_IN_ORDER:
        return ""
    return f"{order['told_apart'] - order['in_order']} of {order['told_apart']} pairs are in the wrong order by {key}"


def _outside(rows: Sequence[Mapping[str, Any]], name: str, band: tuple[float, float]) -> tuple[list[str], list[str]]:
    """Ratios outside the band, the farthest first: those with their whole interval outside, and the others."""
    sure: list[tuple[float, str]] = []
    doubtful: list[tuple[float, str]] = []
    for row in rows:
        ratio = row["ratios"][name]
        if "absent" in ratio or band[0] <= ratio["value"] <= band[1]:
            continue
        low, high = ratio["interval"]
        surely = high < band[0] or low > band[1]
        (sure if surely else doubtful).append((-_distance(ratio["value"]), _reason(row, name)))
    return [text for _, text in sorted(sure)], [text for _, text in sorted(doubtful)]


def _invented(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Policies that the game pays nothing to speak of and the dream does, the best or worst paid first.

    What counts is a difference that is, with its whole interval, above a quarter of the most that the game pays or
    takes from any policy in a step; above 0 if it pays nobody.
    """
    least = (REWARD[1] - 1) * max(
        (abs(row["real"]["reward_per_step"]) for row in rows if "absent" not in row["ratios"]["reward_per_step"]),
        default=0.0,
    )
    found = []
    for row in rows:
        if (difference := row["ratios"]["reward_per_step"].get("difference")) is not None:
            size = abs(difference["mean"])
            if size - difference["half_width"] > least:
                found.append((-size, _reason(row, "reward_per_step")))
    return [text for _, text in sorted(found)]


def _distance(ratio: float) -> float:
    """Distance from 1 on a log scale."""
    return abs(math.log(ratio)) if ratio > 0 else math.inf


def _reason(row: Mapping[str, Any], name: str) -> str:
    policy = row["policy"]
    if name == "steps":
        return f"{policy} lives {row['ratios'][name]['value']:.2f} times as long"
    dream, real = (fixed(row[world]["reward_per_step"], 3) for world in ("dream", "real"))
    return f"{policy} gets {dream} a step, in the game {real}"


def fixed(value: float, digits: int) -> str:
    """With this many digits, and 0 without a sign."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _worst(verdicts: set[str]) -> str:
    return next(verdict for verdict in ("not trusted", "undecided", "trusted") if verdict in verdicts)


def _figures(section: Mapping[str, Any]) -> str:
    survival, returns = section["survival"], section["return"]
    pairs = f"{_pairs(survival, ' pairs in the right order')} by survival and {_pairs(returns)} by return"
    spreads = [
        f"{what} {fixed(order['smallest']['ratio'], 2)} to {fixed(order['largest']['ratio'], 2)}"
        for order, what in ((survival, "survival"), (returns, "reward per step"))
        if order["smallest"] is not None
    ]
    return f"{pairs}, {' and '.join(spreads)} of the game's"


def _pairs(order: Mapping[str, Any], more: str = "") -> str:
    return f"{order['in_order']} of {order['told_apart']}{more}" if order["told_apart"] else "no pairs to compare"

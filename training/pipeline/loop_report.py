"""Results of a loop: rounds.jsonl for programs, report.md for people; rewritten after every round."""

import json
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from worldmodel.agents.evaluate import Evaluation
from worldmodel.data import JoinedStorage
from worldmodel.files import JsonObject, read_json, write_text
from worldmodel.statistics import mean_with_interval
from worldmodel.training.pipeline.config import Iteration
from worldmodel.training.pipeline.round import STAGES
from worldmodel.training.reports.blind import blind_hint, blind_row
from worldmodel.training.reports.evaluation import ONE_EPISODE
from worldmodel.training.reports.markdown import interval, machine, made_on, table

FACTS = "round.json"  # in a round's folder, once its agent is evaluated
BLIND_FILE = "blind.json"  # in the loop's folder, for games with a known blind policy


def round_label(number: int) -> str:
    """Prefix of the names of a round's stages."""
    return f"round {number}: "


def returns_of(played: Evaluation) -> dict[str, Any]:
    """Native returns of the evaluated episodes."""
    return {"mean": played.mean, "half_width": played.half_width, "returns": played.returns}


def facts_of(played: Evaluation, play: JoinedStorage) -> dict[str, Any]:
    """Content of round.json: returns of the round's agent in the real game, and the data its model was trained on."""
    rounds = [list(parts) for _, parts in groupby(play.parts, lambda part: part[0].root.parent)]
    train = [
        sum(store.lengths[e] for store, count in parts for e in store.split("train") if e < count) for parts in rounds
    ]
    decisions = sum(store.num_steps for store, _ in rounds[-1])
    return {"real": returns_of(played), "decisions": decisions, "trained_on": train}


def write_rounds(out: Path, config: Iteration, minutes: Mapping[str, float]) -> Path:
    """Write rounds.jsonl and report.md about the rounds whose agent is evaluated; returns the path of report.md."""
    rows = _rows(out, minutes)
    write_text(out / "rounds.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    random = read_json(out / "random.json", JsonObject, ("returns",))
    blind = read_json(out / BLIND_FILE, JsonObject, ("policy", "returns")) if (out / BLIND_FILE).exists() else None
    write_text(out / "report.md", _report(rows, random, blind, config))
    return out / "report.md"


def _rows(out: Path, minutes: Mapping[str, float]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while (file := out / f"round-{len(rows)}" / FACTS).exists():
        facts = read_json(file, JsonObject, ("real", "decisions", "trained_on"))
        before = rows[-1]["decisions_so_far"] if rows else 0
        rows.append(
            {
                "round": len(rows),
                "real": facts["real"],
                "decisions": facts["decisions"],
                "decisions_so_far": before + facts["decisions"],
                "trained_on": facts["trained_on"],
                "minutes": {stage: minutes.get(round_label(len(rows)) + stage, 0.0) for stage in STAGES},
            }
        )
    return rows


def _report(
    rows: list[dict[str, Any]], random: Mapping[str, Any], blind: Mapping[str, Any] | None, config: Iteration
) -> str:
    start = {True: "start from those of the round before", False: "start from scratch"}
    parts = [
        f"# Iterated imagination: {config.env_id}",
        f"Made by `videogen-dream loop` with seed {config.seed} on {made_on(machine())}. All settings: config.json.",
        "## Real return",
        f"Native return per episode, mean ± 95 %, of {config.episodes} real episodes on the same seeds in every row. "
        "Each agent was trained in the dream only. Decisions count what was collected to learn from, not these "
        "episodes.",
        table(
            ["round", "real play collected by", "real decisions, all so far", "real return of the round's agent"],
            [
                ["–", "nobody", 0, f"{_interval(random)} (random play)"],
                *([["–", "nobody", 0, f"{_interval(blind)} ({blind_row(blind['policy'])})"]] if blind else []),
                *(_result(row, config) for row in rows),
            ],
        ),
        "" if blind else blind_hint(config.env_id),
        "## What each model was trained on",
        "Decisions of training episodes (8 of 10; the others stay held out in every round). Round 0's play is always "
        f"used whole. Later play ages: where it is a rounds old, the first {config.fade:g}^a of its episodes are used. "
        f"Tokenizer, dynamics and heads {start[config.warm_model]}, agents {start[config.warm_agent]}.",
        table(
            ["round", *(f"play of round {row['round']}" for row in rows), "in all"],
            [_sources(row, len(rows)) for row in rows],
        ),
        "## Minutes",
        table(
            ["round", *STAGES, "in all"],
            [
                [row["round"], *(f"{m:.1f}" for m in row["minutes"].values()), f"{sum(row['minutes'].values()):.1f}"]
                for row in rows
            ],
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _result(row: Mapping[str, Any], config: Iteration) -> list[Any]:
    return [row["round"], _players(row["round"], config), f"{row['decisions_so_far']:,}", _interval(row["real"])]


def _sources(row: Mapping[str, Any], columns: int) -> list[str]:
    cells = [f"{decisions:,}" for decisions in row["trained_on"]]
    return [str(row["round"]), *cells, *[""] * (columns - len(cells)), f"{sum(row['trained_on']):,}"]


def _players(number: int, config: Iteration) -> str:
    blind = "diverse blind play"
    if number == 0 or config.blind_share == 1.0:
        return blind
    agent = f"agent of round {number - 1} with {config.epsilon:.0%} random actions"
    return agent if config.blind_share == 0.0 else f"{agent}; {config.blind_share:.0%} {blind}"


def _interval(result: Mapping[str, Any]) -> str:
    return interval(*mean_with_interval(result["returns"]), unknown=ONE_EPISODE)

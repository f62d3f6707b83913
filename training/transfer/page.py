"""The table of all players as a page and as JSON, from the cells that exist."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from worldmodel.files import JsonObject, read_json
from worldmodel.statistics import mean_with_interval
from worldmodel.training.reports.markdown import hardware, mean_cell, table, write_pages

# Keys of a cell's file.
CELL = ("game", "row", "player", "seed", "result", "decisions", "hours", "commands", "settings", "world", "machine")
_ORDER = ("random", "blind", "free", "dream", "loop")  # of the rows, by the prefixes of their names
_DREAMERS = ("dream", "loop")  # rows that must be above the best blind policy
_NOTE = (
    "Native return per episode, mean ± 95 %, on the same episodes for everyone. *All together* is the mean over "
    "the episodes of all agents of a row; its interval holds for these agents, other trainings may differ by "
    "more. *Above* means with intervals apart. Real decisions are those that a player learned from (for the blind "
    "policy, those of its search); evaluation episodes are not counted. Hours are wall-clock hours for all agents "
    "of a row, their world and their evaluation; ≥ means that the time of a killed attempt is not included."
)


def write_transfer(out: Path, games: Sequence[str], command: str) -> Path:
    """Write transfer.json and transfer.md about all cells below `out`; returns the path of transfer.md.

    Args:
        games: these come first; others that have cells follow.
        command: what was typed.
    """
    cells = [read_json(file, JsonObject, CELL) for file in sorted(out.glob("*/cells/*.json"))]
    names = list(dict.fromkeys([*games, *(cell["game"] for cell in cells)]))
    tables = {game: rows_of([cell for cell in cells if cell["game"] == game]) for game in names}
    made = {"command": command, "settings": read_json(out / "config.json", JsonObject)}
    made["games"] = {game: rows for game, rows in tables.items() if rows}
    head = f"Made by `{command}`. The same with every episode and all settings: transfer.json." if command else ""
    page = ["# Players in the real games", head, _NOTE]
    page += [
        _game(game, rows, [cell for cell in cells if cell["game"] == game]) for game, rows in tables.items() if rows
    ]
    return write_pages(out, "transfer", page, made | {"cells": cells})


def rows_of(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One game's rows in order: the agents of a row pooled, and compared with the best blind policy."""
    names = sorted({cell["row"] for cell in cells}, key=_order_of)
    members = {name: sorted((c for c in cells if c["row"] == name), key=lambda c: c["seed"] or 0) for name in names}
    blind = members["blind"][0]["result"] if "blind" in members else None
    return [_row(name, members[name], blind) for name in names]


def _order_of(row: str) -> tuple[int, int]:
    kind = row.rstrip("0123456789")
    return _ORDER.index(kind), int(row.removeprefix(kind) or 0)


def _row(name: str, cells: Sequence[Mapping[str, Any]], blind: Mapping[str, Any] | None) -> dict[str, Any]:
    mean, half_width = mean_with_interval([value for cell in cells for value in cell["result"]["returns"]])
    agents = [{key: cell["result"][key] for key in ("mean", "half_width")} | {"seed": cell["seed"]} for cell in cells]
    hours = [cell["hours"] for cell in cells]
    shared = {cell["world"]["sha256"]: cell["hours"]["world"] for cell in cells if cell["world"] is not None}
    row: dict[str, Any] = {
        "row": name,
        "player": cells[0]["player"],
        "decisions": cells[0]["decisions"],
        "agents": agents,
        "mean": mean,
        "half_width": half_width,
        "hours": sum(each["player"] + each["judged"] for each in hours) + sum(h or 0.0 for h in shared.values()),
        "hours_of_all_attempts": all(each["of_all_attempts"] for each in hours),
        "world_given": None in shared.values(),
    }
    if blind is not None and name not in ("random", "blind"):
        row["above_blind"] = _above(row, blind)
        row["agents_above_blind"] = sum(_above(agent, blind) for agent in agents)
    return row


def _above(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the first mean is higher and the intervals do not overlap."""
    return bool(one["mean"] - one["half_width"] > other["mean"] + other["half_width"])


def _word(above: bool) -> str:
    return "above" if above else "**not above**"


def _game(game: str, rows: Sequence[Mapping[str, Any]], cells: Sequence[Mapping[str, Any]]) -> str:
    header = ["player", "real decisions", "each agent", "all together", "against the best blind policy", "hours"]
    parts = [f"## {game}", table(header, [_cells(row) for row in rows])]
    if statements := _statements(rows):
        parts.append("\n".join(f"- {statement}" for statement in statements))
    return "\n\n".join([*parts, _how(cells)])


def _cells(row: Mapping[str, Any]) -> list[str]:
    decisions = "unknown" if row["decisions"] is None else f"{row['decisions']:,}"
    against = "–"
    if "above_blind" in row:
        against = _word(row["above_blind"])
        if len(row["agents"]) > 1:
            against += f", {row['agents_above_blind']} of {len(row['agents'])} agents above"
    hours = f"{'' if row['hours_of_all_attempts'] else '≥ '}{row['hours']:.1f}"
    together = mean_cell(row)
    return [
        row["player"],
        decisions,
        " / ".join(mean_cell(agent) for agent in row["agents"]) if len(row["agents"]) > 1 else "–",
        f"**{together}**" if row["row"].startswith(_DREAMERS) else together,
        against,
        hours + (", without its world's" if row["world_given"] else ""),
    ]


def _statements(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which players trained in dreams are above the best blind policy and model-free PPO, in words."""
    others = {row["row"]: row for row in rows if row["row"] in ("blind", "free1")}
    return [
        f"{_learner(row).capitalize()} is {_word(_above(row, other))} "
        f"{'the best blind policy' if key == 'blind' else _learner(other)}: "
        f"{mean_cell(row)} against {mean_cell(other)}."
        for row in rows
        if row["row"].startswith(_DREAMERS)
        for key, other in others.items()
    ]


def _learner(row: Mapping[str, Any]) -> str:
    count = row["decisions"]
    return f"{row['player']} ({'unknown' if count is None else f'{count:,}'} real decisions)"


def _how(cells: Sequence[Mapping[str, Any]]) -> str:
    """The commands that reproduce the rows, the worlds, and the machines."""
    ordered = sorted(cells, key=lambda cell: (_order_of(cell["row"]), cell["seed"] or 0))
    commands = dict.fromkeys(line for cell in ordered for line in cell["commands"])
    lines = ["The same by single commands:", "```sh\n" + "\n".join(commands) + "\n```"]
    worlds = {cell["world"]["sha256"]: cell["world"] for cell in ordered if cell["world"] is not None}
    facts = [f"World `{world['name']}`: weights of SHA-256 {sha256}." for sha256, world in worlds.items()]
    seeds = {(cell["result"]["first_seed"], cell["result"]["episodes"]) for cell in ordered}
    facts += [
        f"Judged on {count} episodes, seeds {first:,} to {first + count - 1:,}." for first, count in sorted(seeds)
    ]
    facts += [f"Made on {text}." for text in _machines([cell["machine"] for cell in ordered])]
    return "\n\n".join([*lines, "\n".join(f"- {fact}" for fact in facts)])


def _machines(all_: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each machine once, with the first and last date."""
    days: dict[str, list[str]] = {}
    for about in all_:
        versions = f"VideoGenDream {about['videogen_dream']}, torch {about['torch']}"
        days.setdefault(f"{hardware(about)}; {versions}", []).append(about["date"])
    return [f"{text}; {' to '.join(sorted({min(dates), max(dates)}))}" for text, dates in days.items()]


__all__ = ["CELL", "rows_of", "write_transfer"]

"""What a store holds, at a glance: `videogen-dream inspect`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from worldmodel.counted import counted
from worldmodel.data import EpisodeStorage
from worldmodel.data.facts import damaged_files, store_facts
from worldmodel.progress import progress
from worldmodel.training.reports.evaluation import dataset_rows

_SHOWN = 10  # missing ids that are listed


def inspect_store(folder: str | Path) -> dict[str, Any]:
    """The `store_facts` of a folder. ValueError that names every damaged file, if there are any."""
    try:
        return store_facts(EpisodeStorage.open(folder))
    except ValueError as error:
        damaged = damaged_files(Path(folder))
        if len(damaged) < 2:
            raise
        raise ValueError(f"{folder} has {len(damaged)} damaged files\n" + "\n".join(damaged)) from error


def verify_store(folder: str | Path) -> str:
    """Compare every episode with its checksums; ValueError that names what is damaged. Returns what was compared."""
    store = EpisodeStorage.open(folder)
    damaged = []
    with progress(len(store), "episode", "verify") as bar:
        for wrong in store.damage():
            damaged += [wrong] if wrong else []
            bar.update()
    if damaged:
        raise ValueError(
            f"{len(damaged)} of the {len(store)} episodes of {folder} are damaged; the first: {damaged[0]}"
        )
    unchecked = store.num_unchecked
    return f"{len(store) - unchecked} match their checksums" + (f", {unchecked} have none" if unchecked else "")


def facts_page(facts: Mapping[str, Any]) -> str:
    """The facts in two columns, for a terminal."""
    return columns(_rows(facts))


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of a name and a value, the values below each other."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows)


def _rows(facts: Mapping[str, Any]) -> list[list[str]]:
    rows = dataset_rows(facts) if facts["episodes"] else [["game", facts["env_id"]], ["episodes", "none yet"]]
    for name, part in facts["splits"].items():
        chosen = ", as published" if name == "test" and facts["published_test"] else ""
        rows.append(
            [f"split {name}", f"{counted(part['episodes'], 'episode')}, {counted(part['steps'], 'step')}{chosen}"]
        )
    if facts["views"] > 1:
        rows.append(["episodes in a row that show the same play", str(facts["views"])])
    if facts["episodes"]:
        rows += [
            ["episodes that just stop", f"{facts['stopped']:,}"],
            ["steps of an episode", _words(facts["lengths"])],
        ]
        rows.append(["return of an episode", _words(facts["returns"])])
        rows += [[f"action {name}", _words(values)] for name, values in facts["numbers"].items()]
        rows += [[f"signal {name}", _words(values)] for name, values in facts["signals"].items()]
    if facts["labels"]:
        rows.append(["labels of objects", ", ".join(facts["labels"])])
    if facts["pending"]:
        rows.append(["episodes not packed yet", f"{facts['pending']:,} (read like the others)"])
    if missing := facts["missing_ids"]:
        shown = ", ".join(map(str, missing[:_SHOWN])) + (", …" if len(missing) > _SHOWN else "")
        rows.append(["episodes missing", f"{len(missing):,}: {shown}; collect resumes with them"])
    return rows


def _words(values: Mapping[str, float]) -> str:
    return f"{values['least']:,.4g} to {values['greatest']:,.4g}, mean {values['mean']:,.4g}"

"""What a store holds, at a glance: `videogen-dream inspect`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.data import EpisodeStorage
from worldmodel.data.layout import read_info
from worldmodel.data.pending import PATTERN, scan_pending
from worldmodel.data.scanning import scan
from worldmodel.data.splits import SPLITS
from worldmodel.progress import progress
from worldmodel.training.measure import dataset_facts
from worldmodel.training.report import dataset_rows

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


def damaged_files(root: Path) -> list[str]:
    """What is wrong with each file of episodes that cannot be read."""
    info, found = read_info(root / "data" / "metadata.json"), []
    looks: dict[Path, Callable] = {path: scan_pending for path in sorted((root / "data" / "pending").glob(PATTERN))}
    if (main := root / "data" / "main_data.hdf5").exists():
        looks = {main: scan} | looks
    for path, look in looks.items():
        try:
            look(path, info)
        except ValueError as error:
            found.append(str(error))
    return found


def store_facts(store: EpisodeStorage) -> dict[str, Any]:
    """The `dataset_facts` (of a store with episodes) and what is beside them.

    Returns: besides, "splits", name -> episodes and steps; "published_test", whether the data came with their own;
    "views"; "missing_ids", those below the last one; "pending", episodes that are not packed yet; "labels", the classes
    of objects that are labelled, if any; and if there are episodes "lengths", "returns", "numbers" (of actions that are
    numbers) and "signals", each with its least, mean and greatest value; and "stopped", episodes that neither ended nor
    were cut.
    """
    info, ids = store.info, store.ids
    facts: dict[str, Any] = {
        "env_id": info.env_id,
        "episodes": len(store),
        "steps": store.num_steps,
        "splits": {name: _size(store, store.split(name)) for name in SPLITS},
        "published_test": info.test_episodes > 0,
        "views": info.views,
        "missing_ids": store.missing_ids(int(ids[-1]) + 1) if len(store) else [],
        "pending": len(store.pending_ids),
        "labels": list(info.label_names),
    }
    if not len(store):
        return facts
    places = range(len(store))
    signals = np.concatenate([store.signals(i) for i in places])
    facts |= dataset_facts(store)
    facts["lengths"] = _range(np.array(store.lengths))
    facts["returns"] = _range(np.array([store.rewards(i).sum() for i in places]))
    facts["stopped"] = sum(not any(store.ended(i)) for i in places)
    facts["numbers"] = {}
    if info.action.kind == "box":
        actions = np.concatenate([store.actions(i) for i in places])
        names = info.action.names or tuple(f"number {i}" for i in range(info.action.n))
        facts["numbers"] = {name: _range(column) for name, column in zip(names, actions.T, strict=True)}
    facts["signals"] = {name: _range(column) for name, column in zip(info.signal_names, signals.T, strict=True)}
    return facts


def _size(store: EpisodeStorage, episodes: NDArray[np.int64]) -> dict[str, int]:
    return {"episodes": len(episodes), "steps": sum(store.lengths[i] for i in episodes.tolist())}


def _range(values: NDArray) -> dict[str, float]:
    return {"least": float(values.min()), "mean": float(values.mean(dtype=np.float64)), "greatest": float(values.max())}


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
        rows.append([f"split {name}", f"{part['episodes']:,} episodes, {part['steps']:,} steps{chosen}"])
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
        rows.append(["episodes missing", f"{len(missing):,}: {shown}; the collection goes on with them"])
    return rows


def _words(values: Mapping[str, float]) -> str:
    return f"{values['least']:,.4g} to {values['greatest']:,.4g}, mean {values['mean']:,.4g}"

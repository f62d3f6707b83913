"""Statistics of a store's content."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.data.layout import read_info
from worldmodel.data.pending import PATTERN, scan_pending
from worldmodel.data.scanning import scan
from worldmodel.data.splits import SPLITS
from worldmodel.data.storage import EpisodeStorage
from worldmodel.statistics import grouped_mean_with_interval


def dataset_facts(store: EpisodeStorage) -> dict[str, Any]:
    """Size of a store, and counts of its actions, rewards and ends."""
    info, returns = store.info, episode_returns(store)
    rewards = np.concatenate([store.rewards(i) for i in range(len(store))])
    ended = np.array([store.ended(i) for i in range(len(store))])
    mean, half_width = grouped_mean_with_interval(returns, store.plays)  # views of a recording count as one
    facts = {
        "env_id": info.env_id,
        "episodes": len(store),
        "steps": store.num_steps,
        "test_episodes": len(store.split("test")),
        "frames_per_step": info.frames_per_step,
        "frame_size": [info.height, info.width, info.channels],
        "reward_unit": info.reward,
        "return_mean": mean,
        "return_half_width": half_width,
        "positive_rewards": int((rewards > 0).sum()),
        "negative_rewards": int((rewards < 0).sum()),
        "terminated": int(ended[:, 0].sum()),
        "truncated": int(ended[:, 1].sum()),
        "stopped": int((~ended.any(1)).sum()),
    }
    return facts | ({"actions": action_counts(store)} if info.action.kind == "discrete" else {})


def episode_returns(store: EpisodeStorage) -> NDArray[np.float64]:
    """(episodes,) in the store's unit."""
    return np.array([float(store.rewards(i).sum()) for i in range(len(store))])


def action_counts(store: EpisodeStorage) -> dict[str, int]:
    """Steps with each of the discrete actions."""
    spec = store.info.action
    counts = np.bincount(np.concatenate([store.actions(i) for i in range(len(store))]), minlength=spec.n)
    return dict(zip(spec.names or (f"action {i}" for i in range(spec.n)), counts.tolist(), strict=True))


def signal_changes(store: EpisodeStorage) -> dict[str, tuple[int, int]]:
    """Steps in which each signal rose and fell."""
    changes = np.concatenate([np.diff(store.signals(i), axis=0) for i in range(len(store))])
    rises, falls = (changes > 0).sum(0).tolist(), (changes < 0).sum(0).tolist()
    return dict(zip(store.info.signal_names, zip(rises, falls, strict=True), strict=True))


def damaged_files(root: Path) -> list[str]:
    """One message for each episode file that cannot be read."""
    info, found = read_info(root / "data" / "metadata.json"), []
    scans: dict[Path, Callable] = {path: scan_pending for path in sorted((root / "data" / "pending").glob(PATTERN))}
    if (main := root / "data" / "main_data.hdf5").exists():
        scans = {main: scan} | scans
    for path, scan_file in scans.items():
        try:
            scan_file(path, info)
        except ValueError as error:
            found.append(str(error))
    return found


def store_facts(store: EpisodeStorage) -> dict[str, Any]:
    """The `dataset_facts` (unless the store is empty) and more.

    Returns: in addition "splits", name -> episodes and steps; "published_test", whether the data have a published test
    split; "views"; "missing_ids", those below the last one; "pending", the number of unpacked episodes; "labels", the
    classes of labelled objects. Unless the store is empty also "lengths", "returns", "numbers" (dimensions of box
    actions) and "signals", each with its least, mean and greatest value.
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
    episodes = range(len(store))
    signals = np.concatenate([store.signals(i) for i in episodes])
    facts |= dataset_facts(store)
    facts["lengths"] = _range(np.array(store.lengths))
    facts["returns"] = _range(episode_returns(store))
    facts["numbers"] = {}
    if info.action.kind == "box":
        actions = np.concatenate([store.actions(i) for i in episodes])
        names = info.action.names or tuple(f"dimension {i}" for i in range(info.action.n))
        facts["numbers"] = {name: _range(column) for name, column in zip(names, actions.T, strict=True)}
    facts["signals"] = {name: _range(column) for name, column in zip(info.signal_names, signals.T, strict=True)}
    return facts


def _size(store: EpisodeStorage, episodes: NDArray[np.int64]) -> dict[str, int]:
    return {"episodes": len(episodes), "steps": sum(store.lengths[i] for i in episodes.tolist())}


def _range(values: NDArray) -> dict[str, float]:
    return {"least": float(values.min()), "mean": float(values.mean(dtype=np.float64)), "greatest": float(values.max())}

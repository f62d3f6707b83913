"""Tiny episodes and stores of known content; without torch, so that a test can start processes that write them."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from worldmodel.data import ActionSpec, Episode, EpisodeStorage, StoreInfo

TURNS = ActionSpec(kind="discrete", n=3, names=("left", "right", "ahead"))
PUSHES = ActionSpec(kind="box", n=2, low=(-1.0, 0.0), high=(1.0, 2.0))
INFO = StoreInfo(
    env_id="Toy", frames_per_step=2, height=4, width=5, channels=3, action=TURNS, signal_names=("HEALTH", "AMMO")
)

LABELLED = replace(INFO, label_names=("monster", "ball", "other"))


def make_episode(num_steps: int = 6, seed: int = 0, info: StoreInfo = INFO, **changes) -> Episode:
    """Random content, so that no step looks like another."""
    rng = np.random.default_rng(seed)
    discrete = info.action.kind == "discrete"
    parts = {
        "frames": rng.integers(0, 256, (num_steps + 1, *info.frame_shape), np.uint8),
        "actions": rng.integers(0, info.action.n, num_steps)
        if discrete
        else rng.uniform(info.action.low, info.action.high, (num_steps, info.action.n)).astype(np.float32),
        "rewards": rng.normal(size=num_steps).astype(np.float32),
        "terminated": seed % 3 == 0,
        "truncated": seed % 3 == 1,
        "signals": rng.normal(size=(num_steps + 1, len(info.signal_names))).astype(np.float32),
        "seed": seed,
    }
    if info.label_names:
        parts["labels"] = make_labels(num_steps, info, rng)
    return Episode(**parts | changes)


def make_labels(num_steps: int, info: StoreInfo, rng: np.random.Generator) -> np.ndarray:
    """Random objects in a third of the pixels."""
    classes = rng.integers(1, len(info.label_names) + 1, (num_steps + 1, *info.labels_shape[:-1]), np.uint8)
    numbers = rng.integers(1, 256, classes.shape, np.uint8)
    return np.stack((classes, numbers), axis=-1) * (rng.random(classes.shape) < 1 / 3)[..., None]


def make_store(root: Path, lengths=(6, 3, 8, 5), info: StoreInfo = INFO) -> EpisodeStorage:
    """A packed store of episodes of these lengths; episode i was made with seed i."""
    with EpisodeStorage.create(root, info) as store:
        for seed, length in enumerate(lengths):
            store.append(make_episode(length, seed, info))
    return store


def assert_equal(episode: Episode, wanted: Episode) -> None:
    for field in fields(Episode):
        ours, theirs = getattr(episode, field.name), getattr(wanted, field.name)
        np.testing.assert_array_equal(ours, theirs, err_msg=field.name)
        assert getattr(ours, "dtype", type(ours)) == getattr(theirs, "dtype", type(theirs))


def assert_holds(store: EpisodeStorage, lengths) -> None:
    """The store holds what `make_store` wrote, whole."""
    assert store.lengths == list(lengths)
    for place, length in enumerate(lengths):
        assert_equal(store.episode(place), make_episode(length, place, store.info))


def files_of(root: Path) -> list[str]:
    """Every file of a store, relative to its data folder."""
    return sorted(str(path.relative_to(root / "data")) for path in root.rglob("*") if path.is_file())

"""Read several stores of one game as one, optionally only the first episodes of each; copies and changes nothing."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from worldmodel.data.episode import Episode, StoreInfo
from worldmodel.data.layout import Entry, layout
from worldmodel.data.storage import EpisodeStorage

Folder = str | Path


class JoinedStorage(EpisodeStorage):
    """The first episodes of several stores, one store after the other.

    An episode keeps the id and thus the split of its own store, so what is held out there is held out here too. Ids are
    therefore neither unique nor ascending; address episodes by index, 0 to ``len(storage) - 1``. Object labels are
    available if all stores have them with the same classes.

    Args:
        stores: of the same game.
        counts: number of episodes of each store, 0 or more; None: all.

    Raises:
            ValueError: the stores differ in a shared property, or a store has fewer episodes than its count.
    """

    def __init__(self, stores: Sequence[EpisodeStorage], counts: Sequence[int] | None = None) -> None:
        if not stores:
            raise ValueError("at least one store is needed, got none")
        counts = [len(store) for store in stores] if counts is None else list(counts)
        for store, count in zip(stores, counts, strict=True):
            mine, first = asdict(_game(store.info)), asdict(_game(stores[0].info))
            if differing := [name for name in mine if mine[name] != first[name]]:
                name = differing[0]
                raise ValueError(
                    f"only stores of one game can be joined, but {name} is {getattr(stores[0].info, name)} in "
                    f"{stores[0].root} and {getattr(store.info, name)} in {store.root}"
                )
            speeds = stores[0].info.steps_per_second, store.info.steps_per_second
            if all(speeds) and not math.isclose(*speeds, rel_tol=1e-3):
                warnings.warn(
                    f"{stores[0].root} has {speeds[0]:g} steps per second and {store.root} {speeds[1]:g}: a step means "
                    "different times in them, so a model of both dreams at neither speed",
                    stacklevel=4,
                )
            if not 0 <= count <= len(store):
                raise ValueError(f"{store.root} has {len(store)} episodes, asked for the first {count}")
        self.parts = list(zip(stores, counts, strict=True))
        self.root = Path(os.path.commonpath([store.root.absolute() for store in stores]))
        names = stores[0].info.label_names
        self.info = replace(
            _game(stores[0].info),
            steps_per_second=stores[0].info.steps_per_second,
            label_names=names if all(store.info.label_names == names for store in stores) else (),
        )
        self._fields = layout(self.info)
        shown = [(store, entry) for store, n in self.parts for entry in store._entries[:n]]
        self._entries = [entry for _, entry in shown]
        self._owners = {entry.path: store for store, entry in shown}

    @property
    def folders(self) -> list[str]:
        return [folder for store, _ in self.parts for folder in store.folders]

    @property
    def plays(self) -> NDArray[np.int64]:
        """(episodes,) recording that each episode shows: views are those of its own store."""
        found, first = [], 0
        for store, count in self.parts:
            found.append(first + store.plays[:count])
            first += int(store.plays.max(initial=-1)) + 1
        return np.concatenate(found)

    @property
    def pending_ids(self) -> set[int]:
        """Those of all stores, also beyond their counts."""
        return set().union(*(store.pending_ids for store, _ in self.parts))

    def _window(self, entry: Entry, index: int) -> NDArray:
        return self._owners[entry.path]._window(entry, index)

    def _splits(self) -> NDArray[np.int64]:
        return np.concatenate([store._splits()[:n] for store, n in self.parts])

    def append(self, episode: Episode) -> NoReturn:
        self._refuse()

    def write_pending(self, episode: Episode, episode_id: int) -> NoReturn:
        self._refuse()

    def write_block(self, episodes: Sequence[Episode], first_id: int) -> NoReturn:
        self._refuse()

    def discard(self, episode_ids: Iterable[int]) -> NoReturn:
        self._refuse()

    def flush(self) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TypeError(f"joined stores are read-only; open one of them: {', '.join(self.folders)}")

    def __getstate__(self) -> dict[str, Any]:
        return {"parts": self.parts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        stores, counts = zip(*state["parts"], strict=True)
        self.__init__(stores, counts)  # type: ignore[misc]


def open_stores(data: Folder | Sequence[Folder] | EpisodeStorage) -> EpisodeStorage:
    """Open the store in a folder, or the stores in several folders as one; returns an open store unchanged.

    Raises: ValueError if a folder is given twice, or the stores are not of one game.
    """
    if isinstance(data, EpisodeStorage):
        return data
    folders = [data] if isinstance(data, str | Path) else data
    places = [Path(folder).resolve() for folder in folders]
    if twice := [folder for index, folder in enumerate(folders) if places[index] in places[:index]]:
        raise ValueError(f"the store {twice[0]} is given twice, so that its episodes would count twice: omit one")
    stores = [EpisodeStorage.open(folder) for folder in folders]
    return stores[0] if len(stores) == 1 else JoinedStorage(stores)


def _game(info: StoreInfo) -> StoreInfo:
    """The properties that stores of one game must share: no test split, views, speed or labels."""
    return replace(info, test_episodes=0, views=1, steps_per_second=0.0, label_names=())

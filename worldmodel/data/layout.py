"""On-disk layout of episodes: Minari's HDF5 layout and metadata, read and written without Minari.

A file holds one group ``episode_<id>`` per episode. Its datasets are contiguous, so a clip is a slice of the file.

Letters: see worldmodel/shapes.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from worldmodel.data.checksums import Checksums, checksums, info_checksum
from worldmodel.data.episode import ActionSpec, Episode, StoreInfo
from worldmodel.data.minari import check_dataset_id, default_dataset_id
from worldmodel.files import read_json
from worldmodel.settings import from_json

FORMAT_VERSION = 1
_INFO_KEY = "videogen_dream"  # our own entry in Minari's metadata
_MINARI_VERSION = "0.5.4"  # Minari does not accept a range
CHECKSUMS = "crc32c"  # attribute of an episode's group in HDF5
CHECKED = "all_episodes_have_crc32c"  # attribute of a file


class Field(NamedTuple):
    """One dataset of an episode's group: (N + extra, *tail) of dtype."""

    name: str
    tail: tuple[int, ...]
    dtype: np.dtype
    extra: int  # 1 if the state before the first step is stored too


class Entry(NamedTuple):
    """Location of an episode."""

    id: int
    path: Path
    num_steps: int
    offsets: tuple[int, ...]  # bytes from the start of the file, one per field
    seed: int | None  # seed of the env's reset
    checksums: Checksums | None  # None: an earlier version wrote it


def layout(info: StoreInfo) -> list[Field]:
    """The datasets of every episode: frames, steps, signals in the order of their names, and labels if any."""
    float32, boolean = np.dtype(np.float32), np.dtype(np.bool_)
    return [
        Field("observations", info.frame_shape, np.dtype(np.uint8), 1),
        Field("actions", info.action.shape, info.action.dtype, 0),
        Field("rewards", (), float32, 0),
        Field("terminations", (), boolean, 0),
        Field("truncations", (), boolean, 0),
        *(Field(f"infos/{name}", (), float32, 1) for name in info.signal_names),
        *([Field("labels", info.labels_shape, np.dtype(np.uint8), 1)] if info.label_names else []),
    ]


def hdf5_type(field: Field) -> h5py.h5t.TypeID:
    """HDF5 type of a field's dataset."""
    return h5py.h5t.py_create(field.dtype, logical=True)


def write_episodes(path: Path, episodes: Sequence[Episode], first_id: int, info: StoreInfo) -> None:
    """Write a file of episodes with consecutive ids from `first_id`; they must fit `info`."""
    # h5py's low-level calls take half the time of the high-level ones.
    columns_of = [(field.name.encode(), hdf5_type(field)) for field in layout(info)]
    with _writing(path, "w") as file:
        file.attrs[CHECKED] = 1
        for episode_id, episode in enumerate(episodes, first_id):
            ended = np.zeros((2, episode.num_steps), bool)
            ended[:, -1] = episode.terminated, episode.truncated
            columns = [episode.frames, episode.actions, episode.rewards, *ended, *episode.signals.T]
            columns = [np.ascontiguousarray(column) for column in columns]
            labels = None if episode.labels is None else np.ascontiguousarray(episode.labels)
            group = file.create_group(f"episode_{episode_id}")
            group.attrs.update(id=episode_id, total_steps=episode.num_steps)
            if episode.seed is not None:
                group.attrs["seed"] = episode.seed
            sums = checksums(columns, episode_id, episode.seed, labels)
            group.attrs[CHECKSUMS] = np.array([value for value in sums if value is not None], np.uint32)
            group.create_group("infos")
            columns += [] if labels is None else [labels]
            for (name, kind), column in zip(columns_of, columns, strict=True):
                dataset = h5py.h5d.create(group.id, name, kind, h5py.h5s.create_simple(column.shape))
                dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, column, kind)


def append_episodes(path: Path, entries: Sequence[Entry]) -> None:
    """Copy episodes from their files to the end of the file `path`, which is created if needed."""
    with _writing(path, "a") as target:
        if not all(entry.checksums for entry in entries):
            target.attrs.pop(CHECKED, None)
        elif not len(target):
            target.attrs[CHECKED] = 1
        for source_path, group in groupby(entries, key=lambda entry: entry.path):
            with h5py.File(source_path, "r") as source:
                for entry in group:
                    source.copy(f"episode_{entry.id}", target)


@contextmanager
def _writing(path: Path, mode: str) -> Iterator[h5py.File]:
    try:
        # Formats since HDF5 1.8 have checksums of the file structure.
        with h5py.File(path, mode, libver=("v108", "latest")) as file:
            yield file
    except RuntimeError as error:  # h5py raises this for a failed write
        raise OSError(
            f"cannot write {path} ({error}). Is the disk full? All episodes stored so far are safe."
        ) from error


def same_episode(one: Entry, other: Entry) -> bool:
    """Whether two files hold the same episode."""
    with h5py.File(one.path, "r") as mine, h5py.File(other.path, "r") as theirs:
        a, b = mine[f"episode_{one.id}"], theirs[f"episode_{other.id}"]
        names = _datasets(a)
        return names == _datasets(b) and all(np.array_equal(a[name], b[name]) for name in names)


def _datasets(group: h5py.Group) -> set[str]:
    """Names of all datasets in a group."""
    names: set[str] = set()
    group.visititems(lambda name, found: names.add(name) if isinstance(found, h5py.Dataset) else None)
    return names


def make_metadata(root: Path, info: StoreInfo, dataset_id: str | None, env_spec: str | None) -> dict[str, Any]:
    """Content of metadata.json for an empty store in `root`, with its name and env for Minari (minari.py)."""
    dataset_id = check_dataset_id(dataset_id or default_dataset_id(root))
    shape = info.frame_shape
    frames = _box(np.uint8, np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8))
    return ({} if env_spec is None else {"env_spec": env_spec}) | {
        "total_episodes": 0,
        "total_steps": 0,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "dataset_id": dataset_id,
        "minari_version": _MINARI_VERSION,
        "observation_space": frames,
        "action_space": _action_space(info.action),
        "dataset_size": 0.0,
        "description": f"{info.env_id}, {info.frames_per_step} frames per step, rewards: {info.reward}",
        _INFO_KEY: {"format_version": FORMAT_VERSION, "info": _saved(info), "crc32c": info_checksum(_saved(info))},
    }


def _saved(info: StoreInfo) -> dict[str, Any]:
    """`info` as saved; without label_names if empty, so that versions without labels can read it."""
    saved = asdict(info)
    if not info.label_names:
        del saved["label_names"]
    return saved


def read_info(path: Path) -> StoreInfo:
    """Read our part of metadata.json.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file was written by another program or another version.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing, so {path.parent.parent} is not a store. Give a folder made by `videogen-dream "
            "collect` or EpisodeStorage.create."
        )
    metadata = read_json(path)
    ours = metadata.get(_INFO_KEY) if isinstance(metadata, dict) else None
    if not isinstance(ours, dict):
        raise ValueError(f"{path} has no {_INFO_KEY!r} entry: another program wrote this store. Collect it again.")
    if ours.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {ours.get('format_version')}, this program reads {FORMAT_VERSION}. "
            "Use the version of videogen-dream that wrote it, or collect again."
        )
    if "crc32c" in ours and ours["crc32c"] != info_checksum(ours.get("info")):
        raise ValueError(
            f"{path} does not match its checksum: the entry 'info' of {_INFO_KEY!r} was damaged or changed by hand. "
            "Restore the file from a backup; if the change is yours, remove the line with 'crc32c'."
        )
    try:
        return from_json(StoreInfo, ours.get("info"))
    except ValueError as error:
        raise ValueError(f"{path} describes no valid store ({error}). Restore a backup or collect again.") from error


def _action_space(action: ActionSpec) -> str:
    if action.kind == "discrete":
        return json.dumps({"type": "Discrete", "dtype": "int64", "n": action.n, "start": 0})
    return _box(np.float32, np.array(action.low, np.float32), np.array(action.high, np.float32))


def _box(dtype: Any, low: np.ndarray, high: np.ndarray) -> str:
    # Minari stores spaces as a JSON string with the bounds of every element.
    space = {
        "type": "Box",
        "dtype": np.dtype(dtype).name,
        "shape": low.shape,
        "low": low.tolist(),
        "high": high.tolist(),
    }
    return json.dumps(space, separators=(",", ":"))

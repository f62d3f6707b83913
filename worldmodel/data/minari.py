"""Names by which Minari finds a store, and env specs from which it can recreate the env; does not import Minari."""

from __future__ import annotations

import os
import re
import sys
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldmodel.files import read_json

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

_DATASET_ID = re.compile(r"([-\w][-\w/]*[-\w]/)?[-\w]+-v\d+")  # Minari's rule


def datasets_folder() -> Path:
    """The folder in which Minari looks for data sets: $MINARI_DATASETS_PATH, or ~/.minari/datasets."""
    given = os.environ.get("MINARI_DATASETS_PATH")
    return Path(given) if given is not None else Path.home() / ".minari" / "datasets"


def default_dataset_id(root: Path) -> str:
    """Minari's name for the store in `root`: its path below Minari's folder, or otherwise its name, with a version.

    Minari finds a store in its own folder if the store's name equals its path from there.

    Raises:
        ValueError: `root` is in Minari's folder under a name without a version, which breaks Minari's own lists.
    """
    root, folder = root.resolve(), datasets_folder().resolve()
    if root != folder and root.is_relative_to(folder):
        dataset_id = root.relative_to(folder).as_posix()
        if not _DATASET_ID.fullmatch(dataset_id):
            raise ValueError(
                f"{root} is in {folder}, where Minari expects names of data sets to end in a version, such as "
                f"doom/random-v0; got {dataset_id!r}. Choose another folder, such as {root}-v0"
            )
        return dataset_id
    name = re.sub(r"[^-\w]", "-", root.name) or "store"
    return name if _DATASET_ID.fullmatch(name) else f"{name}-v0"


def check_dataset_id(dataset_id: str) -> str:
    """Return the name; ValueError unless Minari can read it."""
    if not _DATASET_ID.fullmatch(dataset_id):
        raise ValueError(f"dataset_id must look like 'doom/health-gathering-v0', got {dataset_id!r}")
    return dataset_id


def env_spec_of(root: Path) -> str | None:
    """The env in the metadata of the store in `root`; None: unknown, or several stores joined."""
    path = root / "data" / "metadata.json"
    return read_json(path).get("env_spec") if path.is_file() else None


def recoverable(spec: EnvSpec) -> str | None:
    """An env's spec as JSON, from which Minari's `recover_environment` recreates the env.

    None if a new process could not do so: the entry point has no importable name, or an argument is not valid JSON.
    """
    spec = deepcopy(spec)
    spec.entry_point, spec.vector_entry_point = _importable(spec.entry_point), _importable(spec.vector_entry_point)
    if spec.entry_point is None:
        return None
    try:
        return spec.to_json()
    except (TypeError, ValueError):
        return None


def _importable(creator: Any) -> str | None:
    """An entry point as "module:name"; None if it has no such name."""
    if creator is None or isinstance(creator, str):
        return creator
    module, name = getattr(creator, "__module__", None), getattr(creator, "__qualname__", "")
    found = getattr(sys.modules.get(module or ""), name, None)
    return f"{module}:{name}" if found is creator and module != "__main__" else None

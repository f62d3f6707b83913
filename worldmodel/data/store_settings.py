"""Stores that remember the settings of the command that made them, and are only continued with the same ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worldmodel.data.episode import StoreInfo
from worldmodel.data.minari import default_dataset_id
from worldmodel.data.storage import EpisodeStorage
from worldmodel.files import JsonObject, read_json, write_json


def open_with_settings(
    out: Path, name: str, settings: dict[str, Any], info: Callable[[], StoreInfo], env_spec: str | None = None
) -> EpisodeStorage:
    """Open the store in `out`, or create it.

    Args:
        name: file beside the store that holds the settings; each command has its own.
        settings: values that JSON can hold.
        info: makes the description of a new store; called only to create one.
        env_spec: the env of a new store, for Minari (`EpisodeStorage.create`).

    Raises:
        ValueError: the store was made by another command or with other settings.
    """
    path = out / name
    if not (out / "data" / "metadata.json").exists():
        description = info()
        dataset_id = default_dataset_id(out)
        write_json(path, settings)
        return EpisodeStorage.create(out, description, dataset_id, env_spec)
    if not path.exists():
        raise ValueError(f"{out} holds a store made by another command ({name} is missing). Choose another out.")
    saved, settings = read_json(path, JsonObject), json.loads(json.dumps(settings))  # tuples as lists, as saved
    for key in settings.keys() | saved.keys():
        if (was := saved.get(key)) != (now := settings.get(key)):
            raise ValueError(
                f"{out} was made with {key}={was!r}, not {now!r}. Use the same settings to resume, or another out."
            )
    return EpisodeStorage.open(out)

"""A store that keeps the settings it was made with, and is only continued with the same ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from worldmodel.data.episode import StoreInfo
from worldmodel.data.storage import EpisodeStorage
from worldmodel.files import JsonObject, read_json, write_json


def open_with_settings(out: Path, name: str, settings: dict[str, Any], info: Callable[[], StoreInfo]) -> EpisodeStorage:
    """The store in `out`, continued or new.

    Args:
        name: of the file beside the store that keeps the settings; each command has its own.
        settings: what JSON can hold.
        info: makes the description of a new store; called only for one.

    Raises:
        ValueError: the store was made in another way or with other settings.
    """
    path = out / name
    if not (out / "data" / "metadata.json").exists():
        description = info()
        write_json(path, settings)
        return EpisodeStorage.create(out, description)
    if not path.exists():
        raise ValueError(f"{out} holds a store that was made in another way ({name} is missing). Choose another out.")
    made_with = read_json(path, JsonObject)
    for key in settings.keys() | made_with.keys():
        if (was := made_with.get(key)) != (now := settings.get(key)):
            raise ValueError(
                f"{out} was made with {key}={was!r}, not {now!r}. Keep the settings to go on, or choose another out."
            )
    return EpisodeStorage.open(out)

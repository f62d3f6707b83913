"""A store that remembers the settings it was made with, and is gone on with under the same ones only."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from worldmodel.data import EpisodeStorage, StoreInfo
from worldmodel.files import JsonObject, read_json, write_json


def open_made_with(out: Path, name: str, settings: dict[str, Any], info: Callable[[], StoreInfo]) -> EpisodeStorage:
    """The store in `out`, continued or new.

    Args:
        name: of the file beside the store that keeps the settings; each kind of import has its own.
        settings: what JSON can hold.
        info: says what a new store is of; asked only then.

    Raises:
        ValueError: the store was made in another way or with other settings.
    """
    path = out / name
    if not (out / "data" / "metadata.json").exists():
        of_new = info()
        write_json(path, settings)
        return EpisodeStorage.create(out, of_new)
    if not path.exists():
        raise ValueError(f"{out} holds a store that was made in another way ({name} is missing). Choose another out.")
    made_with = read_json(path, JsonObject)
    for key in settings.keys() | made_with.keys():
        if (was := made_with.get(key)) != (now := settings.get(key)):
            raise ValueError(
                f"{out} was made with {key}={was!r}, not {now!r}. Keep the settings to go on, or choose another out."
            )
    return EpisodeStorage.open(out)

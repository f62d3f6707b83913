"""What settings were before there were any, so that runs which earlier releases began go on."""

from collections.abc import Mapping
from typing import Any

from worldmodel.settings import flat

# Of settings that are newer than the first release, by their last names; None needs no entry.
_BEFORE: dict[str, Any] = {
    "rarity": 0.0,
    "rarity_limit": 31.0,
    "token_noise": 0.0,
    "own_draws": 0.0,
    "own_draws_passes": 1,
    "starts": "all",
}


def known_before(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by their whole names, without those that are what they were before there was such a setting."""
    return {
        name: value
        for name, value in flat(settings).items()
        if value is not None and value != _BEFORE.get(name.rpartition(".")[2])
    }

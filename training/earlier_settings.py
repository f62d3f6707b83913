"""Values that newer settings had before they existed, so that runs of earlier releases can be resumed."""

from collections.abc import Mapping
from typing import Any

from worldmodel.settings import flat

# Settings newer than the first release, by the last part of their names; those that were None need no entry.
_BEFORE: dict[str, Any] = {
    "standardise": True,
    "frame_condition_frames": 0,
    "rarity": 0.0,
    "rarity_limit": 31.0,
    "rate_weight": 0.0,
    "token_noise": 0.0,
    "own_draws": 0.0,
    "own_draws_passes": 1,
    "checkerboard": False,
    "starts": "all",
    "reward": "world",  # of an agent's training
    "eval_seed": 50_000,
    "ends": "read",  # of heads
    "previous_action": False,
    "durations": [],
    "policy": "sticky",  # of a demo
}
_FIRST_NETS = {"vqvae", "gpt"}  # the classes of models before a setting named them
# Settings of a loop without which rounds were made in another way: such a run is a loop, but cannot be resumed.
_WITHOUT_BEFORE = {"first_steps", "blind_share"}


def completed(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an earlier run by their full names, completed by what it used for those that only `here` has.

    Settings that are None count as absent.
    """
    given = known(there)
    newer = {name: value for name, value in known(here).items() if name not in given}
    nets = {name: value for name, value in newer.items() if _end(name) == "net" and value in _FIRST_NETS}
    return {name: _BEFORE[end] for name in newer if (end := _end(name)) in _BEFORE} | nets | given


def known(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are not None, by their full names."""
    return {name: value for name, value in flat(settings).items() if value is not None}


def may_lack(names: set[str]) -> set[str]:
    """The names that settings of an earlier release may lack."""
    return names & (_BEFORE.keys() | _WITHOUT_BEFORE)


def _end(name: str) -> str:
    return name.rpartition(".")[2]

"""Shared by the vector envs: autoreset modes by name, rows to reset, seeds of rows, infos with masks.

Letters: B rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode

from worldmodel.errors import check_known

_AUTORESET_MODES = {mode.name.lower(): mode for mode in AutoresetMode}  # same_step, next_step, disabled


class NamesItsAdapter(type):
    """Metaclass of vector envs whose type, when formatted, says how to use them with Stable-Baselines3.

    Stable-Baselines3 refuses Gymnasium's vector envs with an error that advises OpenAI Gym; the type in its f-string is
    the only part of that error that we can influence.
    """

    def __format__(cls, spec: str) -> str:
        return (
            f"{cls!r} (a batch, which Stable-Baselines3 takes as SB3VecEnv(envs), after "
            "`from worldmodel.agents.sb3 import SB3VecEnv`)"
        )


def as_autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    """Gymnasium's enum member for "same_step", "next_step" or "disabled"."""
    if isinstance(mode, AutoresetMode):
        return mode
    check_known("autoreset_mode", mode, _AUTORESET_MODES)
    return _AUTORESET_MODES[mode]


def rows_to_reset(options: Mapping[str, Any], num_envs: int) -> np.ndarray:
    """The rows in options["reset_mask"] (B,) bool; all rows if it is absent."""
    if "reset_mask" not in options:
        return np.arange(num_envs)
    mask = np.asarray(options["reset_mask"])
    if mask.shape != (num_envs,) or mask.dtype != bool or not mask.any():
        raise ValueError(f"reset_mask must be ({num_envs},) bool with at least one True, got {mask!r}")
    return np.flatnonzero(mask)


def row_seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> Sequence[int | None]:
    """A seed for every row: s gives row i the seed s + i."""
    if seed is None or isinstance(seed, int | np.integer):
        return [None if seed is None else int(seed) + row for row in range(num_envs)]
    if len(seed) != num_envs:
        raise ValueError(f"seed must be one integer or a list of {num_envs}, got a list of {len(seed)}")
    return seed


def key_of(seed: int | None) -> int:
    """A row's key, drawn from its seed (None: from the system's entropy); decides its starts and its dreams' draws."""
    return int(seeding.np_random(seed)[0].integers(2**62))


def masked(values: Mapping[str, np.ndarray], mask: np.ndarray) -> dict[str, Any]:
    """Gymnasium's vector infos: each (B,) value, 0 where it is absent, with its mask ``_name``."""
    infos: dict[str, Any] = {}
    for name, value in values.items():
        infos |= {name: np.where(mask, value, value.dtype.type(0)), f"_{name}": mask.copy()}
    return infos

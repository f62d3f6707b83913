"""Checks of what a game's env returns, so that violations of Gymnasium's rules are found before they are recorded."""

from typing import Any

import numpy as np

_OLD = "is it written for the old gym? Gymnasium's rules: https://gymnasium.farama.org/introduction/migration_guide/"
_LARGEST = float(np.finfo(np.float32).max)  # stores hold float32


def of_reset(result: Any) -> tuple[Any, dict[str, Any]]:
    """Observation and info; TypeError if `reset` returned anything else."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"the env's reset must return (observation, info), got {_brief(result)}; {_OLD}")
    observation, info = result
    return observation, _info(info)


def of_step(result: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """Observation, reward, terminated, truncated, info; TypeError or ValueError if `step` returned anything else."""
    if not isinstance(result, tuple) or len(result) != 5:
        wanted = "(observation, reward, terminated, truncated, info)"
        raise TypeError(f"the env's step must return {wanted}, got {_brief(result)}; {_OLD}")
    observation, reward, terminated, truncated, info = result
    reward = reward.item() if isinstance(reward, np.ndarray) and reward.size == 1 else reward
    ends = _flag("terminated", terminated), _flag("truncated", truncated)
    return observation, finite("the env's reward", reward), *ends, _info(info)


def finite(what: str, value: Any) -> float:
    """The value as a float if float32 can hold it; otherwise a TypeError or ValueError that names `what`."""
    array = np.asarray(value)
    if array.shape or array.dtype.kind not in "biuf":
        raise TypeError(f"{what} must be a number, got {value!r}")
    if not abs(float(array)) <= _LARGEST:  # also of NaN
        raise ValueError(f"{what} must be finite, got {value!r}")
    return float(array)


def _flag(name: str, value: Any) -> bool:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biu" or array.item() not in (0, 1):
        raise TypeError(f"the env's {name} must be True or False, got {_brief(value)}")
    return bool(array.item())


def _info(info: Any) -> dict[str, Any]:
    if not isinstance(info, dict):
        raise TypeError(f"the env's info must be a dict, got {_brief(info)}")
    return info


def _brief(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} values"
    return f"an array {value.shape}" if isinstance(value, np.ndarray) else repr(value)[:80]

"""Agents trained with RLlib; the most used names can be imported from here.

Names load when first used, so that importing this package does not start Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worldmodel.agents.rllib.config import dream_ppo
    from worldmodel.agents.rllib.policy import load_policy

_MODULES = {"dream_ppo": "config", "load_policy": "policy"}
__all__ = ["dream_ppo", "load_policy"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

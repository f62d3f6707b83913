"""Environments: the real games (ViZDoom, PyBullet) and the dreams learned from them.

Names load when first used, so that importing this package starts neither torch nor a game.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if __name__ == "envs":
    raise ImportError(
        "This package is imported as 'worldmodel.envs', not as 'envs' (it would load all a second time). "
        "Write: import worldmodel.envs"
    )

if TYPE_CHECKING:
    from worldmodel.envs.dream_env import DreamEnv
    from worldmodel.envs.dream_vector_env import DreamVectorEnv
    from worldmodel.envs.goals import GoalLatents, GoalObject, GoalPixels, GoalSignals
    from worldmodel.envs.mixed_dreams import MixedDreams
    from worldmodel.envs.pixel_game import PixelGame
    from worldmodel.envs.push_env import PushEnv
    from worldmodel.envs.vizdoom_env import VizdoomEnv
    from worldmodel.envs.wrappers import DreamView, DreamViewVector, ThreadVectorEnv

__all__ = [
    "DreamEnv",
    "DreamVectorEnv",
    "DreamView",
    "DreamViewVector",
    "GoalLatents",
    "GoalObject",
    "GoalPixels",
    "GoalSignals",
    "MixedDreams",
    "PixelGame",
    "PushEnv",
    "ThreadVectorEnv",
    "VizdoomEnv",
]

_MODULES = {
    "DreamEnv": "worldmodel.envs.dream_env",
    "DreamVectorEnv": "worldmodel.envs.dream_vector_env",
    "DreamView": "worldmodel.envs.wrappers",
    "GoalLatents": "worldmodel.envs.goals",
    "GoalObject": "worldmodel.envs.goals",
    "GoalPixels": "worldmodel.envs.goals",
    "GoalSignals": "worldmodel.envs.goals",
    "MixedDreams": "worldmodel.envs.mixed_dreams",
    "PixelGame": "worldmodel.envs.pixel_game",
    "PushEnv": "worldmodel.envs.push_env",
    "VizdoomEnv": "worldmodel.envs.vizdoom_env",
    "DreamViewVector": "worldmodel.envs.wrappers",
    "ThreadVectorEnv": "worldmodel.envs.wrappers",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'worldmodel.envs' has no attribute {name!r}")

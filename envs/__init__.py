"""Environments: the real games (ViZDoom, PyBullet) and the dreams learned from them.

Names load when first used, so that importing this package starts neither torch nor a game.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if __name__ == "envs":
    raise ImportError(
        "This package is imported as 'worldmodel.envs', not as 'envs' (every module would be loaded twice). "
        "Write: import worldmodel.envs"
    )

if TYPE_CHECKING:
    from worldmodel.envs.dream.env import DreamEnv
    from worldmodel.envs.dream.goals import GoalLatents, GoalObject, GoalPixels, GoalSignals
    from worldmodel.envs.dream.mixed import MixedDreams
    from worldmodel.envs.dream.vector_env import DreamVectorEnv
    from worldmodel.envs.pixel_game import PixelGame
    from worldmodel.envs.push.env import PushEnv
    from worldmodel.envs.vizdoom.env import VizdoomEnv
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
    "DreamEnv": "worldmodel.envs.dream.env",
    "DreamVectorEnv": "worldmodel.envs.dream.vector_env",
    "DreamView": "worldmodel.envs.wrappers",
    "GoalLatents": "worldmodel.envs.dream.goals",
    "GoalObject": "worldmodel.envs.dream.goals",
    "GoalPixels": "worldmodel.envs.dream.goals",
    "GoalSignals": "worldmodel.envs.dream.goals",
    "MixedDreams": "worldmodel.envs.dream.mixed",
    "PixelGame": "worldmodel.envs.pixel_game",
    "PushEnv": "worldmodel.envs.push.env",
    "VizdoomEnv": "worldmodel.envs.vizdoom.env",
    "DreamViewVector": "worldmodel.envs.wrappers",
    "ThreadVectorEnv": "worldmodel.envs.wrappers",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'worldmodel.envs' has no attribute {name!r}")

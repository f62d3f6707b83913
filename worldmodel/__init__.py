"""VideoGenDream: learned video world models that reinforcement-learning agents train in.

Importing this package registers the Gymnasium ids of the dreams (``VideoGenDream-…``) and of the games they were
learned from (``VideoGenReal-…``). It stays light: torch, ray, vizdoom, pybullet and stable-baselines3 are imported on
first use.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from worldmodel.forks import keep_torch_usable_after_forks

if TYPE_CHECKING:
    from worldmodel.data import EpisodeStorage
    from worldmodel.model import WorldModel

__version__ = "0.1.0"
__all__ = ["EpisodeStorage", "WorldModel", "__version__"]

_here = Path(__file__).resolve().parent
if not (_here / "envs").is_dir() and (_here.parent / "pyproject.toml").is_file():
    __path__.append(str(_here.parent))  # running from a checkout: envs/, agents/ and training/ lie beside this folder

# Scenario of each real game, and the kind of its rewards, the same as in its dream.
_REAL_GAMES = {
    "Doom": {"scenario": "health_gathering_supreme", "reward": "health"},
    "DoomHealthGathering": {"scenario": "health_gathering", "reward": "health"},
    "DoomTakeCover": {"scenario": "take_cover", "reward": "health"},
    "DoomDefendTheCenter": {"scenario": "defend_the_center"},
    "DoomDeadlyCorridor": {"scenario": "deadly_corridor"},
    "DoomBasic": {"scenario": "basic"},
    "DoomBattle2": {"scenario": "battle2"},
}
# The variants of robot pushing: without and with a goal.
_PUSHING: dict[str, dict[str, bool]] = {"Push": {}, "PushGoal": {"goal": True}}
# The model shipped inside the package for each dream.
_DREAMS = {
    "Doom": "doom-hgs",
    "DoomHealthGathering": "doom-hg",
    "DoomDefendTheCenter": "doom-defend-the-center",
    "DoomTakeCover": "doom-take-cover",
    "BAIR": "push",
}


def _register() -> None:
    for env_class, variants in (("VizdoomEnv", _REAL_GAMES), ("PushEnv", _PUSHING)):
        for name, kwargs in variants.items():
            for env_id in (f"VideoGenReal-{name}", f"VideoGenReal/{name}-v0"):
                if env_id not in gym.registry:
                    gym.register(env_id, entry_point=f"worldmodel.envs:{env_class}", kwargs=kwargs)
    for name, model in _DREAMS.items():
        for env_id in (f"VideoGenDream-{name}", f"VideoGenDream/{name}-v0"):
            if env_id not in gym.registry:
                gym.register(
                    env_id,
                    entry_point="worldmodel.envs:DreamEnv",
                    vector_entry_point="worldmodel.envs:DreamVectorEnv",
                    kwargs={"model": model},
                )


_register()
keep_torch_usable_after_forks()

_LAZY = {"WorldModel": "worldmodel.model", "EpisodeStorage": "worldmodel.data"}


_SUBMODULES = ("visualize",)  # `worldmodel.visualize.rollout(…)` after `import worldmodel`


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'worldmodel' has no attribute {name!r}")

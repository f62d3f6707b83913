"""Agents trained with Stable-Baselines3; the most used names can be imported from here.

Names load when first used, so that importing this package does not start Stable-Baselines3.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worldmodel.agents.sb3.agent import Agent, load_agent, save_agent
    from worldmodel.agents.sb3.any_model import SB3Policy
    from worldmodel.agents.sb3.config import AgentConfig, AgentMeta
    from worldmodel.agents.sb3.eval_callback import RealEvalCallback, real_games
    from worldmodel.agents.sb3.networks import GridFeatures
    from worldmodel.agents.sb3.train import train_ppo
    from worldmodel.agents.sb3.vec_env import SB3VecEnv

_MODULES = {
    "Agent": "agent",
    "AgentConfig": "config",
    "AgentMeta": "config",
    "GridFeatures": "networks",
    "RealEvalCallback": "eval_callback",
    "SB3Policy": "any_model",
    "SB3VecEnv": "vec_env",
    "load_agent": "agent",
    "real_games": "eval_callback",
    "save_agent": "agent",
    "train_ppo": "train",
}
__all__ = [
    "Agent",
    "AgentConfig",
    "AgentMeta",
    "GridFeatures",
    "RealEvalCallback",
    "SB3Policy",
    "SB3VecEnv",
    "load_agent",
    "real_games",
    "save_agent",
    "train_ppo",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

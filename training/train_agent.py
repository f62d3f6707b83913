"""Train an agent in a dream: PPO on a vector of dreams, saved so that it can play the real game."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from worldmodel import checkpoint
from worldmodel.agents.sb3 import train_ppo
from worldmodel.agents.sb3_config import AgentConfig, AgentMeta
from worldmodel.envs.dream_vector_env import DreamVectorEnv
from worldmodel.model import WorldModel


@dataclass(frozen=True, kw_only=True, slots=True)
class DreamTraining:
    """Everything that decides an agent trained in a dream, next to the dream itself."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    agent: AgentConfig = field(default_factory=AgentConfig)
    horizon: int = 32  # steps of a dream; its end is a truncation, so the agent still values what would follow
    temperature: float = 1.0  # of the dreamt codes; below 1 a dream is sharper, and easier to exploit


def train_agent(
    world: str | os.PathLike, out: str | Path, config: DreamTraining | None = None, *, device: str = "auto"
) -> Path:
    """Train in the dream of `world` (a shipped name, a folder, a hub id); returns the agent's folder `out/agent`.

    The agent sees decoded frames, and the real game through the same tokenizer (`DreamView`).
    """
    config = config or DreamTraining()
    model = WorldModel.from_pretrained(world, device=device)
    known = (
        str(world)
        if str(world) in checkpoint.shipped()
        else str(Path(world).resolve())
        if Path(world).exists()
        else str(world)
    )
    envs = DreamVectorEnv(config.agent.num_envs, model, horizon=config.horizon, temperature=config.temperature)
    try:
        train_ppo(envs, config.agent, out, AgentMeta(env_id=model.config.env_id, view="rgb", world_model=known))
    finally:
        envs.close()
    return Path(out) / "agent"

"""Train an agent in a dream: PPO on a vector of dreams, saved so that it can play the real game."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldmodel import checkpoint
from worldmodel.agents.sb3 import is_trained, train_ppo
from worldmodel.agents.sb3_config import AgentConfig, AgentMeta
from worldmodel.envs.dream_vector_env import DreamVectorEnv
from worldmodel.envs.loading import load_model


@dataclass(frozen=True, kw_only=True, slots=True)
class DreamTraining:
    """Everything that decides an agent trained in a dream, next to the dream itself."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    agent: AgentConfig = field(default_factory=AgentConfig)
    horizon: int = 32  # steps of a dream; its end is a truncation, so the agent still values what would follow
    temperature: float = 1.0  # of the dreamt codes; below 1 a dream is sharper, and easier to exploit


def train_agent(
    world: str | os.PathLike,
    out: str | Path,
    config: DreamTraining | None = None,
    *,
    start_from: str | Path | None = None,
    device: str = "auto",
) -> Path:
    """Train in the dream of `world` (a shipped name, a folder, a hub id); returns the agent's folder `out/agent`.

    The agent sees decoded frames, and the real game through the same tokenizer (`DreamView`). It begins as the agent in
    the folder `start_from`, if one is given. An agent that `out` already holds, finished, is kept; any other there is
    refused (see `train_ppo`).
    """
    config = config or DreamTraining()
    folder = checkpoint.resolve(world)
    model = load_model(folder, device)
    home = str(folder.resolve()) if folder == Path(world) else str(world)  # shipped names and hub ids work anywhere
    meta = AgentMeta(env_id=model.config.env_id, view="rgb", world_model=home)
    about: dict[str, Any] = {"horizon": config.horizon, "temperature": config.temperature}
    about["world_sha256"] = checkpoint.weights_name(folder)
    if start_from is not None:
        about["start_sha256"] = checkpoint.weights_name(start_from)
    if is_trained(out, config.agent, meta, about):
        print(f"agent: {out} has its {config.agent.steps:,} steps already")
        return Path(out) / "agent"
    envs = DreamVectorEnv(config.agent.num_envs, model, horizon=config.horizon, temperature=config.temperature)
    try:
        train_ppo(envs, config.agent, out, meta, about=about, start_from=start_from)
    finally:
        envs.close()
    return Path(out) / "agent"

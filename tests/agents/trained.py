"""Small trainings that tests of agents share."""

from tests.tiny import tiny_world
from worldmodel.agents.sb3.config import AgentConfig, AgentMeta
from worldmodel.envs.dream.vector_env import DreamVectorEnv

META = AgentMeta(env_id="Toy", view="rgb", world_model="doom-hg")


def small(**changes):
    sizes = {
        "steps": 16,
        "num_envs": 4,
        "n_steps": 4,
        "batch_size": 8,
        "n_epochs": 1,
        "features_dim": 16,
        "channels": 4,
    }
    return AgentConfig(**sizes | changes)


def dreams(obs, num_envs=4, horizon=3):
    return DreamVectorEnv(num_envs, tiny_world(2), obs=obs, horizon=horizon)

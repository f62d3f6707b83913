"""Train a PPO agent inside the shipped dream of health_gathering, then let it play the real game.

    python examples/dream_ppo.py

The agent never acts in the real game before its evaluation there, against random play on the same seeds.
"""

from pathlib import Path

import gymnasium as gym

from worldmodel import WorldModel
from worldmodel.agents.evaluate import Comparison, compare_with_random
from worldmodel.agents.sb3 import AgentConfig, AgentMeta, load_agent, train_ppo

DREAM = "VideoGenDream-DoomHealthGathering"
GAME = "VideoGenReal-DoomHealthGathering"
CONFIG = AgentConfig()


def main(
    model: str = "doom-hg", config: AgentConfig = CONFIG, episodes: int = 30, out: str = "runs/dream_ppo"
) -> Comparison:
    world = WorldModel.from_pretrained(model)
    dreams = gym.make_vec(DREAM, num_envs=config.num_envs, model=world, obs="features", horizon=64)
    train_ppo(dreams, config, out, AgentMeta(env_id=GAME, view="features", world_model=model))
    dreams.close()

    # The real frames go through the tokenizer, and the dynamics, so that the agent sees what it saw in the dream.
    agent = load_agent(Path(out) / "agent")
    result = compare_with_random(agent, GAME, episodes, view=(world, "features"))
    print(f"agent  {result.agent}\nrandom {result.random}")
    return result


if __name__ == "__main__":
    main()

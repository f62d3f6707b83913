"""Train PPO of RLlib inside the shipped dream of health_gathering, then let it play the real game.

    python examples/dream_rllib.py

On its way it is evaluated in the real game, where it learns nothing; at the end it plays there against random play on
the same seeds. `num_env_runners=2` samples in two Ray workers, each in dreams of its own.
"""

from pathlib import Path
from typing import Any

import ray

from worldmodel.agents.evaluate import Comparison, compare_with_random
from worldmodel.agents.rllib import dream_ppo, load_policy

DREAM = "VideoGenDream-DoomHealthGathering"
GAME = "VideoGenReal-DoomHealthGathering"


def main(
    model: str = "doom-hg", iterations: int = 60, episodes: int = 20, out: str = "runs/dream_rllib", **settings: Any
) -> Comparison:
    ray.init(include_dashboard=False, ignore_reinit_error=True)
    folder = str(Path(out).resolve())  # RLlib does not accept relative paths
    settings = {"evaluation_interval": 20, "evaluation_episodes": 3} | settings
    # Features instead of images: nothing is decoded, and they summarise the steps before.
    dream = {"model": model, "obs": "features", "horizon": 64}
    algo = dream_ppo(DREAM, env_config=dream, real_env_id=GAME, **settings).build_algo()
    for iteration in range(1, iterations + 1):
        result = algo.train()
        dreamt = result["env_runners"].get("episode_return_mean", float("nan"))  # nan: no dream has ended yet
        line = f"{iteration:3}: return {dreamt:.2f} in the dream"
        if iteration % settings["evaluation_interval"] == 0:  # else it is the last one's, or nan
            line += f", {result['evaluation']['env_runners']['episode_return_mean']:.2f} in the game"
        print(line)
    algo.save_to_path(folder)
    algo.stop()

    # The real frames go through the tokenizer, so that the agent is shown what the dream would show it.
    agent = load_policy(folder)
    comparison = compare_with_random(agent, GAME, episodes, view=agent.view())
    print(f"agent  {comparison.agent}\nrandom {comparison.random}")
    return comparison


if __name__ == "__main__":
    main()

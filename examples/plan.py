"""Play the real health_gathering by planning in its shipped dream: nothing is trained.

    python examples/plan.py

Every decision dreams several plans and takes the first actions of the best one.
"""

from typing import Any

from worldmodel import WorldModel
from worldmodel.agents.evaluate import Comparison, compare_with_random
from worldmodel.agents.planner import Planner, PlannerConfig

GAME = "VideoGenReal-DoomHealthGathering"
CONFIG = PlannerConfig(horizon=15, candidates=48, iterations=2, elites=8, repeat=0.8, replan_every=4)


def main(model: str = "doom-hg", config: PlannerConfig = CONFIG, episodes: int = 4, **game: Any) -> Comparison:
    world = WorldModel.from_pretrained(model)
    planner = Planner(world, config, signals={"HEALTH": 100})  # at the start of every episode
    result = compare_with_random(planner, GAME, episodes, view=(world, "codes"), **game)
    print(f"planner {result.agent}\nrandom  {result.random}")
    return result


if __name__ == "__main__":
    main()

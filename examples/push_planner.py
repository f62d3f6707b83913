"""Try to push objects to where a picture shows them, by planning in the shipped dream of pushing: nothing is trained.

    python examples/push_planner.py --scenes 50

The planner sees pictures only: the scene before anything was done, the goal, and each step. The simulator tells how far
the object was from its target in the end. Random actions and a hand at rest act in the same scenes. How well it goes
(not well enough yet): docs/results.md, pushing.

Source: the task of Visual Foresight (arXiv:1812.00568), for which BAIR's recordings were made.
"""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from worldmodel import WorldModel
from worldmodel.agents.planner import Planner
from worldmodel.agents.planner_config import PlannerConfig
from worldmodel.envs import DreamView, GoalObject
from worldmodel.progress import progress
from worldmodel.statistics import difference_with_interval, mean_with_interval

GAME = "VideoGenReal-PushGoal"
CONFIG = PlannerConfig(
    horizon=5, candidates=64, iterations=3, elites=8, repeat=0.7, replan_every=2, temperature=0.0, discount=1.0
)


Act = Callable[[Any], Any]


def final_distance(env: gym.Env, scene: int, begin: Callable[[int, dict[str, Any]], Act]) -> float:
    """Metres from the object to its target after an episode; `begin` makes the scene's policy from the first info."""
    observation, info = env.reset(seed=scene)
    act, ended = begin(scene, info), False
    while not ended:
        observation, _, _, ended, info = env.step(act(observation))
    return info["distance"]


def main(
    model: str = "push", config: PlannerConfig = CONFIG, scenes: int = 50, first: int = 1000, **game: Any
) -> dict[str, list[float]]:
    world = WorldModel.from_pretrained(model)
    env = DreamView(gym.make(GAME, **game), world, obs="codes")

    def rest(scene: int, info: dict[str, Any]) -> Act:
        return lambda _: np.zeros(4, np.float32)

    def act_randomly(scene: int, info: dict[str, Any]) -> Act:
        rng = np.random.default_rng(scene)
        return lambda _: rng.uniform(-1, 1, 4).astype(np.float32)

    def plan(scene: int, info: dict[str, Any]) -> Act:
        try:
            goal = GoalObject(torch.from_numpy(info["goal_image"]), torch.from_numpy(info["frames"][-1]))
        except ValueError:  # the arm hides the object in both pictures
            return rest(scene, info)
        planner = Planner(world, config, goal, seed=scene)
        return lambda codes: planner.act(codes[None])[0]

    policies = {"planner": plan, "random": act_randomly, "rest": rest}
    distances: dict[str, list[float]] = {name: [] for name in policies}
    with progress(scenes, "scene", "push") as bar:
        for scene in range(first, first + scenes):
            for name, begin in policies.items():
                distances[name].append(final_distance(env, scene, begin))
            bar.update()
    env.close()
    for name, values in distances.items():
        mean, half = (100 * value for value in mean_with_interval(values))
        reached = sum(value < 0.04 for value in values)
        print(f"{name:8} {mean:5.1f} ± {half:.1f} cm from the target, {reached} of {scenes} nearer than 4 cm")
    for name in ("random", "rest"):
        gain, half = (100 * value for value in difference_with_interval(distances[name], distances["planner"]))
        print(f"planner nearer than {name}: {gain:.1f} ± {half:.1f} cm")
    return distances


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="push", help="shipped name or checkpoint folder")
    parser.add_argument("--scenes", type=int, default=50)
    parser.add_argument("--first", type=int, default=1000, help="seed of the first scene; the others follow")
    main(**vars(parser.parse_args()))

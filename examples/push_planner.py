"""Push objects to the position in a goal image by planning in the shipped dream of pushing: nothing is trained.

    python examples/push_planner.py --scenes 50

The planner gets the goal image, and at each step a frame and the position of its hand. It finds the object by its
colours in the frame and the goal, converts both positions to metres by the camera's geometry, and dreams where its
actions would push the object: the dream keeps the positions as game variables. Where the hand hides the object, it
continues from the position in the dream. `--by frames` judges plans by the dreamt frames alone instead.

The simulator measures the final distance of the object from its target, also for random actions and a hand at rest in
the same scenes. Results: docs/results/pushing.md.

Source: the task of Visual Foresight (arXiv:1812.00568), for which BAIR's recordings were made.
"""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from worldmodel import WorldModel
from worldmodel.agents.planner import Planner, PlannerConfig
from worldmodel.envs import DreamView, GoalObject, GoalSignals
from worldmodel.envs.push.scene import floor_at
from worldmodel.progress import progress
from worldmodel.statistics import difference_with_interval, mean_with_interval

GAME = "VideoGenReal-PushGoal"
CONFIG = PlannerConfig(horizon=5, candidates=64, iterations=3, elites=8, repeat=0.7, temperature=0.0, discount=1.0)
JUDGED_BY = ("signals", "frames")
NEAR = 16.0  # pixels around its last position in which the object is searched

Act = Callable[[np.ndarray, dict[str, Any]], np.ndarray]  # from the codes and the info of a step


def planning(world: WorldModel, config: PlannerConfig, scene: int, info: dict[str, Any], by: str) -> Act | None:
    """A planner for one scene; None if the goal image does not show the target position of the object."""
    try:
        goal = GoalObject(torch.from_numpy(info["goal_image"]), torch.from_numpy(info["frames"][-1]), within=NEAR)
    except ValueError:  # the arm hides the object in both pictures
        return None
    size = len(info["goal_image"])
    x, y = floor_at(*goal.goal_place.tolist(), size)
    reward = GoalSignals({"OBJECT0_X": x, "OBJECT0_Y": y}) if by == "signals" else goal
    planner = Planner(world, config, reward, seed=scene)
    begun = False

    def act(codes: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        nonlocal begun
        seen = goal.follow(torch.from_numpy(info["frames"][-1])) or (goal.seen and not begun)
        hand, others = info["signals"][:3], np.zeros(len(info["signals"]) - 6)  # as if there were no other objects
        thing = (*floor_at(*goal.place.tolist(), size), 0.02) if seen else (np.nan,) * 3
        begun = True
        return planner.act(codes[None], np.concatenate((hand, thing, others))[None])[0]

    return act


def final_distance(env: gym.Env, scene: int, begin: Callable[[int, dict[str, Any]], Act]) -> float:
    """Metres from the object to its target after an episode; `begin` makes the scene's policy from the first info."""
    observation, info = env.reset(seed=scene)
    act, ended = begin(scene, info), False
    while not ended:
        observation, _, _, ended, info = env.step(act(observation, info))
    return info["distance"]


def main(
    model: str = "push",
    config: PlannerConfig = CONFIG,
    scenes: int = 50,
    first: int = 1000,
    by: str = "signals",
    **game: Any,
) -> dict[str, list[float]]:
    if by not in JUDGED_BY:
        raise ValueError(f"plans are judged by {' or '.join(JUDGED_BY)}, got {by!r}")
    world = WorldModel.from_pretrained(model)
    env = DreamView(gym.make(GAME, **game), world, obs="codes")

    def rest(scene: int, info: dict[str, Any]) -> Act:
        return lambda *_: np.zeros(4, np.float32)

    def act_randomly(scene: int, info: dict[str, Any]) -> Act:
        rng = np.random.default_rng(scene)
        return lambda *_: rng.uniform(-1, 1, 4).astype(np.float32)

    def plan(scene: int, info: dict[str, Any]) -> Act:
        return planning(world, config, scene, info, by) or rest(scene, info)

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
    parser.add_argument("--by", choices=JUDGED_BY, default="signals", help="what plans are judged by")
    main(**vars(parser.parse_args()))

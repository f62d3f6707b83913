"""How well do distances to a goal image measure how far a pushed object is from its target? In the simulation.

    python benchmarks/goals.py --scenes 40

A script that knows all positions pushes object 0; a fourth of its actions are random. Prints, for every episode in
which the object moved, the rank correlation of each distance with the true one, and how much farther away the object is
at the moment that this distance ranks first than at the best one; and the error of the place that `GoalObject` finds.
"""

from argparse import ArgumentParser

import gymnasium as gym
import numpy as np
import torch

import worldmodel  # noqa: F401 (registers the ids)
from worldmodel.envs import GoalObject, GoalPixels
from worldmodel.envs.push.scene import SPEED, floor_at
from worldmodel.evaluation.rank_correlation import spearman

STEPS = 20
_MOVED = 0.03  # metres between the least and the largest distance of an episode that counts


def push(info: dict, rng: np.random.Generator) -> np.ndarray:
    """Go behind the object with the hand raised, then down and towards the target; or act at random."""
    hand, thing, target = info["signals"][:2], info["signals"][3:5], info["target"]
    way = (target - thing) / max(np.linalg.norm(target - thing), 1e-6)
    behind = thing - 0.07 * way
    if rng.random() < 0.25:
        return rng.uniform(-1, 1, 4).astype(np.float32)
    if np.linalg.norm(hand - behind) > 0.03 and (thing - hand) @ way < 0.03:
        return np.float32([*np.clip((behind - hand) / (2 * SPEED), -1, 1), 1, -1])
    return np.float32([*(0.5 * np.clip((target - hand) / (2 * SPEED), -1, 1)), -1, 1])


def main(scenes: int = 40) -> dict[str, list[tuple[float, float]]]:
    env = gym.make("VideoGenReal-PushGoal", episode_frames=2 * STEPS)
    rng = np.random.default_rng(0)
    found: dict[str, list[tuple[float, float]]] = {}
    errors: list[float] = []  # metres from the object's true place to that found in a picture
    for scene in range(scenes):
        picture, info = env.reset(seed=scene)
        pictures, distances, goal_image = [picture], [info["distance"]], info["goal_image"]
        places = [info["signals"][3:5]]
        for _ in range(STEPS):
            picture, _, _, _, info = env.step(push(info, rng))
            pictures.append(picture)
            distances.append(info["distance"])
            places.append(info["signals"][3:5])
        true, seen = np.array(distances), torch.from_numpy(np.stack(pictures))
        if np.ptp(true) < _MOVED:
            continue
        goal, start = torch.from_numpy(goal_image), seen[0]
        kinds = {
            "GoalPixels, whole picture": GoalPixels(goal),
            "GoalPixels, where start and goal differ": GoalPixels(goal, start),
            "GoalObject": GoalObject(goal, start, within=16.0),
        }
        for name, kind in kinds.items():
            measured: list[float] = []
            for picture, place in zip(seen, places, strict=True):
                if isinstance(kind, GoalObject) and kind.follow(picture):
                    errors.append(float(np.linalg.norm(floor_at(*kind.place.tolist(), len(picture)) - place)))
                measured.append(kind.distance(picture[None]).item())
            rank = spearman(np.array(measured), true)
            chosen = float(true[np.argmin(measured)] - true.min())
            found.setdefault(name, []).append((np.nan if rank is None else rank, chosen))
    env.close()
    print("| distance | episodes | rank correlation | chosen moment, cm farther |\n|---|---|---|---|")
    for name, values in found.items():
        ranks, farther = np.nanmean(np.array(values), axis=0)
        print(f"| {name} | {len(values)} | {ranks:.2f} | {100 * farther:.1f} |")
    median, most = (100 * np.quantile(errors, share) for share in (0.5, 0.9))
    print(f"GoalObject finds its object in {len(errors)} frames, {median:.1f} cm from its place (90 %: {most:.1f})")
    return found


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=40)
    main(**vars(parser.parse_args()))

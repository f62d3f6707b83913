"""Do pushed objects move in the dream as in the simulation? The same pushes in both.

    python benchmarks/pushes.py --model push --scenes 24

A script that knows all positions pushes object 0 towards its target. Wherever that brings it 4 cm nearer or more within
five steps, the dream continues from what came before those steps with the same actions, at temperature 0. How much
nearer the object comes there is measured in the dreamt frames (`GoalObject`) and by the dream's game variables.
"""

import copy
from argparse import ArgumentParser

import gymnasium as gym
import numpy as np
import torch
from goals import push

from worldmodel import WorldModel
from worldmodel.envs import DreamView, GoalObject
from worldmodel.envs.push.scene import floor_at
from worldmodel.evaluation.rank_correlation import spearman
from worldmodel.model.outputs import Branches

STEPS = 5  # dreamt ahead
PUSHED = 0.04  # metres nearer that make a push
_PLACES = slice(3, 5)  # of object 0 among the signals


class NoNoise:
    """Draws that leave the script's actions as they are."""

    def random(self) -> float:
        return 1.0


def away(place: np.ndarray, info: dict) -> float:
    return float(np.linalg.norm(place - info["target"]))


def dreamt(
    world: WorldModel, codes: list[np.ndarray], actions: list[np.ndarray], now: int, signals: np.ndarray
) -> Branches:
    """The dream of the steps after `now`, from the window before it."""
    first = max(0, now + 1 - world.config.dynamics.window)
    hold = world.config.action.hold
    given = torch.from_numpy(np.stack(codes[first : now + 1]))[None]
    done = torch.from_numpy(np.reshape(actions[first:now], (1, -1, 4)).astype(np.float32))
    state = world.start_codes(given, hold(done), torch.from_numpy(signals)[None])
    ahead = torch.from_numpy(np.stack(actions[now : now + STEPS]))[None, None]
    return world.branch(state, hold(ahead), 0.0, torch.zeros(1, 1, dtype=torch.int64))


@torch.inference_mode()
def main(model: str = "push", scenes: int = 24, first: int = 3000) -> dict[str, list[float]]:
    world = WorldModel.from_pretrained(model)
    env = DreamView(gym.make("VideoGenReal-PushGoal"), world, obs="codes")
    nearer: dict[str, list[float]] = {"simulation": [], "dreamt frames": [], "dreamt game variables": []}
    lost = 0
    for scene in range(first, first + scenes):
        code, info = env.reset(seed=scene)
        picture = torch.from_numpy(info["frames"][-1])
        try:
            goal = GoalObject(torch.from_numpy(info["goal_image"]), picture, within=16.0)
        except ValueError:  # the arm hides the object
            continue
        codes, infos, followed, actions = [code], [info], [copy.copy(goal)], []
        ended = False
        while not ended:
            actions.append(push(info, NoNoise()))
            code, _, _, ended, info = env.step(actions[-1])
            goal.follow(torch.from_numpy(info["frames"][-1]))
            codes, infos, followed = [*codes, code], [*infos, info], [*followed, copy.copy(goal)]
        for now in range(len(actions) - STEPS + 1):
            gain = infos[now]["distance"] - infos[now + STEPS]["distance"]
            seen, size = followed[now], len(picture)
            if gain < PUSHED or not seen.seen:
                continue
            ahead = dreamt(world, codes, actions, now, infos[now]["signals"])
            before = away(floor_at(*seen.place.tolist(), size), info)
            frames = world.tokenizer.decode(ahead.codes[0, :, -1][:, None])
            lost += not seen.follow(frames[0, 0, -1])  # then it counts as not moved
            nearer["simulation"].append(gain)
            nearer["dreamt frames"].append(before - away(floor_at(*seen.place.tolist(), size), info))
            counted = ahead.signals[0, 0, -1, _PLACES].numpy()
            nearer["dreamt game variables"].append(infos[now]["distance"] - away(counted, info))
    env.close()
    print("| measured by | nearer, cm, mean | share of the true way | rank correlation with it |\n|---|---|---|---|")
    true = np.array(nearer["simulation"])
    for name, values in nearer.items():
        gains = np.array(values)
        share = gains.mean() / true.mean()
        print(f"| {name} | {100 * gains.mean():.1f} | {share:.0%} | {spearman(gains, true):.2f} |")
    print(f"{len(true)} spans of {STEPS} steps in {scenes} scenes; in {lost} the dreamt frame does not show the object")
    return nearer


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="push")
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--first", type=int, default=3000)
    main(**vars(parser.parse_args()))

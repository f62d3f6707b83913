"""Episodes of a real game as arrays."""

from collections.abc import Iterable

import gymnasium as gym
import numpy as np


def play(env: gym.Env, actions: Iterable, seed: int | None = None) -> dict[str, np.ndarray]:
    """All results of one episode, until it or the actions end."""
    observation, info = env.reset(seed=seed)
    steps = [(observation, info["frames"], info["signals"], 0.0, 0.0, False, False)]
    for action in actions:
        given = action if isinstance(action, int) else np.array(action, np.float32)
        observation, reward, terminated, truncated, info = env.step(given)
        steps.append(
            (observation, info["frames"], info["signals"], reward, info["native_reward"], terminated, truncated)
        )
        if terminated or truncated:
            break
    names = ("observations", "frames", "signals", "rewards", "native_rewards", "terminated", "truncated")
    return {name: np.array(values) for name, values in zip(names, zip(*steps, strict=True), strict=True)}


def same(first: dict, second: dict) -> bool:
    """Whether two episodes are equal in every bit."""
    return all(np.array_equal(first[name], second[name]) for name in first)

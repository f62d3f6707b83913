"""Collection speed: stored steps/s with parallel workers, and steps/s of the bare env in this process.

    python benchmarks/collect.py --scenario health_gathering --steps 20000 --workers 2

A step is 4 tics of the game and 2 stored frames of 64 × 64. The rate of the collection is that of the whole call:
worker start, play, writing, packing and statistics.
"""

import os
import platform
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import tyro

from worldmodel.agents.scripted import StickyPolicy
from worldmodel.envs import VizdoomEnv
from worldmodel.media.resize import area_resize
from worldmodel.training.collect.collect import collect


@dataclass(frozen=True, kw_only=True)
class Args:
    scenario: str = "health_gathering"
    steps: int = 20_000  # to collect
    workers: int = 2
    seconds: float = 5.0  # of play in the bare env


def env_steps_per_second(scenario: str, seconds: float) -> float:
    """Steps/s of one env with sticky play, resets included."""
    env = VizdoomEnv(scenario)
    policy = StickyPolicy(env.action_spec)
    observation, _ = env.reset(seed=0)
    steps, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        observation, _, terminated, truncated, _ = env.step(policy.act(observation[None])[0])
        steps += 1
        if terminated or truncated:
            observation, _ = env.reset()
    env.close()
    return steps / passed


def resize_microseconds(repeats: int = 500) -> float:
    """Microseconds per frame, two frames at a time as the env does."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 120, 160, 3)).astype(np.uint8)
    area_resize(frames, 64, 64)
    began = time.perf_counter()
    for _ in range(repeats):
        area_resize(frames, 64, 64)
    return (time.perf_counter() - began) / repeats / len(frames) * 1e6


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{platform.machine()}, {os.cpu_count()} CPUs{load}; Python {platform.python_version()}", end="")
    print(*(f", {name} {version(name)}" for name in ("vizdoom", "numpy", "h5py")), sep="")
    print(f"area resize 160 × 120 to 64 × 64: {resize_microseconds():.0f} µs/frame")
    print(f"bare env: {env_steps_per_second(args.scenario, args.seconds):,.0f} steps/s")
    with tempfile.TemporaryDirectory() as folder:
        stats = collect(
            "VideoGenReal-Doom",
            folder,
            steps=args.steps,
            workers=args.workers,
            env_kwargs={"scenario": args.scenario},
        )
    rate = stats.new_steps / stats.seconds
    print(f"collection: {rate:,.0f} stored steps/s with {args.workers} workers (bar: 1,500 with 2 workers on 2 cores)")


if __name__ == "__main__":
    main()

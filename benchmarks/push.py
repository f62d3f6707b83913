"""Speed of VideoGenReal-Push: frames/s of the bare env, and what a frame and a reset cost.

    python benchmarks/push.py --episodes 20

An episode is a new scene, 15 steps of random play and 31 pictures. Rates are given by the clock and by processor time,
on which other programs have less effect.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version

import tyro
from machine import describe

from worldmodel.agents.scripted import RandomPolicy
from worldmodel.envs import PushEnv


@dataclass(frozen=True, kw_only=True)
class Args:
    episodes: int = 20


class Watch:
    """Adds up the clock's and the processor's seconds of a repeated part."""

    def __init__(self) -> None:
        self.clock = self.processor = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        clock, processor = time.perf_counter(), time.process_time()
        yield
        self.clock += time.perf_counter() - clock
        self.processor += time.process_time() - processor


def main() -> None:
    args = tyro.cli(Args, description=__doc__)
    describe("cpu")
    print(f"pybullet {version('pybullet')}")
    env = PushEnv()
    env.reset(seed=0)  # loads what is loaded once
    policy = RandomPolicy(env.action_spec)
    resets, steps = Watch(), Watch()
    for seed in range(args.episodes):
        with resets.running():
            observation, _ = env.reset(seed=seed)
        truncated = False
        while not truncated:
            action = policy.act(observation[None])[0]
            with steps.running():
                observation, _, _, truncated, _ = env.step(action)
    env.close()
    frames = args.episodes * env.episode_frames
    for name in ("clock", "processor"):
        stepping, resetting = getattr(steps, name), getattr(resets, name)
        print(
            f"{name}: {frames / (stepping + resetting):.0f} frames/s with resets (bar: 60), "
            f"{stepping / frames * 1e3:.1f} ms a frame, {resetting / args.episodes * 1e3:.0f} ms a reset"
        )


if __name__ == "__main__":
    main()

"""Dream speed: env-steps/s by observation and batch, beside the matrix rate of the machine in the same run.

    python benchmarks/dream.py --model doom-hg --batches 1 8 64

`--model random` takes the default sizes with random weights. The share is the model's own products (counted by torch)
over what the machine multiplies in the dtype used; the rest is memory traffic, small operations, Python, and the resets
that a horizon brings.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
import tyro
from machine import describe, flops_of

from worldmodel.data import ActionSpec
from worldmodel.envs.dream_vector_env import DreamVectorEnv
from worldmodel.layers.precision import fast_dtype
from worldmodel.model import Starts, WorldModel, WorldModelConfig


@dataclass(frozen=True, kw_only=True)
class Args:
    model: str = "random"  # shipped name, folder, or "random"
    device: str = "cpu"
    batches: tuple[int, ...] = (1, 8, 64)
    obs: tuple[str, ...] = ("latent", "codes", "rgb")
    seconds: float = 3.0  # per measurement
    horizon: int = 32


def random_world(device: str) -> WorldModel:
    """The default sizes, random weights, four actions, 8 steps of context."""
    world = WorldModel(WorldModelConfig(action=ActionSpec(kind="discrete", n=4), signal_names=("HEALTH",)))
    tokenizer = world.tokenizer
    codes = torch.randint(tokenizer.num_codes, (32, 8, *tokenizer.grid, tokenizer.num_slices))
    world.starts = Starts(codes, torch.randint(4, (32, 7)), torch.zeros(32, 8, 1))
    return world.to(device).prepare()


def steps_per_second(envs: DreamVectorEnv, seconds: float) -> float:
    """Env-steps/s of all rows together, resets included."""
    rng = np.random.default_rng(0)
    actions = rng.integers(envs.single_action_space.n, size=(64, envs.num_envs))
    envs.reset(seed=0)
    for warm_up in range(3):
        envs.step(actions[warm_up])
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        envs.step(actions[steps % 64])
        steps += 1
    return steps * envs.num_envs / (time.perf_counter() - start)


def flops_per_step(envs: DreamVectorEnv, horizon: int) -> float:
    """Multiplications and additions of one row's step, mean over a horizon: observation and resets included."""
    envs.reset(seed=0)
    actions = np.zeros(envs.num_envs, np.int64)
    return flops_of(lambda: [envs.step(actions) for _ in range(horizon)]) / (horizon * envs.num_envs)


def main(args: Args) -> None:
    world = random_world(args.device) if args.model == "random" else WorldModel.from_pretrained(args.model, args.device)
    dtype = fast_dtype(args.device)
    rates = describe(args.device)
    print(f"model {args.model}, horizon {args.horizon}, products in {str(dtype).removeprefix('torch.')}\n")
    print("| obs | batch | env-steps/s | ms per step | MFLOP per env-step | share of matrix rate |")
    print("|---|---|---|---|---|---|")
    for obs in args.obs:
        for batch in args.batches:
            envs = DreamVectorEnv(batch, world, obs, horizon=args.horizon)
            flops, rate = flops_per_step(envs, args.horizon), steps_per_second(envs, args.seconds)
            share = flops * rate / rates[dtype]
            print(
                f"| {obs} | {batch} | {rate:.0f} | {1000 * batch / rate:.1f} | {flops / 1e6:.0f} | {share:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Args))

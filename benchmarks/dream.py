"""Dream speed: env-steps/s by observation, batch, order and dtype, and the machine's matrix rate in the same run.

    python benchmarks/dream.py --model doom-hg --batches 1 8 64 512

`--model random` takes the sizes of `--preset` with random weights. The share is the model's own products (counted by
torch) divided by the machine's matrix rate in the dtype used; the rest is memory traffic, small operations, Python, and
the resets that a horizon brings. A row is the median of five slices of time, each with its own measurement of the
matrix rate: the speed of a shared machine varies.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import sizes
import torch
import tyro
from machine import describe, flops_of, matrix_rate

import worldmodel  # noqa: F401 (registers the ids)
from worldmodel.data import ActionSpec
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.envs.ids import confirmed_id
from worldmodel.layers.precision import fast_dtype
from worldmodel.model import Starts, WorldModel, WorldModelConfig

SLICES = 5  # of a measurement


@dataclass(frozen=True, kw_only=True)
class Args:
    model: str = "random"  # shipped name, folder, or "random"
    preset: str = "doom-tiny"  # sizes of "random"
    device: str = "cpu"
    batches: tuple[int, ...] = (1, 8, 64, 512)
    obs: tuple[str, ...] = ("latent", "codes", "features", "rgb")
    seconds: float = 3.0  # per measurement
    horizon: int = 32
    other: bool = True  # also: raster order, float32, the thousandth step, the real game


def random_world(device: str, **sizes: Any) -> WorldModel:
    """Random weights, four actions, 8 steps of context; the default sizes, or others for parts of the config."""
    world = WorldModel(WorldModelConfig(action=ActionSpec(kind="discrete", n=4), signal_names=("HEALTH",), **sizes))
    tokenizer = world.tokenizer
    codes = torch.randint(tokenizer.num_codes, (32, 8, *tokenizer.grid, tokenizer.num_slices))
    world.starts = Starts(codes, torch.randint(4, (32, 7)), torch.zeros(32, 8, 1))
    return world.to(device).prepare()


def in_raster_order(world: WorldModel) -> WorldModel:
    """A world of the same sizes that draws one token after the other; its weights are random."""
    other = WorldModel(replace(world.config, dynamics=replace(world.config.dynamics, order="raster")))
    other.starts = world.starts
    return other.to(world.device).prepare()


def rate_of(step: Callable[[int], object], seconds: float) -> float:
    """Calls a second of `step(number)`, after a warm-up."""
    for number in range(3):
        step(number)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step(count)
        count += 1
    return count / (time.perf_counter() - start)


def slices(envs: DreamVectorEnv, seconds: float, dtype: torch.dtype, device: str) -> tuple[list[float], list[float]]:
    """Env-steps/s of all rows together, resets included, and FLOP/s of matrix products, in slices side by side."""
    actions = np.random.default_rng(0).integers(envs.single_action_space.n, size=(64, envs.num_envs))
    envs.reset(seed=0)
    rates, products = [], []
    for _ in range(SLICES):
        products.append(matrix_rate(dtype, device, repeats=4))
        rates.append(envs.num_envs * rate_of(lambda number: envs.step(actions[number % 64]), seconds / SLICES))
    return rates, products


def flops_per_step(envs: DreamVectorEnv, horizon: int) -> float:
    """Multiplications and additions of one row's step, mean over a horizon: observation and resets included."""
    envs.reset(seed=0)
    actions = np.zeros(envs.num_envs, np.int64)
    return flops_of(lambda: [envs.step(actions) for _ in range(horizon)]) / (horizon * envs.num_envs)


def late_over_early(world: WorldModel, rows: int = 64) -> float:
    """Median time of the steps 980 to 1,000 of an endless dream over that of its steps 1 to 20."""
    envs = DreamVectorEnv(rows, world, "latent")
    actions = np.zeros(rows, np.int64)
    envs.reset(seed=0)
    times = []
    for _ in range(1000):
        start = time.perf_counter()
        envs.step(actions)
        times.append(time.perf_counter() - start)
    return median(times[979:]) / median(times[:20])


def real_steps_per_second(env_id: str, seconds: float) -> float:
    """Random play of the real game in one process, its resets included."""
    env = gym.make(env_id)
    env.reset(seed=0)

    def step(_: int) -> None:
        *_, terminated, truncated, _info = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()

    rate = rate_of(step, seconds)
    env.close()
    return rate


def endless(world: WorldModel) -> WorldModel:
    """The world, whose dreams the termination head never ends any more."""
    world.heads.threshold.fill_(2.0)
    world.heads.end_shift.fill_(-torch.inf)  # where ends are drawn
    return world


def print_row(world: WorldModel, dtype: torch.dtype, obs: str, batch: int, args: Args, horizon: int | None) -> None:
    envs = DreamVectorEnv(batch, world, obs, horizon=horizon)
    flops = flops_per_step(envs, horizon or args.horizon)
    steps, products = slices(envs, args.seconds, dtype, args.device)
    share = median(flops * step / product for step, product in zip(steps, products, strict=True))
    rate, resets = median(steps), "none" if horizon is None else f"every {horizon} steps, and at ends"
    facts = (world.config.dynamics.order, str(dtype).removeprefix("torch."), obs, resets, batch)
    numbers = f"{rate:.0f} | {1000 * batch / rate:.1f} | {flops / 1e6:.0f} | {share:.0%}"
    print(f"| {' | '.join(map(str, facts))} | {numbers} |", flush=True)


def main(args: Args) -> None:
    random = args.model == "random"
    own: dict[str, Any] = {"tokenizer": sizes.coder(args.preset), "dynamics": sizes.prior(args.preset).model}
    load = lambda: (  # noqa: E731
        random_world(args.device, **own) if random else WorldModel.from_pretrained(args.model, args.device)
    )
    world, fast = load(), fast_dtype(args.device)
    describe(args.device)
    print(f"model {args.model}{f', {args.preset}' if random else ''}\n")
    columns = ("order", "products", "obs", "resets", "batch", "env-steps/s", "ms per step", "MFLOP per env-step")
    print(f"| {' | '.join(columns)} | share of matrix rate |")
    print("|---|---|---|---|---|---|---|---|---|")
    for batch in args.batches:
        print_row(endless(load()), fast, "latent", batch, args, None)
    for obs in args.obs:
        for batch in args.batches:
            print_row(world, fast, obs, batch, args, args.horizon)
    if not args.other:
        return
    raster = in_raster_order(world)
    for batch in args.batches[:4]:
        print_row(raster, fast, "latent", batch, args, args.horizon)
    if fast != torch.float32:
        for batch in args.batches:
            print_row(load().prepare(torch.float32), torch.float32, "latent", batch, args, args.horizon)
    late = late_over_early(endless(load()))
    print(f"\nsteps 980 to 1,000 take {late:.2f} of the time of steps 1 to 20 (latent, batch 64)")
    env_id = confirmed_id(world.config.env_id or "VideoGenReal-Doom", args.model)
    print(f"the real game, {env_id}: {real_steps_per_second(env_id, args.seconds):.0f} env-steps/s in one process")


if __name__ == "__main__":
    main(tyro.cli(Args))

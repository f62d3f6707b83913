"""Speed of the Latent Video Transformer: positions with and without cached keys and values, clips, training, dreams.

    OMP_NUM_THREADS=1 python benchmarks/subscale.py

At the paper's sizes: a position drawn with cached keys and values, compared with a pass of the whole decoder, which the
public code makes for every position; and seconds of a clip of 16 frames, 5 given. At the sizes of "lvt-small": the
share of the matrix rate in training; and dreams, compared with a raster GPT of as many codes a step and about as many
weights. The weights are random; decoding is not included.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
import tyro
from dream import endless, random_world, rate_of
from machine import describe, flops_of, matrix_rate, seconds_of

from worldmodel import tokenizer
from worldmodel.data import ActionSpec
from worldmodel.dynamics import GPTConfig, SubscaleTransformer, preset
from worldmodel.dynamics.sampling import Sampling, uniforms
from worldmodel.dynamics.subscale.pixel_pass import PixelPass
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.layers.precision import autocast
from worldmodel.model import CodeBatch, WorldModel, WorldModelConfig
from worldmodel.tokenizer import CodebookConfig, CodeLookup, VQVAEConfig
from worldmodel.training.optimizers import make_optimizers

ATTENTIONS = ("query-key", "key", "relative")
LOOKUP = CodeLookup(torch.zeros(1, 1, 1))  # not read by these dynamics


@dataclass(frozen=True, kw_only=True)
class Args:
    parts: tuple[str, ...] = ("positions", "clips", "training", "dreams", "endless")
    batches: tuple[int, ...] = (1, 8, 64)  # of dreams
    seconds: float = 5.0  # per measurement of training and dreams


def paper_net(attention: str) -> SubscaleTransformer:
    net = preset("lvt-paper", attention=attention).build(ActionSpec(kind="discrete", n=4))
    assert isinstance(net, SubscaleTransformer)
    for weight in net.code_head.to_logits.parameters():  # zeros would draw from equal codes
        torch.nn.init.normal_(weight, std=0.05)
    return net.eval().requires_grad_(False)


@torch.inference_mode()
def positions() -> None:
    print("\n| attention | batch | whole decoder, ms | one position with keys and values kept, ms | ratio |")
    print("|---|---|---|---|---|")
    for attention in ATTENTIONS:
        net = paper_net(attention)
        for rows in (1, 8):
            encoder, decoder, last = net._modulate(net.condition(rows, 1).steps)
            past = torch.randint(512, (rows, 3 * 256, 4))
            context = net.encoder(past, net.seen, torch.full((rows,), 8), encoder)
            codes = torch.randint(512, (rows, 1, 16, 16, 4))

            def whole() -> None:
                x = net.decoder(codes, context, decoder).flatten(2, 3)  # noqa: B023
                net.norm(x, last)  # noqa: B023

            def frame() -> None:
                pixels = PixelPass(net.decoder, net.norm, context, decoder, last)  # noqa: B023
                net._draw(pixels, torch.rand(rows, 256, 4), Sampling())  # noqa: B023

            whole()
            slow, fast = seconds_of(whole, 3), seconds_of(frame, 2) / 256
            print(f"| {attention} | {rows} | {1000 * slow:.0f} | {1000 * fast:.2f} | {slow / fast:.0f} |", flush=True)


@torch.inference_mode()
def clips() -> None:
    print("\n| attention | weights, M | seconds per clip of 16 frames, 5 given |\n|---|---|---|")
    for attention in ATTENTIONS:
        net = paper_net(attention)
        size = sum(parameter.numel() for parameter in net.parameters()) / 1e6

        def clip() -> None:
            codes = torch.randint(512, (1, 5, 256, 4))
            cache, _ = net.burn_in(codes, net.condition(1, 4), LOOKUP)  # noqa: B023
            last, seeds = codes[:, -1], torch.zeros(1, dtype=torch.int64)
            for frame in range(5, 16):
                noise = uniforms(seeds, torch.full_like(seeds, frame), net.noise_per_step)  # noqa: B023
                last = net.step(last, net.condition(1, 1), cache, noise, LOOKUP)[0].codes  # noqa: B023

        print(f"| {attention} | {size:.2f} | {seconds_of(clip, 1):.1f} |", flush=True)


def training(args: Args) -> None:
    world = WorldModel(
        WorldModelConfig(
            action=ActionSpec(kind="discrete", n=4),
            tokenizer=tokenizer.preset("lvt-small"),
            dynamics=preset("lvt-small").model,
            signal_names=("HEALTH",),
        )
    ).train()
    world.tokenizer.requires_grad_(False)
    rows, steps = 16, 4
    batch = CodeBatch(
        torch.randint(512, (rows, steps + 1, 8, 8, 4)),
        torch.randint(4, (rows, steps)),
        torch.randn(rows, steps),
        torch.zeros(rows, steps, dtype=torch.bool),
        torch.zeros(rows, steps + 1, 1),
        torch.ones(rows, steps, dtype=torch.bool),
    )
    optimizers = make_optimizers(world, 1e-3, 0.1, 0.98, world.dynamics.hidden_matrices())

    def through() -> None:
        with autocast("cpu", torch.float32):
            total = world.loss(batch).total
        world.zero_grad(set_to_none=True)
        total.backward()

    def step() -> None:
        through()
        torch.nn.utils.clip_grad_norm_(world.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()

    step()
    flops, times, rates = flops_of(through), [], []
    while sum(times) < args.seconds or len(times) < 5:
        rates.append(matrix_rate(torch.float32, "cpu", repeats=2))
        times.append(seconds_of(step, 1))
    shares = [flops / seconds / rate for seconds, rate in zip(times, rates, strict=True)]
    print(
        f"\ntraining lvt-small, {rows} segments of {steps} steps: {1000 * median(times):.0f} ms per step, "
        f"{flops / median(times) / 1e9:.0f} GFLOP/s, {median(shares):.0%} of the matrix rate"
    )


def worlds() -> dict[str, Callable[[], WorldModel]]:
    """lvt-small, and a GPT that draws the same 256 codes a step in raster order with about as many weights."""
    coder = VQVAEConfig(stage_widths=(32, 64, 128), codebook=CodebookConfig(num_slices=4, code_dim=64))
    gpt = GPTConfig(order="raster", layers=3)
    small = preset("lvt-small").model
    return {
        "lvt-small": lambda: drawing_world(tokenizer=tokenizer.preset("lvt-small"), dynamics=small),
        "raster GPT": lambda: drawing_world(tokenizer=coder, dynamics=gpt),
    }


def drawing_world(**sizes: Any) -> WorldModel:
    """Random weights, with logits that depend on the context.

    The logits of an untrained model are zeros. All drafts of speculative decoding would then be right.
    """
    world = random_world("cpu", **sizes)
    for weight in world.dynamics.code_head.to_logits.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return world.prepare(torch.float32)


def dreams(args: Args) -> None:
    print("\n| dynamics | weights, M | codes a step | batch | env-steps/s | ms per step |\n|---|---|---|---|---|---|")
    rates: dict[tuple[str, int], float] = {}
    for batch in args.batches:
        envs = {name: DreamVectorEnv(batch, endless(make()), "latent") for name, make in worlds().items()}
        actions, each = np.zeros(batch, np.int64), {name: [] for name in envs}
        for env in envs.values():
            env.reset(seed=0)
            for _ in range(10):  # the ring of the GPT is full
                env.step(actions)
        for _ in range(5):  # by turns, on a machine that is now faster, now slower
            for name, env in envs.items():
                each[name].append(batch * rate_of(lambda _, e=env, a=actions: e.step(a), args.seconds / 5))
        for name, env in envs.items():
            dynamics, rate = env.model.dynamics, median(each[name])
            size = sum(parameter.numel() for parameter in dynamics.parameters()) / 1e6
            codes = dynamics.tokens_per_step * dynamics.num_slices
            rates[name, batch] = rate
            print(f"| {name} | {size:.2f} | {codes} | {batch} | {rate:.1f} | {1000 * batch / rate:.1f} |", flush=True)
    for batch in args.batches:
        print(
            f"lvt-small over raster GPT at batch {batch}: {rates['lvt-small', batch] / rates['raster GPT', batch]:.2f}"
        )


def late(rows: int = 1) -> None:
    """Steps 980 to 1,000 of a dream in alternation with steps 20 to 40 of another."""
    old, young = (DreamVectorEnv(rows, endless(worlds()["lvt-small"]()), "latent") for _ in range(2))
    actions = np.zeros(rows, np.int64)
    for envs, steps in ((old, 980), (young, 20)):
        envs.reset(seed=0)
        for _ in range(steps):
            envs.step(actions)
    times: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(20):
        for index, envs in enumerate((old, young)):
            times[index].append(seconds_of(lambda envs=envs: envs.step(actions), 1))
    print(f"\nsteps 980 to 1,000 take {median(times[0]) / median(times[1]):.3f} of the time of steps 20 to 40")


def main(args: Args) -> None:
    describe("cpu")
    run = {
        "positions": positions,
        "clips": clips,
        "training": lambda: training(args),
        "dreams": lambda: dreams(args),
        "endless": late,
    }
    for part in args.parts:
        run[part]()


if __name__ == "__main__":
    main(tyro.cli(Args))

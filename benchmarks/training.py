"""Training speed: clips/s of the tokenizer and tokens/s of the dynamics, beside the matrix rate of the same run.

    python benchmarks/training.py --parts tokenizer dynamics

A step is what `worldmodel.training.loop` does: loss under autocast, backward, clipping, optimisers; the data is random
and drawn beforehand. FLOP are the model's own products, counted by torch in one forward and backward pass.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import tyro
from machine import describe
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from worldmodel.data import ActionSpec
from worldmodel.layers.precision import autocast, fast_dtype
from worldmodel.model import CodeBatch, WorldModel, WorldModelConfig
from worldmodel.tokenizer import VQVAE, VQVAEConfig
from worldmodel.training.loop import LoopConfig, make_optimizers
from worldmodel.training.train_dynamics import DynamicsTraining


@dataclass(frozen=True, kw_only=True)
class Args:
    parts: tuple[str, ...] = ("tokenizer", "dynamics")
    device: str = "cpu"
    dtypes: tuple[str, ...] = ("fast", "float32")  # of the products; "fast" is the device's own choice
    seconds: float = 10.0  # per measurement


def one_step(model: nn.Module, optimizers: list, loss: Callable[[], Tensor], device: str, dtype: torch.dtype) -> None:
    """What the training loop does with a batch."""
    with autocast(device, dtype):
        total = loss()
    model.zero_grad(set_to_none=True)
    total.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()


def measure(step: Callable[[], None], seconds: float, device: str) -> tuple[float, float]:
    """Steps per second, and FLOP per step."""
    step()  # data-dependent initialisation, allocation
    with FlopCounterMode(display=False) as counter:
        step()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step()
        steps += 1
        if device != "cpu":
            torch.cuda.synchronize()
    return steps / (time.perf_counter() - start), counter.get_total_flops()


def tokenizer_step(device: str, dtype: torch.dtype) -> tuple[Callable[[], None], int, str]:
    """A step of the default tokenizer; how much it trains on, and of what."""
    batch = 64
    config = VQVAEConfig()
    model = VQVAE(config).to(device).train()
    optimizers = make_optimizers(model, LoopConfig(steps=1, batch_size=batch))
    shape = (batch, 1, config.frames_per_step, config.height, config.width, config.channels)
    frames = torch.randint(256, shape, dtype=torch.uint8, device=device)
    step = lambda: one_step(model, optimizers, lambda: model.loss(frames).total, device, dtype)  # noqa: E731
    return step, batch, "steps of 2 frames"


def dynamics_step(device: str, dtype: torch.dtype) -> tuple[Callable[[], None], int, str]:
    """A step of the default dynamics with its heads."""
    training = DynamicsTraining()
    rows, steps = training.loop.batch_size, training.segment
    model = WorldModel(WorldModelConfig(action=ActionSpec(kind="discrete", n=4), signal_names=("HEALTH",)))
    model.tokenizer.requires_grad_(False)
    model = model.to(device).train()
    optimizers = make_optimizers(model, training.loop, model.dynamics.hidden_matrices())
    tokens = model.dynamics.tokens_per_step
    batch = CodeBatch(
        torch.randint(512, (rows, steps + 1, *model.tokenizer.grid, model.tokenizer.num_slices), device=device),
        torch.randint(4, (rows, steps), device=device),
        torch.randn(rows, steps, device=device),
        torch.zeros(rows, steps, dtype=torch.bool, device=device),
        torch.zeros(rows, steps + 1, 1, device=device),
        torch.ones(rows, steps, dtype=torch.bool, device=device),
    )
    step = lambda: one_step(model, optimizers, lambda: model.loss(batch).total, device, dtype)  # noqa: E731
    return step, rows * steps * tokens, "tokens"


def main(args: Args) -> None:
    rates = describe(args.device)
    print("\n| part | products | a second | MFLOP each | GFLOP/s | share of matrix rate |\n|---|---|---|---|---|---|")
    for part in args.parts:
        for name in args.dtypes:
            dtype = fast_dtype(args.device) if name == "fast" else getattr(torch, name)
            make = {"tokenizer": tokenizer_step, "dynamics": dynamics_step}[part]
            step, amount, unit = make(args.device, dtype)
            per_second, flops = measure(step, args.seconds, args.device)
            rate = flops * per_second
            print(
                f"| {part} | {str(dtype).removeprefix('torch.')} | {amount * per_second:,.0f} {unit} "
                f"| {flops / amount / 1e6:.1f} | {rate / 1e9:.0f} | {rate / rates[dtype]:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Args))

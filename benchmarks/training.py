"""Training speed: clips/s of tokenizers and tokens/s of priors, and the matrix rate of the same run.

    python benchmarks/training.py --tokenizers doom-small videogen-2x4x4 --priors doom-small videogen-paper

A step is what `worldmodel.training.fit` does: loss under autocast, backward, clipping, optimisers; the data is random
and drawn beforehand. FLOP are the model's own products in a forward and a backward pass, counted by torch; masked
products and those of the optimisers are not counted.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import sizes
import torch
import tyro
from machine import describe, flops_of
from torch import Tensor, nn

from worldmodel.data import ActionSpec
from worldmodel.dynamics import presets as priors
from worldmodel.layers.precision import autocast, fast_dtype
from worldmodel.model import CodeBatch, WorldModel, WorldModelConfig
from worldmodel.tokenizer import VQVAE, VQVAEConfig
from worldmodel.tokenizer import presets as tokenizers
from worldmodel.tokenizer.codebook import CodebookConfig
from worldmodel.training.optimizers import make_optimizers


@dataclass(frozen=True, kw_only=True)
class Args:
    tokenizers: tuple[str, ...] = ("doom-small", "videogen-2x4x4")  # presets
    priors: tuple[str, ...] = ("doom-small", "videogen-paper")  # presets
    device: str = "cpu"
    dtypes: tuple[str, ...] = ("fast", "float32")  # of the products; "fast" is the device's own choice
    frames: int = 128  # of a tokenizer's batch
    rows: int | None = None  # of a prior's batch; None: 8 sequences of 16 steps, or 2 clips
    muon: bool = True  # as by default in training; --no-muon: AdamW for everything
    seconds: float = 10.0  # per measurement


@dataclass(frozen=True)
class Job:
    """A model and its batch, ready for training steps."""

    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    loss: Callable[[], Tensor]
    amount: int  # of `unit` in a batch
    unit: str

    def step(self, dtype: torch.dtype, device: str) -> None:
        """What the training loop does with a batch."""
        self.pass_through(dtype, device)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()

    def pass_through(self, dtype: torch.dtype, device: str) -> None:
        """Forward and backward."""
        with autocast(device, dtype):
            total = self.loss()
        self.model.zero_grad(set_to_none=True)
        total.backward()


def measure(job: Job, dtype: torch.dtype, device: str, seconds: float) -> tuple[float, float]:
    """Seconds per step, best of those that fit into `seconds`, at least three; and FLOP per step."""
    job.step(dtype, device)  # data-dependent initialisation, allocation
    flops = flops_of(lambda: job.pass_through(dtype, device))
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        job.step(dtype, device)
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times), flops


def tokenizer_job(name: str, args: Args) -> Job:
    config = tokenizers.preset(name)
    pieces = max(1, args.frames // (config.piece_steps * config.frames_per_step))
    model = VQVAE(config).to(args.device).train()
    optimizers = make_optimizers(model, 1e-3, 0.01, 0.98, model.hidden_weights() if args.muon else ())
    shape = (pieces, config.piece_steps, config.frames_per_step, config.height, config.width, config.channels)
    frames = torch.randint(256, shape, dtype=torch.uint8, device=args.device)
    unit = "steps" if config.temporal == "step" else "clips"
    return Job(model, optimizers, lambda: model.loss(frames).total, pieces, f"{unit} of {shape[1] * shape[2]} frames")


def prior_job(name: str, args: Args) -> Job:
    chosen = sizes.prior(name)
    steps, *grid = chosen.latents
    rows = args.rows or (8 if chosen.model.order == "block" else 2)
    model = WorldModel(
        WorldModelConfig(
            action=ActionSpec(kind="discrete", n=4),
            tokenizer=_coder(chosen),
            dynamics=chosen.model,
            signal_names=("HEALTH",),
        )
    )
    model.tokenizer.requires_grad_(False)
    model = model.to(args.device).train()
    optimizers = make_optimizers(model, 1e-3, 0.1, 0.98, model.dynamics.hidden_matrices() if args.muon else ())
    # A learned start predicts the first step too.
    given, frame_steps = steps - chosen.model.lead, chosen.model.frame_condition
    coder = model.config.tokenizer
    frame_shape = (rows, frame_steps, coder.frames_per_step, coder.height, coder.width, coder.channels)
    batch = CodeBatch(
        torch.randint(chosen.num_codes, (rows, given + 1, *grid, chosen.num_slices)),
        torch.randint(4, (rows, given)),
        torch.randn(rows, given),
        torch.zeros(rows, given, dtype=torch.bool),
        torch.zeros(rows, given + 1, 1),
        torch.ones(rows, given, dtype=torch.bool),
        torch.randint(256, frame_shape, dtype=torch.uint8) if frame_steps else None,
    ).to(torch.device(args.device))
    return Job(model, optimizers, lambda: model.loss(batch).total, rows * steps * grid[0] * grid[1], "tokens")


def _coder(chosen: priors.Preset) -> VQVAEConfig:
    """A narrow tokenizer that makes such codes; it only looks up their vectors here."""
    steps, height, width = chosen.latents
    stages = (64 // height).bit_length() - 1
    temporal = "step" if chosen.model.order == "block" else "clip"
    book = CodebookConfig(
        num_codes=chosen.num_codes, num_slices=chosen.num_slices, code_dim=chosen.code_dim // chosen.num_slices
    )
    return VQVAEConfig(
        temporal=temporal,
        stage_widths=(24,) * stages,
        height=64,
        width=64 * width // height,
        residual_units=24,
        residual_layers=1,
        clip_steps=steps,
        codebook=book,
    )


def main(args: Args) -> None:
    rates = describe(args.device)
    print("\n| part | products | a second | MFLOP each | GFLOP/s | share of matrix rate |\n|---|---|---|---|---|---|")
    jobs = [("tokenizer", name, tokenizer_job) for name in args.tokenizers]
    jobs += [("prior", name, prior_job) for name in args.priors]
    for part, preset, make in jobs:
        for name in args.dtypes:
            dtype = fast_dtype(args.device) if name == "fast" else getattr(torch, name)
            job = make(preset, args)
            seconds, flops = measure(job, dtype, args.device, args.seconds)
            rate, share = job.amount / seconds, flops / seconds / rates[dtype]
            size = sum(p.numel() for p in job.model.parameters() if p.requires_grad) / 1e6
            print(
                f"| {part} {preset}, {size:.1f} M | {str(dtype).removeprefix('torch.')} "
                f"| {rate:,.{2 if rate < 10 else 0}f} {job.unit} "
                f"| {flops / job.amount / 1e6:,.1f} | {flops / seconds / 1e9:.0f} | {share:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Args))

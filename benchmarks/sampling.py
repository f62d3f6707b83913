"""Sampling speed: tokens/s of priors with and without a cache, in raster and in block order, by batch.

    python benchmarks/sampling.py --preset videogen-paper --batches 1 8 64

Cached raster: a whole clip from the learned start, one token after the other. Uncached: what each token costs when the
sequence before it is run anew, measured on a few lengths spread over the clip. Block: whole steps at once, in a model
of the same sizes whose order alone differs. The weights are random; drawing is included, decoding is not.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import tyro
from machine import describe, flops_of
from torch import Tensor

from worldmodel.data import ActionSpec
from worldmodel.dynamics import GPT
from worldmodel.dynamics.presets import Preset, preset
from worldmodel.dynamics.sampling import Sampling, uniforms
from worldmodel.layers.precision import cast_products, fast_dtype
from worldmodel.tokenizer.codebook import CodebookConfig, SlicedCodebook


@dataclass(frozen=True, kw_only=True)
class Args:
    preset: str = "videogen-paper"
    batches: tuple[int, ...] = (1, 8, 64)
    device: str = "cpu"
    dtype: str = "fast"
    tokens: int | None = None  # of the cached raster run, from the first on; None: all of the clip
    uncached_lengths: int = 4  # measured lengths of the uncached sequence, spread evenly over the clip
    uncached_batch: int = 1  # rows of the uncached run
    seconds: float = 5.0  # per measurement of block order


def build(chosen: Preset, order: str, dtype: torch.dtype, device: str) -> GPT:
    """Random weights; the order's own needs aside, the same sizes."""
    model = replace(chosen.model, order=order, refine=0, learn_start=order == "block")
    gpt = replace(chosen, model=model).build(ActionSpec(kind="discrete", n=4)).to(device)
    for weight in gpt.code_head.to_logits.parameters():  # zeros would draw from equal codes
        torch.nn.init.normal_(weight, std=0.05)
    cast_products(gpt, dtype)
    return gpt.eval().requires_grad_(False)


class Sampler:
    """Steps of one GPT, drawn from nothing."""

    def __init__(self, gpt: GPT, chosen: Preset, rows: int, device: str) -> None:
        self.gpt, self.rows, self.steps = gpt, rows, chosen.latents[0]
        self.codes = torch.zeros(rows, gpt.tokens_per_step, chosen.num_slices, dtype=torch.int64, device=device)
        book = CodebookConfig(
            num_codes=chosen.num_codes,
            num_slices=chosen.num_slices,
            code_dim=chosen.code_dim // chosen.num_slices,
        )
        self.lookup = SlicedCodebook(book).to(device).lookup
        self.seeds = torch.arange(rows, device=device)

    def begin(self):
        """An empty cache."""
        nothing = self.lookup(self.codes[:, None][:, :0])
        return self.gpt.burn_in(nothing, self.gpt.condition(self.rows, 0))

    def step(self, cache, counter: int) -> None:
        noise = uniforms(self.seeds, torch.full_like(self.seeds, counter), self.gpt.noise_per_step)
        condition = self.gpt.condition(self.rows, 1)
        drawn, _ = self.gpt.step(self.codes, condition, cache, noise, self.lookup, Sampling())
        self.codes = drawn.codes

    def clip(self, steps: int) -> None:
        cache = self.begin()
        for counter in range(steps):
            self.step(cache, counter)


def seconds_of(run: Callable[[], object], device: str, repeats: int = 2) -> float:
    """Best of a few."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


@torch.inference_mode()
def uncached_seconds(gpt: GPT, chosen: Preset, rows: int, lengths: int, device: str) -> float:
    """Seconds for a clip if every token runs the sequence before it anew: mean over some lengths, times all tokens."""
    total = chosen.latents[0] * gpt.tokens_per_step
    times = []
    for place in range(lengths):
        steps = max(1, round((place + 0.5) / lengths * chosen.latents[0]))
        vectors = torch.randn(rows, steps, gpt.tokens_per_step, chosen.code_dim, device=device)

        def run(vectors: Tensor = vectors) -> Tensor:
            outputs, _ = gpt._run(gpt._inputs(vectors), gpt.condition(rows, vectors.shape[1]), first=0)
            return gpt.code_head.logits(outputs[:, -1, -1], outputs.new_zeros(rows, 1, dtype=torch.int64), 0)

        times.append(seconds_of(run, device))
    return total * sum(times) / len(times)


@torch.inference_mode()
def main(args: Args) -> None:
    dtype = fast_dtype(args.device) if args.dtype == "fast" else getattr(torch, args.dtype)
    rates = describe(args.device)
    chosen = preset(args.preset)
    raster, block = (build(chosen, order, dtype, args.device) for order in ("raster", "block"))
    size, tokens = sum(p.numel() for p in raster.parameters()) / 1e6, raster.tokens_per_step
    steps = chosen.latents[0]
    print(
        f"{args.preset}: {size:.1f} M weights in {str(dtype).removeprefix('torch.')}, {steps} steps of {tokens} tokens"
    )
    print("\n| order | batch | tokens/s | env-steps/s | ms per token or step | share of matrix rate |")
    print("|---|---|---|---|---|---|")
    measured: dict[tuple[str, int], float] = {}
    for rows in args.batches:
        for name, gpt in (("raster", raster), ("block", block)):
            sampler = Sampler(gpt, chosen, rows, args.device)
            if name == "raster":
                count = steps if args.tokens is None else -(-args.tokens // tokens)
                sampler.clip(1)
                seconds = seconds_of(lambda s=sampler, n=count: s.clip(n), args.device, repeats=1) / count
                flops = flops_of(lambda s=sampler, n=count: s.clip(n)) / count
            else:
                sampler.clip(steps)
                begin, done = time.perf_counter(), 0
                while time.perf_counter() - begin < args.seconds:
                    seconds_of(lambda s=sampler: s.clip(steps), args.device, repeats=1)
                    done += steps
                seconds = (time.perf_counter() - begin) / done
                flops = flops_of(lambda s=sampler: s.clip(steps)) / steps
            measured[name, rows] = seconds
            each = seconds / tokens if name == "raster" else seconds
            print(
                f"| {name} | {rows} | {rows * tokens / seconds:,.0f} | {rows / seconds:,.2f} | {1000 * each:,.2f} "
                f"| {flops / seconds / rates[dtype]:.1%} |",
                flush=True,
            )
    for rows in args.batches:
        print(f"block over raster at batch {rows}: {measured['raster', rows] / measured['block', rows]:.1f} x")
    if args.uncached_lengths:
        rows = args.uncached_batch
        whole = uncached_seconds(raster, chosen, rows, args.uncached_lengths, args.device)
        cached = measured["raster", rows] * steps if ("raster", rows) in measured else float("nan")
        print(
            f"uncached raster at batch {rows}: {whole:,.0f} s a clip, cached {cached:,.1f} s: {whole / cached:,.0f} x"
        )


if __name__ == "__main__":
    main(tyro.cli(Args))

"""Sampling speed: tokens/s of priors with and without a cache, in raster and in block order, by batch.

    python benchmarks/sampling.py --preset videogen-paper --batches 1 8 64

Raster: one step at each of `--places` spread over the clip, with a cache; and one token by a pass of the whole sequence
before it. Block: whole clips in a model that differs in its order alone. The weights are random, so drafts are never
right (`benchmarks/drafts.py` measures trained worlds); drawing is included, decoding is not. Attention by NumPy is
missing in the share of the matrix rate.
"""

from dataclasses import dataclass, replace

import torch
import tyro
from machine import describe, flops_of, seconds_of
from sizes import prior
from torch import Tensor

from worldmodel.data import ActionSpec
from worldmodel.dynamics import GPT
from worldmodel.dynamics.presets import Preset
from worldmodel.dynamics.sampling import Sampling, uniforms
from worldmodel.layers.attention import KVCache
from worldmodel.layers.precision import cast_matmuls, fast_dtype
from worldmodel.tokenizer.codebook import CodebookConfig, SlicedCodebook


@dataclass(frozen=True, kw_only=True)
class Args:
    preset: str = "videogen-paper"  # or "ten-layers" (module sizes)
    batches: tuple[int, ...] = (1, 8, 64)
    device: str = "cpu"
    dtype: str = "fast"
    places: int = 4  # steps of the clip at which raster order is measured
    uncached: bool = True  # at the first batch; a whole sequence for every token
    seconds: float = 5.0  # per measurement of block order


def build(chosen: Preset, order: str, dtype: torch.dtype, device: str) -> GPT:
    """Random weights; the order's own needs aside, the same sizes."""
    model = replace(chosen.model, order=order, refine=0, learn_start=order == "block")
    gpt = replace(chosen, model=model).build(ActionSpec(kind="discrete", n=4)).to(device)
    for weight in gpt.code_head.to_logits.parameters():  # zeros would draw from equal codes
        torch.nn.init.normal_(weight, std=0.05)
    cast_matmuls(gpt, dtype)
    return gpt.eval().requires_grad_(False)


class Sampler:
    """Steps of one GPT."""

    def __init__(self, gpt: GPT, chosen: Preset, rows: int, device: str) -> None:
        self.gpt, self.rows, self.chosen, self.device = gpt, rows, chosen, device
        book = CodebookConfig(
            num_codes=chosen.num_codes,
            num_slices=chosen.num_slices,
            code_dim=chosen.code_dim // chosen.num_slices,
        )
        self.lookup = SlicedCodebook(book).to(device).lookup
        self.seeds = torch.arange(rows, device=device)

    def given(self, steps: int) -> Tensor:
        """Random codes (B, steps, S, M)."""
        shape = (self.rows, steps, self.gpt.tokens_per_step, self.chosen.num_slices)
        return torch.randint(self.chosen.num_codes, shape, device=self.device)

    def begin(self, codes: Tensor) -> KVCache:
        """The cache after given steps."""
        inputs = codes.shape[1] - 1 + self.gpt.config.lead
        return self.gpt.burn_in(codes, self.gpt.condition(self.rows, inputs), self.lookup)[0]

    def clip(self) -> None:
        """Block order: a whole clip from nothing."""
        cache, last = self.begin(self.given(0)), self.given(1)[:, 0]
        for counter in range(self.chosen.latents[0]):
            noise = uniforms(self.seeds, torch.full_like(self.seeds, counter), self.gpt.noise_per_step)
            last = self.gpt.step(last, self.gpt.condition(self.rows, 1), cache, noise, self.lookup, Sampling())[0].codes

    def step(self, cache: KVCache) -> None:
        """Raster order: the step at the cache's clock, which stays there."""
        cache = KVCache(cache.keys, cache.values, cache.lengths.clone(), cache.clock, cache.shortest)
        noise = uniforms(self.seeds, torch.zeros_like(self.seeds), self.gpt.noise_per_step)
        self.gpt.step(self.given(1)[:, 0], self.gpt.condition(self.rows, 1), cache, noise, self.lookup, Sampling())

    def uncached(self, codes: Tensor) -> Tensor:
        """Raster order without a cache: the logits of one token after given steps."""
        inputs = self.gpt._inputs(codes, lambda part: self.gpt._content_of_codes(part, self.lookup))
        outputs, _ = self.gpt._run(inputs, self.gpt.condition(self.rows, codes.shape[1]))
        return self.gpt.code_head.logits(outputs[:, -1, -1], codes[:, -1, -1], 0)


@torch.inference_mode()
def main(args: Args) -> None:
    dtype = fast_dtype(args.device) if args.dtype == "fast" else getattr(torch, args.dtype)
    rates = describe(args.device)
    chosen = prior(args.preset)
    raster, block = (build(chosen, order, dtype, args.device) for order in ("raster", "block"))
    size, tokens = sum(p.numel() for p in raster.parameters()) / 1e6, raster.tokens_per_step
    steps = chosen.latents[0]
    print(
        f"{args.preset}: {size:.1f} M weights in {str(dtype).removeprefix('torch.')}, {steps} steps of {tokens} tokens"
    )
    print("\n| order | batch | tokens/s | env-steps/s | ms per token or step | share of matrix rate |")
    print("|---|---|---|---|---|---|")
    places = [round((place + 0.5) / args.places * steps - 0.5) for place in range(args.places)]
    measured: dict[tuple[str, int], float] = {}  # seconds of a step
    for rows in args.batches:
        sampler = Sampler(raster, chosen, rows, args.device)
        caches = [sampler.begin(sampler.given(place)) for place in places]
        sampler.step(caches[0])
        each = [seconds_of(lambda s=sampler, c=cache: s.step(c), 2, args.device) for cache in caches]
        flops = sum(flops_of(lambda s=sampler, c=cache: s.step(c)) for cache in caches) / sum(each)
        measured["raster", rows] = sum(each) / len(each)
        row("raster", rows, measured["raster", rows], tokens, flops / rates[dtype])
        by_place = [f"{p}: {1000 * t / tokens:.1f} ms" for p, t in zip(places, each, strict=True)]
        print(f"  a token at step {', '.join(by_place)}")
        sampler = Sampler(block, chosen, rows, args.device)
        sampler.clip()
        whole = seconds_of(
            sampler.clip, max(1, int(args.seconds / seconds_of(sampler.clip, 1, args.device))), args.device
        )
        measured["block", rows] = whole / steps
        row("block", rows, whole / steps, tokens, flops_of(sampler.clip) / whole / rates[dtype])
    for rows in args.batches:
        print(f"block over raster at batch {rows}: {measured['raster', rows] / measured['block', rows]:.1f} x")
    if args.uncached:
        rows = args.batches[0]
        sampler = Sampler(raster, chosen, rows, args.device)
        each = [seconds_of(lambda n=n, s=sampler: s.uncached(s.given(n + 1)), 2, args.device) for n in places]
        plain, cached = sum(each) / len(each), measured["raster", rows] / tokens
        print(f"a token at batch {rows}: {plain:.3f} s without a cache, {cached:.4f} s with it: {plain / cached:.0f} x")


def row(order: str, rows: int, seconds: float, tokens: int, share: float) -> None:
    """One line of the table, from the seconds of a step."""
    each = 1000 * seconds / (tokens if order == "raster" else 1)
    rates = f"{rows * tokens / seconds:,.0f} | {rows / seconds:,.2f}"
    print(f"| {order} | {rows} | {rates} | {each:,.2f} | {share:.1%} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args))

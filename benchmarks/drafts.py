"""Speculative decoding in raster order: env-steps/s with and without drafts, tokens per pass, and acceptance by kind.

    python benchmarks/drafts.py --world runs/raster/best --batches 1 8 32

Alternates between passes of as many tokens as pay off and passes of one token of each row, which draw the same codes.
Each dream begins from one given step of the world; actions are random and held for four steps on average. Without
`--world` the weights are random, so that a draft is hardly ever right.
"""

import statistics
import time
from dataclasses import dataclass

import torch
import tyro
from machine import describe
from sampling import build
from sizes import prior
from torch import Tensor

from worldmodel import WorldModel
from worldmodel.dynamics import GPT, Sampling
from worldmodel.dynamics.gpt.raster.drafts import DraftMemory
from worldmodel.dynamics.sampling import uniforms
from worldmodel.tokenizer.codebook import CodebookConfig, CodeLookup, SlicedCodebook


@dataclass(frozen=True, kw_only=True)
class Args:
    world: str | None = None  # folder of a world in raster order
    preset: str = "ten-layers"  # of random weights (module sizes)
    batches: tuple[int, ...] = (1, 8, 32)
    dreams: int = 3  # per batch
    steps: int = 19  # per dream
    temperature: float = 1.0


class Counting(DraftMemory):
    """Counts passes and verified drafts."""

    def __init__(self, several: bool) -> None:
        super().__init__()
        self.several, self.row_passes = several, 0
        self.verified = [[0, 0] for _ in self.rates]  # by kind: drafts, and how many were accepted

    def pass_length(self, rows: int) -> int:
        self.row_passes += rows
        return super().pass_length(rows) if self.several else 1

    def update(self, kind: int, accepted: bool) -> None:
        super().update(kind, accepted)
        self.verified[kind][0] += 1
        self.verified[kind][1] += accepted


class Dream:
    """Steps of one batch of dreams."""

    def __init__(self, gpt: GPT, lookup: CodeLookup, first: Tensor, rates: Counting, temperature: float) -> None:
        self.gpt, self.lookup, self.rates, self.rows = gpt, lookup, rates, len(first)
        self.options, self.now = Sampling(temperature=temperature), 0
        self.generator = torch.Generator().manual_seed(0)
        self.actions = self._random_actions()
        self.last = first
        self.cache, _ = gpt.burn_in(first[:, None], gpt.condition(self.rows, gpt.config.lead), lookup)

    def _random_actions(self) -> Tensor:
        return torch.randint(self.gpt.action.spec.n, (self.rows, 1), generator=self.generator)

    def step(self) -> float:
        """Seconds of one step."""
        change = torch.rand(self.rows, 1, generator=self.generator) < 0.25
        self.actions = torch.where(change, self._random_actions(), self.actions)
        noise = uniforms(torch.arange(self.rows), torch.full((self.rows,), self.now), self.gpt.noise_per_step)
        self.gpt.drafts = self.rates
        start = time.perf_counter()
        condition = self.gpt.condition(self.rows, 1, self.actions)
        drawn, _ = self.gpt.step(self.last, condition, self.cache, noise, self.lookup, self.options)
        self.last, self.now = drawn.codes, self.now + 1
        return time.perf_counter() - start


def load(args: Args) -> tuple[GPT, CodeLookup, Tensor]:
    """Dynamics, codes' vectors, and steps (n, S, M) to begin from."""
    if args.world is not None:
        world = WorldModel.from_pretrained(args.world, "cpu")
        if world.config.dynamics.order != "raster":
            raise ValueError(f"{args.world} is in block order; give a world trained with --model.order raster")
        return world.dynamics, world.tokenizer.codebook.lookup, world.starts.codes[:, -1].flatten(1, 2).long()
    chosen = prior(args.preset)
    gpt = build(chosen, "raster", torch.float32, "cpu")
    for weight in gpt.code_head.to_logits.parameters():
        torch.nn.init.normal_(weight, std=0.3)  # at first all codes are equally likely, which drafts foresee
    book = CodebookConfig(
        num_codes=chosen.num_codes, num_slices=chosen.num_slices, code_dim=chosen.code_dim // chosen.num_slices
    )
    starts = torch.randint(chosen.num_codes, (64, gpt.tokens_per_step, chosen.num_slices))
    return gpt, SlicedCodebook(book).lookup, starts


@torch.inference_mode()
def main(args: Args) -> None:
    describe("cpu")
    torch.manual_seed(0)
    gpt, lookup, starts = load(args)
    print(f"{sum(p.numel() for p in gpt.parameters()) / 1e6:.2f} M weights, {gpt.tokens_per_step} tokens a step\n")
    print("| batch | env-steps/s with drafts | one token per pass | gain | tokens per pass of a row |")
    print("|---|---|---|---|---|")
    for rows in args.batches:
        both = Counting(several=True), Counting(several=False)
        seconds: tuple[list[float], list[float]] = [], []
        for number in range(args.dreams):
            first = starts[torch.randint(len(starts), (rows,), generator=torch.Generator().manual_seed(number))]
            dreams = [Dream(gpt, lookup, first, rates, args.temperature) for rates in both]
            for _ in range(args.steps):
                for dream, took in zip(dreams, seconds, strict=True):
                    took.append(dream.step())
                assert torch.equal(dreams[0].last, dreams[1].last), "drafts changed what is drawn"
        rates = [rows / statistics.median(took) for took in seconds]
        tokens = rows * args.dreams * args.steps * gpt.tokens_per_step / both[0].row_passes
        print(f"| {rows} | {rates[0]:.1f} | {rates[1]:.1f} | {rates[0] / rates[1]:.2f} | {tokens:.2f} |", flush=True)
        shares = [f"{accepted / drafts:.2f} of {drafts}" for drafts, accepted in both[0].verified if drafts]
        print(f"  accepted by kind: {', '.join(shares)}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args))

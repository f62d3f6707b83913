"""A step drawn with drafts is, bit for bit, the step drawn one token at a time.

Letters: B rows, S tokens per step, M slices, T steps.
"""

from functools import cache

import pytest
import torch

from tests.dynamics.gpt.raster.test_token_pass import KINDS
from worldmodel.data import ActionSpec
from worldmodel.dynamics import GPT, GPTConfig, Sampling
from worldmodel.dynamics.gpt.raster.drafts import DraftMemory
from worldmodel.dynamics.sampling import uniforms
from worldmodel.layers.precision import cast_matmuls
from worldmodel.tokenizer import CodebookConfig
from worldmodel.tokenizer.codebook import SlicedCodebook

S, V = 8, 128


def make(slices: int = 1, **config) -> tuple[GPT, SlicedCodebook]:
    """Random weights, large enough for matmuls whose rows do not depend on each other."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"order": "raster", "layers": 2, "width": 128, "heads": 2, "window": 4, "code_head_width": 128}
        action = ActionSpec(kind="discrete", n=3)
        gpt = GPT(GPTConfig(**sizes | config), (2, 4), V, slices, 8 * slices, action)
        for weight in gpt.code_head.to_logits.parameters():
            torch.nn.init.normal_(weight, std=0.1)
        book = SlicedCodebook(CodebookConfig(num_codes=V, num_slices=slices, code_dim=8))
    return gpt.eval().requires_grad_(False), book


def play(rows: int, steps: int, slices: int = 1, seed: int = 0) -> torch.Tensor:
    """Codes (B, T, S, M): every position has a most frequent code."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(V, (rows, steps, S, slices), generator=generator)
    usual = (5 * torch.arange(S) % V)[:, None].expand(S, slices)
    return torch.where(torch.rand(codes.shape, generator=generator) < 0.9, usual, codes)


@cache
def trained() -> tuple[GPT, SlicedCodebook]:
    """Trained to know the most frequent code of each position."""
    gpt, book = make()
    gpt.requires_grad_(True)
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=3e-3)
    for step in range(40):
        codes = play(8, 3, seed=step)
        loss = gpt.code_head.loss(gpt(book.lookup(codes)), codes[:, 1:]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return gpt.requires_grad_(False), book


class Counted(DraftMemory):
    """Counts passes, of a fixed number of tokens per row if one is given."""

    def __init__(self, length: int | None = None) -> None:
        super().__init__()
        self.length, self.passes = length, 0

    def pass_length(self, rows):
        self.passes += 1
        return super().pass_length(rows) if self.length is None else self.length


def dream(gpt, book, rates, rows=3, steps=3, context=2, options=None, given=None):
    """Codes, nll, entropy and outputs of every step, then the caches."""
    gpt.drafts = rates
    options = options or Sampling()
    times, begin = 2 if options.guided else 1, play(3, context, gpt.num_slices, seed=7)[:rows]
    seen = []
    with torch.inference_mode():
        condition = gpt.condition(times * rows, context - 1 + gpt.config.lead)
        cache, _ = gpt.burn_in(begin.repeat(times, 1, 1, 1), condition, book.lookup)
        last = begin[:, -1] if context else torch.zeros(rows, S, gpt.num_slices, dtype=torch.int64)
        for now in range(steps):
            noise = uniforms(torch.arange(rows), torch.full((rows,), now), gpt.noise_per_step)
            condition = gpt.condition(times * rows, 1, (torch.arange(times * rows) + now)[:, None] % 3)
            came = None if given is None else given[now]
            drawn, outputs = gpt.step(last.repeat(times, 1, 1), condition, cache, noise, book.lookup, options, came)
            last = drawn.codes
            seen += [*drawn, outputs]
    return [*seen, *cache.keys, *cache.values]


def assert_same(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize(("rows", "length"), [(1, 2), (3, 3), (3, S)])
@pytest.mark.parametrize("world", [make, trained, lambda: make(slices=2)], ids=["random", "trained", "slices"])
def test_drafts_change_no_bit(world, rows, length):
    one, many = Counted(1), Counted(length)
    assert_same(dream(*world(), many, rows, context=5), dream(*world(), one, rows, context=5))
    assert many.passes <= one.passes == 3 * S


def test_good_drafts_save_passes():
    rates = Counted()
    dream(*trained(), rates, rows=1, steps=8)
    rates.passes = 0
    dream(*trained(), rates, rows=1, steps=8)
    assert 8 <= rates.passes <= 8 * 6


def test_a_step_drawn_from_the_distributions_of_the_last_is_foreseen():
    gpt, book = make()
    for weight in gpt.code_head.to_logits.parameters():
        torch.nn.init.zeros_(weight)  # every code is equally likely, in every step
    memory = Counted(S)
    dream(gpt, book, memory, rows=1, steps=6)
    assert memory.passes == 7  # two in the first step, then one each


@pytest.mark.parametrize("kind", [KINDS["learned positions"], KINDS["frames"], {"position": "none"}], ids=str)
@pytest.mark.parametrize("context", [0, 2])
def test_positions_frames_and_learned_starts_change_no_bit(kind, context):
    kind = {name: value for name, value in kind.items() if name != "width"} | {"window": 8, "width": 144}
    world = make(**kind)
    assert_same(dream(*world, Counted(4), context=context), dream(*world, Counted(1), context=context))


@pytest.mark.parametrize(
    "options", [Sampling(guidance=1.5), Sampling(temperature=0), Sampling(temperature=0.7, top_p=0.9)], ids=str
)
def test_guidance_and_temperature_change_no_bit(options):
    world = make(drop_actions=0.5)
    assert_same(dream(*world, Counted(3), options=options), dream(*world, Counted(1), options=options))


def test_a_row_does_not_depend_on_those_beside_it():
    together, alone = dream(*trained(), Counted(), rows=3), dream(*trained(), Counted(), rows=1)
    assert_same([part[:1] for part in together], alone)


def test_a_given_step_is_scored_as_it_was_drawn_without_drafts():
    drawn, rates = dream(*trained(), Counted(1)), Counted()
    scored = dream(*trained(), rates, given=drawn[: 3 * 4 : 4])
    for mine, other in zip(scored, drawn, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)  # nll by another formula
    assert not rates.passes


@torch.inference_mode()
def test_where_it_is_not_exact_single_tokens_are_drawn(monkeypatch):
    ours, rates = dream(*trained(), Counted()), Counted()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    for mine, other in zip(ours, dream(*trained(), rates), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)
    assert not rates.passes
    monkeypatch.undo()
    assert make()[0]._speculates()
    for changes in (
        {"width": 96, "code_head_width": 96},
        {"attention": "axial", "layers": 3, "width": 192},
        {"echo": True},
    ):
        assert not make(**changes)[0]._speculates()
    assert not cast_to_bfloat16(make()[0])._speculates()


def cast_to_bfloat16(gpt: GPT) -> GPT:
    cast_matmuls(gpt, torch.bfloat16)
    return gpt

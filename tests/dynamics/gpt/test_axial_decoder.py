"""Axial attention in raster order sees all that comes before a token. Letters: T steps, S tokens per step, M slices."""

import pytest
import torch

from worldmodel.data import ActionSpec
from worldmodel.dynamics import GPTConfig
from worldmodel.dynamics.gpt.gpt import GPT
from worldmodel.dynamics.sampling import Sampling
from worldmodel.tokenizer import CodeLookup

GRID, T, V = (3, 4), 3, 6
S = GRID[0] * GRID[1]
LOOKUP = CodeLookup(torch.randn(1, V, 5, generator=torch.Generator().manual_seed(1)))


def make_gpt(**changes) -> GPT:
    options = {"order": "raster", "attention": "axial", "layers": 8, "width": 24, "heads": 2, "window": T + 1}
    config = GPTConfig(**options | {"action_condition": "none"} | changes)
    torch.manual_seed(0)
    gpt = GPT(config, GRID, V, 1, 5, ActionSpec(kind="discrete", n=2)).eval().requires_grad_(False)
    for weight in gpt.code_head.to_logits.parameters():
        torch.nn.init.normal_(weight)
    return gpt


@torch.inference_mode()
def moved(gpt: GPT) -> torch.Tensor:
    """Which outputs a changed token moves, (T*S tokens, T*S outputs) bool, both in raster order."""
    codes = torch.randint(V, (1, T, S, 1), generator=torch.Generator().manual_seed(0))
    versions = codes.repeat(T * S + 1, 1, 1, 1)
    flat = versions.flatten(1, 2)
    flat[range(T * S), range(T * S)] += 1
    out = gpt(LOOKUP(versions % V), first=True).flatten(1, 2)
    return (out[:-1] - out[-1]).abs().amax(-1) > 0


def test_a_token_is_predicted_from_every_token_before_it_and_no_other():
    before = torch.ones(T * S, T * S, dtype=torch.bool).triu(1)  # changed token in the rows
    assert torch.equal(moved(make_gpt()), before)


def test_a_quarter_of_the_layers_reads_the_rows_above_and_a_quarter_the_row():
    assert GPTConfig(order="raster", attention="axial", layers=16).axial_layers == (8, 4, 4)
    gpt = make_gpt(layers=3)
    assert (len(gpt.blocks), len(gpt.decoder.above), len(gpt.decoder.left)) == (1, 1, 1)
    assert make_gpt(order="block", layers=2).decoder is None


@torch.inference_mode()
@pytest.mark.parametrize("changes", [{}, {"position": "learned", "max_steps": T + 1}])
def test_drawn_tokens_are_those_of_the_uncached_model(changes):
    gpt = make_gpt(**changes)
    noise = torch.rand(2, T, S, generator=torch.Generator().manual_seed(3))
    cache, _ = gpt.burn_in(torch.zeros(2, 0, S, 1, dtype=torch.int64), gpt.condition(2, 0), LOOKUP)
    last, steps, outputs = torch.zeros(2, S, 1, dtype=torch.int64), [], []
    for step in range(T):
        drawn, out = gpt.step(last, gpt.condition(2, 1), cache, noise[:, step], LOOKUP)
        last = drawn.codes
        steps.append(last)
        outputs.append(out)
    codes = torch.stack(steps, dim=1)
    expected = gpt(LOOKUP(codes), first=True)
    torch.testing.assert_close(torch.stack(outputs, dim=1), expected, atol=1e-4, rtol=1e-4)
    again = gpt.code_head.sample(expected, noise[..., None], Sampling()).codes
    assert torch.equal(codes, again)


def test_too_few_layers_are_refused():
    with pytest.raises(ValueError, match="axial attention in raster order needs at least 3 layers, got 2"):
        GPTConfig(order="raster", attention="axial", layers=2)

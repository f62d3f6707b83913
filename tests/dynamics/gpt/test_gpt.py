"""Letters: B batch, T steps, S tokens per step, M slices, D width."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.tiny import tiny_config, tiny_world
from worldmodel.data import ActionSpec
from worldmodel.dynamics import GPT, GPTConfig
from worldmodel.dynamics.code_head import CodeHead
from worldmodel.layers.precision import cast_matmuls

ORDERS = ("block", "raster")
B, T = 2, 11


def make_sequence(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (B, T+1, S, M) and actions (B, T)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(16, (B, T + 1, 4, 2), generator=generator), torch.randint(3, (B, T), generator=generator)


def outputs(world, codes, actions) -> torch.Tensor:
    with torch.inference_mode():
        return world.dynamics(world.tokenizer.lookup(codes), actions)


def test_one_layer_sees_no_further_than_the_window():
    world = tiny_world(layers=1, window=3)
    codes, actions = make_sequence()
    changed = codes.clone()
    changed[:, 0] = (changed[:, 0] + 1) % 16
    moved = (outputs(world, changed, actions) - outputs(world, codes, actions)).abs().amax((0, 2, 3))
    assert (moved[:3] > 0).all() and not moved[3:].any()


def test_a_token_sees_its_neighbours_only_in_block_order():
    for order, reach in (("block", True), ("raster", False)):
        gpt = tiny_world(order=order, layers=1).dynamics
        vectors = torch.randn(1, 1, 4, 8)
        changed = vectors.clone()
        changed[:, :, 0] += 1
        with torch.inference_mode():
            moved = (gpt._content(changed) - gpt._content(vectors)).abs().amax((0, 1, 3))  # (S,)
        assert moved[0] > 0 and (moved[1:] > 0).all() == reach


def test_codes_of_a_position_depend_only_on_earlier_slices():
    head = tiny_world().dynamics.code_head
    outputs_BD, codes = torch.randn(3, 16), torch.randint(16, (3, 2))
    other = (codes + 1) % 16
    assert torch.equal(head.logits(outputs_BD, codes, 0), head.logits(outputs_BD, other, 0))
    last_changed = torch.stack((codes[:, 0], other[:, 1]), dim=-1)
    assert torch.equal(head.logits(outputs_BD, codes, 1), head.logits(outputs_BD, last_changed, 1))
    assert not torch.equal(head.logits(outputs_BD, codes, 1), head.logits(outputs_BD, other, 1))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_a_slice_is_conditioned_on_the_sum_of_the_earlier_slices_entries(dtype, tolerance):
    torch.manual_seed(0)
    head, codes, outputs_BSD = (
        CodeHead(16, 8, num_slices=3, num_codes=5),
        torch.randint(5, (6, 4, 3)),
        torch.ones(6, 4, 16),
    )
    for weight in head.parameters():
        torch.nn.init.normal_(weight)
    cast_matmuls(head, dtype)
    first, second = head.from_codes[1].weight.split(5)  # tables of the two slices before the last
    hidden = head.from_output[2](outputs_BSD) + (first[codes[..., 0]] + second[codes[..., 1]])
    logits = head.logits(outputs_BSD, codes, 2)
    torch.testing.assert_close(logits, head.to_logits[2](F.gelu(hidden)), atol=tolerance, rtol=tolerance)
    assert torch.equal(head.logits(outputs_BSD[:1], codes[:1], 2), logits[:1])  # a row equals the row alone


@pytest.mark.parametrize("hidden", [16, 0])
@pytest.mark.parametrize("order", ORDERS)
def test_first_loss_is_the_log_of_the_number_of_codes_for_the_first_step_too(order, hidden):
    config = tiny_config(order=order, code_head_width=hidden, learn_start=True)
    torch.manual_seed(0)
    slices = 2 if hidden else 1
    gpt = GPT(config.dynamics, (2, 2), num_codes=16, num_slices=slices, code_dim=8, action=config.action)
    codes, actions = make_sequence()
    loss = gpt.code_head.loss(gpt(torch.randn(B, T + 1, 4, 8), actions, first=True), codes[..., :slices])
    assert loss.shape == (B, T + 1, 4)
    assert torch.allclose(loss, torch.tensor(math.log(16)), atol=1e-5)


def test_a_head_without_hidden_units_supports_one_slice_only():
    with pytest.raises(ValueError, match="code_head_width"):
        tiny_world(code_head_width=0)


def test_box_actions_are_scaled_by_their_bounds():
    spec = ActionSpec(kind="box", n=2, low=(-1.0, 0.0), high=(1.0, 10.0))
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(layers=1, width=16, heads=2), (2, 2), num_codes=16, num_slices=2, code_dim=8, action=spec)
    middle = gpt.action(torch.tensor([[[0.0, 5.0]]]))
    assert torch.allclose(middle[0, 0], gpt.action.linear.bias)


@pytest.mark.parametrize("bad", [{"width": 30, "heads": 4}, {"window": 1}, {"dropout": 1.0}, {"context_noise": -0.1}])
def test_impossible_sizes_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        GPTConfig(**bad)

"""Letters: B batch, T steps, S tokens per step, M slices, D width."""

import math

import pytest
import torch

from tests.tiny import tiny_config, tiny_world
from worldmodel.data import ActionSpec
from worldmodel.dynamics import GPT, GPTConfig

ORDERS = ("block", "raster")
B, T = 2, 11


def make_sequence(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (B, T+1, S, M) and actions (B, T)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(16, (B, T + 1, 4, 2), generator=generator), torch.randint(3, (B, T), generator=generator)


def outputs(world, codes, actions) -> torch.Tensor:
    with torch.inference_mode():
        return world.dynamics(world.tokenizer.code_vectors(codes), actions)


@pytest.mark.parametrize("order", ORDERS)
def test_later_codes_do_not_reach_earlier_outputs(order):
    world = tiny_world(order=order)
    codes, actions = make_sequence()
    base = outputs(world, codes, actions)
    for step in range(1, T + 1):
        changed = codes.clone()
        changed[:, step] = (changed[:, step] + 1) % 16
        moved = (outputs(world, changed, actions) - base).abs().amax((0, 3))  # (T, S)
        assert not moved[: step - 1].any()  # outputs for steps before this one
        if order == "block":  # the step itself is predicted without seeing any of it
            assert not moved[step - 1].any()
        else:  # its first token is predicted without seeing any of it, later tokens see those before them
            assert not moved[step - 1, 0] and moved[step - 1, 1:].all()
        if step < T:
            assert moved[step].any()


@pytest.mark.parametrize("order", ORDERS)
def test_later_actions_do_not_reach_earlier_outputs(order):
    world = tiny_world(order=order)
    codes, actions = make_sequence()
    base = outputs(world, codes, actions)
    for step in range(T):
        changed = actions.clone()
        changed[:, step] = (changed[:, step] + 1) % 3
        moved = (outputs(world, codes, changed) - base).abs().amax((0, 2, 3))
        assert not moved[:step].any() and moved[step] > 0


def test_one_layer_sees_no_further_than_the_window():
    world = tiny_world(layers=1, window=3)
    codes, actions = make_sequence()
    changed = codes.clone()
    changed[:, 0] = (changed[:, 0] + 1) % 16
    moved = (outputs(world, changed, actions) - outputs(world, codes, actions)).abs().amax((0, 2, 3))
    assert (moved[:3] > 0).all() and not moved[3:].any()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("given", [1, 3, 7])
def test_cached_steps_equal_the_uncached_forward_beyond_the_window(order, given):
    world = tiny_world(order=order)
    codes, actions = make_sequence()
    expected = outputs(world, codes, actions)
    gpt, lookup = world.dynamics, world.tokenizer.code_vectors
    with torch.inference_mode():
        cache = gpt.burn_in(lookup(codes[:, :given]), actions[:, : given - 1])
        for t in range(given - 1, T):
            condition = gpt.action(actions[:, t : t + 1])[:, 0]
            if order == "block":
                got = gpt._advance(gpt._content(lookup(codes[:, t : t + 1]))[:, 0], condition, cache, slice(0, 4))
            else:
                before = codes.flatten(1, 2)[:, (t + 1) * 4 - 1 : (t + 2) * 4 - 1]  # each token's predecessor
                content = gpt._content(lookup(before[:, None]))[:, 0]
                parts = [gpt._advance(content[:, s : s + 1], condition, cache, slice(s, s + 1)) for s in range(4)]
                got = torch.cat(parts, dim=1)
            cache.advance()
            assert torch.allclose(got, expected[:, t], atol=1e-4)


def test_a_token_sees_its_neighbours_in_block_order_alone():
    for order, reach in (("block", True), ("raster", False)):
        gpt = tiny_world(order=order, layers=1).dynamics
        vectors = torch.randn(1, 1, 4, 8)
        changed = vectors.clone()
        changed[:, :, 0] += 1
        with torch.inference_mode():
            moved = (gpt._content(changed) - gpt._content(vectors)).abs().amax((0, 1, 3))  # (S,)
        assert moved[0] > 0 and (moved[1:] > 0).all() == reach


def test_codes_of_a_position_see_earlier_slices_only():
    head = tiny_world().dynamics.code_head
    outputs_BD, codes = torch.randn(3, 16), torch.randint(16, (3, 2))
    other = (codes + 1) % 16
    assert torch.equal(head.logits(outputs_BD, codes, 0), head.logits(outputs_BD, other, 0))
    last_changed = torch.stack((codes[:, 0], other[:, 1]), dim=-1)
    assert torch.equal(head.logits(outputs_BD, codes, 1), head.logits(outputs_BD, last_changed, 1))
    assert not torch.equal(head.logits(outputs_BD, codes, 1), head.logits(outputs_BD, other, 1))


@pytest.mark.parametrize("order", ORDERS)
def test_first_loss_is_the_log_of_the_number_of_codes(order):
    config = tiny_config(order=order)
    torch.manual_seed(0)
    gpt = GPT(config.dynamics, (2, 2), num_codes=16, num_slices=2, code_dim=8, action=config.action)
    codes, actions = make_sequence()
    loss = gpt.code_head.loss(gpt(torch.randn(B, T + 1, 4, 8), actions), codes[:, 1:])
    assert loss.mean().item() == pytest.approx(math.log(16), abs=1e-5)


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

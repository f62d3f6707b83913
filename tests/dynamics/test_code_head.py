"""The code head's echo: codes of the previous step may stay, and nothing stays without a previous step."""

import math

import pytest
import torch

from tests.tiny import tiny_world
from worldmodel.dynamics.code_head import CodeHead
from worldmodel.dynamics.sampling import Sampling

V, M = 10, 3


def make(seed=0):
    torch.manual_seed(seed)
    head = CodeHead(8, 6, M, V, echo=True)
    return head, torch.randn(2, 4, 5, 8), torch.randint(V, (2, 4, 5, M))


def hold(head, gain):
    """Set the echo to this many nats for every output."""
    torch.nn.init.constant_(head.stay.bias, gain)


def test_the_first_loss_is_that_of_uniform_codes():
    head, outputs, codes = make()
    assert head.loss(outputs, codes, codes).detach().numpy() == pytest.approx(math.log(V), rel=1e-5)


def test_a_high_echo_predicts_unchanged_codes():
    head, outputs, codes = make()
    hold(head, 4.0)
    stayed, other = head.loss(outputs, codes, codes), head.loss(outputs, codes, (codes + 1) % V)
    sure = math.log((math.exp(4) + V - 1) / math.exp(4))
    assert stayed.detach().numpy() == pytest.approx(sure, rel=1e-4)
    assert other.detach().numpy() == pytest.approx(sure + 4.0, rel=1e-4)


def test_without_a_previous_step_there_is_no_echo():
    head, outputs, codes = make()
    hold(head, 4.0)
    before = codes.clone()
    before[:, 0] = -1
    loss = head.loss(outputs, codes, before)
    assert loss[:, 0].detach().numpy() == pytest.approx(math.log(V), rel=1e-5) and (loss[:, 1:] < 1).all()


def test_a_draw_keeps_the_previous_code_if_the_echo_is_high():
    head, outputs, codes = make()
    hold(head, 50.0)
    noise = torch.rand(2, 4, 5, M)
    assert torch.equal(head.sample(outputs, noise, Sampling(), before=codes).codes, codes)
    assert not torch.equal(head.sample(outputs, noise, Sampling()).codes, codes)


@pytest.mark.parametrize("order", ["block", "raster"])
def test_a_still_dream_repeats_its_codes_after_the_first_step(order):
    world = tiny_world(order=order, echo=True, learn_start=True)
    hold(world.dynamics.code_head, 200.0)
    state = world.start_codes(world.starts.codes[:2, -1:], world.starts.actions[:2, :0])
    before = state.codes.clone()
    for _ in range(3):
        state, out = world.step(state, torch.tensor([0, 2]))
        assert torch.equal(out.codes, before)

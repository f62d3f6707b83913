"""The code head's echo: what was there before may stay, and nothing stays where nothing was."""

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
    """Every output gives what was there before this many nats."""
    torch.nn.init.constant_(head.stay.bias, gain)


def test_the_first_loss_is_that_of_chance():
    head, outputs, codes = make()
    assert head.loss(outputs, codes, codes).detach().numpy() == pytest.approx(math.log(V), rel=1e-5)


def test_what_stays_is_expected_to_stay():
    head, outputs, codes = make()
    hold(head, 4.0)
    stayed, other = head.loss(outputs, codes, codes), head.loss(outputs, codes, (codes + 1) % V)
    sure = math.log((math.exp(4) + V - 1) / math.exp(4))
    assert stayed.detach().numpy() == pytest.approx(sure, rel=1e-4)
    assert other.detach().numpy() == pytest.approx(sure + 4.0, rel=1e-4)


def test_where_nothing_was_before_nothing_can_stay():
    head, outputs, codes = make()
    hold(head, 4.0)
    before = codes.clone()
    before[:, 0] = -1
    loss = head.loss(outputs, codes, before)
    assert loss[:, 0].detach().numpy() == pytest.approx(math.log(V), rel=1e-5) and (loss[:, 1:] < 1).all()


def test_a_draw_keeps_what_was_before_if_that_is_sure():
    head, outputs, codes = make()
    hold(head, 50.0)
    noise = torch.rand(2, 4, 5, M)
    assert torch.equal(head.sample(outputs, noise, Sampling(), before=codes).codes, codes)
    assert not torch.equal(head.sample(outputs, noise, Sampling()).codes, codes)


@pytest.mark.parametrize("order", ["block", "raster"])
def test_a_still_dream_stays_as_it_is_but_for_its_beginning(order):
    world = tiny_world(order=order, echo=True, learn_start=True)
    hold(world.dynamics.code_head, 200.0)
    state = world.start_codes(world.starts.codes[:2, -1:], world.starts.actions[:2, :0])
    before = state.codes.clone()
    for _ in range(3):
        state, out = world.step(state, torch.tensor([0, 2]))
        assert torch.equal(out.codes, before)

"""Dropout drops the requested share, keeps the mean, and is off in evaluation."""

import pytest
import torch

from worldmodel.layers.cpu.dropout import Dropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(40_001,), (7, 11, 1013)])
def test_it_drops_its_share_and_keeps_the_mean(share, shape):
    torch.manual_seed(0)
    dropped = Dropout(share)(torch.ones(shape))
    assert (dropped == 0).float().mean().item() == pytest.approx(share, abs=0.01)
    assert dropped[dropped != 0].unique().item() == pytest.approx(1 / (1 - share), rel=1e-4)


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(200_000)) != 0).float() - 0.5
    for distance in (1, 2, 3, 4, 8):
        assert (kept[distance:] * kept[:-distance]).mean().abs() * 4 < 0.01


def test_gradients_pass_only_where_elements_were_kept():
    torch.manual_seed(0)
    x = torch.ones(1000, requires_grad=True)
    out = Dropout(0.3)(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


def test_the_same_seed_drops_the_same_elements():
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        runs.append(Dropout(0.2)(torch.ones(100)))
    assert torch.equal(*runs)


def test_evaluation_drops_nothing():
    x = torch.randn(50)
    assert torch.equal(Dropout(0.5).eval()(x), x)

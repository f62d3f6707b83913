"""Chunked cross-entropy equals torch's, forward and backward."""

import pytest
import torch
import torch.nn.functional as F

from worldmodel.layers.cpu.cross_entropy import ROWS, cross_entropy


@pytest.mark.parametrize("rows", [1, ROWS - 1, ROWS, 2 * ROWS + 3])
def test_it_equals_the_whole_forward_and_backward(rows):
    generator = torch.Generator().manual_seed(rows)
    logits = (torch.randn(rows, 37, generator=generator) * 5).requires_grad_()
    targets = torch.randint(37, (rows,), generator=generator)
    weight = torch.rand(rows, generator=generator)
    ours, theirs = cross_entropy(logits, targets), F.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(ours, theirs)
    (mine,) = torch.autograd.grad((ours * weight).sum(), logits)
    (other,) = torch.autograd.grad((theirs * weight).sum(), logits)
    torch.testing.assert_close(mine, other)


def test_bfloat16_logits_are_summed_in_float32():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(64, 512, generator=generator).bfloat16().requires_grad_()
    targets = torch.randint(512, (64,), generator=generator)
    loss = cross_entropy(logits, targets)
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), targets, reduction="none"))
    loss.sum().backward()
    assert logits.grad.dtype == torch.bfloat16
    torch.testing.assert_close(logits.grad.float().sum(-1), torch.zeros(64), atol=0.02, rtol=0)


def test_large_logits_do_not_overflow():
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]])
    torch.testing.assert_close(cross_entropy(logits, torch.tensor([0, 0])), torch.tensor([0.0, 2e4]))

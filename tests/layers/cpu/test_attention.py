"""Chunked attention equals torch's attention, forward and backward, for every mask that the dynamics use."""

import pytest
import torch
import torch.nn.functional as F

from worldmodel.layers.cpu.attention import Mask, attend, attend_few, causal_mask

CPU = torch.device("cpu")


def pieces(tokens: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, tokens, 8, generator=generator).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("whole_steps", [True, False])
@pytest.mark.parametrize("window", [2, 5])
@pytest.mark.parametrize("chunk", [4, 6, 64])
def test_chunks_equal_the_whole_forward_and_backward(whole_steps, window, chunk):
    allowed = causal_mask(5, 4, window, whole_steps, CPU).allowed
    mask = Mask.of(allowed, chunk)
    q, k, v = pieces(20)
    weight = torch.randn(2, 3, 20, 8, generator=torch.Generator().manual_seed(1))
    ours, theirs = attend(q, k, v, mask), F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    for mine, other in zip(
        torch.autograd.grad((ours * weight).sum(), (q, k, v)),
        torch.autograd.grad((theirs * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


def test_without_a_mask_all_tokens_are_visible():
    q, k, v = pieces(7)
    ours, theirs = attend(q, k, v), F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    (mine,), (other,) = (torch.autograd.grad(out.square().sum(), k) for out in (ours, theirs))
    torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


def test_chunks_multiply_only_the_keys_their_queries_see():
    mask = Mask.of(causal_mask(8, 2, 2, True, CPU).allowed, chunk=4)
    assert [(span.first, span.last, span.low, span.high) for span in mask.spans] == [
        (0, 4, 0, 4),
        (4, 8, 2, 8),
        (8, 12, 6, 12),
        (12, 16, 10, 16),
    ]


def test_bfloat16_is_close_to_float32():
    mask = causal_mask(4, 16, 4, False, CPU)
    q, k, v = (part.detach() for part in pieces(64))
    coarse = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask)
    assert coarse.dtype == torch.bfloat16
    torch.testing.assert_close(coarse.float(), attend(q, k, v, mask), atol=0.04, rtol=0.04)


def test_a_mask_made_while_sampling_serves_training():
    with torch.inference_mode():
        mask = causal_mask(3, 3, 3, True, CPU)
    assert not mask.allowed.is_inference()
    q, k, v = pieces(9)
    F.scaled_dot_product_attention(q, k, v, attn_mask=mask.allowed).sum().backward()
    assert q.grad is not None


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("rows", [1, 16])  # below and above the size from which matmuls are used
def test_a_few_queries_equal_torchs_kernel(rows, masked):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(rows, 4, 2, 8, generator=generator).bfloat16()
    k, v = (torch.randn(rows, 4, 60, 8, generator=generator).bfloat16()[:, :, 3:53] for _ in range(2))
    mask = torch.rand(2, 50, generator=generator) < 0.7 if masked else None
    expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask)
    torch.testing.assert_close(attend_few(q, k, v, mask).float(), expected, atol=0.02, rtol=0.02)

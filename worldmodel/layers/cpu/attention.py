"""Attention as plain matmuls, for CPUs and sizes where that is faster than torch's own kernel.

Whole sequences are processed in chunks of queries. Each chunk multiplies only the keys its queries see, and keeps
its weights for the backward pass (docs/performance.md § What a processor spends its time on).

Letters: B batch, H heads, L tokens, n queries, N keys, K features of one head.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.layers.compiling import uncompiled

CHUNK = 64  # queries; small, so that a sliding window skips most keys (docs/performance.md)
_MANY = 1200  # scores per row from which matmuls are faster than torch's kernel in bfloat16


@dataclass(frozen=True)
class Span:
    """Consecutive queries [first, last) and the range of keys [low, high) visible to any of them."""

    first: int
    last: int
    low: int
    high: int
    bias: Tensor | None  # (queries, keys) float32: 0 for visible keys, else -inf; None if all are visible


@dataclass(frozen=True, eq=False)
class Mask:
    """Visibility table (L, L) of tokens, and the same in chunks."""

    allowed: Tensor  # bool, True where a query (row) may attend to a key (column)
    spans: tuple[Span, ...]

    @classmethod
    def of(cls, allowed: Tensor, chunk: int = CHUNK) -> "Mask":
        """Build from a table (L, L) in which every token sees at least one."""
        spans = []
        for first in range(0, len(allowed), chunk):
            rows = allowed[first : first + chunk]
            seen = rows.any(0).nonzero().flatten()
            low, high = int(seen[0]), int(seen[-1]) + 1
            part = rows[:, low:high]
            bias = None if part.all() else torch.zeros(part.shape).masked_fill(~part.cpu(), -torch.inf)
            spans.append(Span(first, first + len(rows), low, high, bias))
        return cls(allowed, tuple(spans))


@uncompiled  # tracing would bypass the cache
@lru_cache(maxsize=8)
@torch.inference_mode(False)  # so that a mask first made by sampling also serves training
def causal_mask(steps: int, tokens: int, window: int, whole_steps: bool, device: torch.device) -> Mask:
    """The mask of a sequence of steps: a token sees the last `window` steps, including its own.

    Args:
        tokens: S, tokens per step.
        whole_steps: True: a token sees all tokens of its own step; False: only itself and those before it.
    """
    token = torch.arange(steps * tokens, device=device)
    step = token // tokens
    age = step[:, None] - step[None, :]
    causal = age >= 0 if whole_steps else token[:, None] >= token[None, :]
    return Mask.of(causal & (age < window))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask | None = None) -> Tensor:
    """Scaled dot-product attention: q, k, v (B, H, L, K) -> (B, H, L, K); without a mask all tokens are visible."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask.allowed)
    shape = q.shape
    spans = (Span(0, shape[2], 0, shape[2], None),) if mask is None else mask.spans
    scaled = q * shape[-1] ** -0.5
    return _Chunks.apply(scaled.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), spans).view(shape)


def attend_few(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention for few queries (B, H, n, K) and many keys (B, H, N, K), without gradients; mask (…, n or 1, N)."""
    # The choice must not depend on the number of rows: the two paths round differently, and a row of a batch must
    # equal the same row alone.
    many = q.shape[1] * q.shape[2] * k.shape[2] >= _MANY
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or not many:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    k, v = k.contiguous(), v.contiguous()  # slices of a cache: the copy costs a tenth of the slow matmul path
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores.masked_fill_(~mask, -torch.inf)
    return scores.softmax(-1) @ v


def attend_one(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention for one query per head and row: q (B*H, 1, K), k and v (B*H, N, K), without gradients.

    `bias` (B*H or 1, 1, N) in their dtype is added to the scores: 0 for visible keys, else -inf.
    """
    if q.dtype == torch.bfloat16:  # matmuls of a sliced cache would take a slow path
        k, v = k.contiguous(), v.contiguous()
    return torch.baddbmm(bias, q, k.transpose(1, 2), alpha=q.shape[-1] ** -0.5).softmax(-1) @ v


class _Chunks(torch.autograd.Function):
    """softmax(q k^T) v for q, k, v (N, L, K), chunk by chunk."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, spans: tuple[Span, ...]) -> Tensor:
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        out, weights = torch.empty_like(q), []
        for span in spans:
            scores = q[:, span.first : span.last] @ k[:, span.low : span.high].transpose(1, 2)
            if span.bias is not None:
                scores += span.bias.to(scores.dtype)
            weights.append(scores.softmax(-1))
            out[:, span.first : span.last] = weights[-1] @ v[:, span.low : span.high]
        ctx.save_for_backward(q, k, v, *weights)
        ctx.spans = spans
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q, k, v, *weights = ctx.saved_tensors
        grad = grad.contiguous()
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for span, weight in zip(ctx.spans, weights, strict=True):
            queries, keys = slice(span.first, span.last), slice(span.low, span.high)
            grad_out = grad[:, queries]
            grad_weight = grad_out @ v[:, keys].transpose(1, 2)
            grad_scores = torch._softmax_backward_data(grad_weight, weight, -1, weight.dtype)
            grad_q[:, queries] = grad_scores @ k[:, keys]
            grad_k[:, keys] += grad_scores.transpose(1, 2) @ q[:, queries]
            grad_v[:, keys] += weight.transpose(1, 2) @ grad_out
        return grad_q, grad_k, grad_v, None

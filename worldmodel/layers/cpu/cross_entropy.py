"""Cross-entropy in chunks of rows, which avoids a full table of float32 logits in slow CPU memory.

Letters: N rows, V classes.
"""

import torch
from torch import Tensor

ROWS = 256  # per chunk, so that its float32 logits stay in the processor's cache


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-log p(target) in nats, float32 (N,), for logits (N, V) of any float dtype and targets (N,) int64."""
    return _Pieces.apply(logits, targets)


class _Pieces(torch.autograd.Function):
    """Sums in float32; the gradient has the dtype of the logits."""

    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor) -> Tensor:
        total = torch.cat([part.float().logsumexp(-1) for part in logits.split(ROWS)])
        ctx.save_for_backward(logits, targets, total)
        return total - logits.gather(1, targets[:, None]).squeeze(1).float()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        logits, targets, total = ctx.saved_tensors
        out = torch.empty_like(logits)
        pieces = (tensor.split(ROWS) for tensor in (out, logits, targets, total, grad))
        for out_n, logits_n, targets_n, total_n, grad_n in zip(*pieces, strict=True):
            slope = (logits_n.float() - total_n[:, None]).exp_()
            slope.scatter_add_(1, targets_n[:, None], -torch.ones_like(targets_n[:, None], dtype=slope.dtype))
            out_n.copy_(slope.mul_(grad_n[:, None]))
        return out, None

"""Muon with its matmuls in float32, for processors on which torch's own, in bfloat16, takes 40 times as long.

Letters: n matrices of one shape, R rows, C columns, R <= C.
Source: Muon, https://kellerjordan.github.io/posts/muon; step size of arXiv:2502.16982.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Float32Muon(torch.optim.Muon):
    """torch.optim.Muon (same options and state) whose Newton-Schulz iteration runs in float32.

    Steps equal torch's to its rounding: an update differs by up to 5 % of its own size. Weights of one shape are
    taken together. States of the two load into each other.
    """

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> Tensor | None:  # type: ignore[override]
        """Change all matrices that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape.setdefault(weight.shape, []).append(weight)
            for shape, weights in by_shape.items():
                updates = torch.stack([self._direction(weight, group) for weight in weights])
                updates = orthogonalized(updates, group["ns_coefficients"], group["ns_steps"], group["eps"])
                for weight, update in zip(weights, updates, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(update, alpha=-group["lr"] * _scale(group["adjust_lr_fn"], *shape))
        return loss

    def _direction(self, weight: Tensor, group: dict) -> Tensor:
        """The running mean of a weight's gradients, with Nesterov's look ahead if it is on."""
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum


def orthogonalized(matrices_nRC: Tensor, coefficients: Sequence[float], steps: int, eps: float) -> Tensor:
    """Matrices with the same singular vectors and singular values near 1, by a quintic Newton-Schulz iteration.

    The iteration X <- P X with P = a + b G + c G^2 and G = X X^T runs on G <- P G P, so that only the first and the
    last matmul have the long side of the matrices.

    Args:
        matrices_nRC: (n, R, C), any float dtype and any R and C.
        coefficients: (a, b, c).
        steps: iterations, at least 1.
        eps: least norm to divide by.

    Returns: (n, R, C) float32.
    """
    a, b, c = coefficients
    tall = matrices_nRC.shape[1] > matrices_nRC.shape[2]
    x = (matrices_nRC.mT if tall else matrices_nRC).float()
    x = x / x.flatten(1).norm(dim=1).clamp(min=eps)[:, None, None]  # no singular value above 1
    gram = x @ x.mT
    total = torch.eye(gram.shape[-1], device=x.device).expand_as(gram)  # product of all P
    for _ in range(steps):
        p = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        p.diagonal(dim1=1, dim2=2).add_(a)
        total, gram = p @ total, p @ gram @ p
    x = total @ x
    return x.mT if tall else x


def _scale(rule: str | None, rows: int, columns: int) -> float:
    """What the learning rate is multiplied by for a matrix of this shape."""
    if rule == "match_rms_adamw":  # arXiv:2502.16982, section 2.2
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))

"""Positions: learned space-time tables (broadcast and concatenated) and rotation in time.

Letters: T steps, h w latent grid, D width, K features of one head.
Source: VideoGen (arXiv:2104.10157) section 3, spatio-temporal embeddings; RoFormer (arXiv:2104.09864), rotation.
"""

import torch
from torch import Tensor, nn


class BroadcastPosition(nn.Module):
    """One learned table per axis longer than one, each broadcast over the other axes, concatenated along the width."""

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.shape = shape
        self.axes = [axis for axis, size in enumerate(shape) if size > 1] or [len(shape) - 1]
        if width % len(self.axes):
            raise ValueError(
                f"width must be divisible by {len(self.axes)}, the number of axes with positions, got {width}"
            )
        part = width // len(self.axes)
        self.tables = nn.ParameterList(torch.randn(shape[axis], part) * 0.01 for axis in self.axes)

    def forward(self) -> Tensor:
        """Embeddings of all positions, (*shape, width)."""
        parts = []
        for axis, table in zip(self.axes, self.tables, strict=True):
            view = [1] * len(self.shape) + [table.shape[1]]
            view[axis] = self.shape[axis]
            parts.append(table.view(view).expand(*self.shape, -1))
        return torch.cat(parts, dim=-1)


def rotation(times: Tensor, features: int, base: float = 100.0) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each time's angles, float32 (T, K/2).

    Args:
        times: (T,) int64, any size: angles are taken in float64, so that step 1,000,000 is as exact as step 1.
        features: K, even.
        base: ratio of the slowest to the fastest rotation; small, since windows are a few steps long.
    """
    exponents = torch.arange(features // 2, dtype=torch.float64, device=times.device) / (features // 2)
    angles = times.double()[:, None] * base**-exponents
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the feature pairs of `x` (..., K) by angles broadcast as (..., K/2); keeps the dtype of `x`."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)

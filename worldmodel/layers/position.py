"""Positions: space-time tables, learned or of sines (broadcast and concatenated), and rotation in time.

Letters: B batch, T times, L tokens, h w latent grid, D width, K features of one head.
Source: VideoGen (arXiv:2104.10157) section 3, spatio-temporal embeddings; RoFormer (arXiv:2104.09864), rotation.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class BroadcastPosition(nn.Module):
    """One learned table per axis longer than one, each broadcast over the other axes, concatenated along the width.

    `axes` chooses the axes that have a table; the positions along the others are not told apart.
    """

    def __init__(self, shape: tuple[int, ...], width: int, axes: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.axes = list(axes or ()) or [axis for axis, size in enumerate(shape) if size > 1] or [len(shape) - 1]
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


class SinePosition(nn.Module):
    """Sines and cosines of the position along each axis longer than one, concatenated along the width; not learned."""

    table: Tensor

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        axes = [axis for axis, size in enumerate(shape) if size > 1] or [len(shape) - 1]
        if width % 2 or width < 2 * len(axes):
            raise ValueError(f"width must be even and at least {2 * len(axes)} for sine positions, got {width}")
        part = width // len(axes) // 2 * 2
        parts = []
        for axis in axes:
            features = part if axis != axes[0] else width - part * (len(axes) - 1)  # the first takes what is left
            view = [1] * len(shape) + [features]
            view[axis] = shape[axis]
            waves = torch.cat(_waves(torch.arange(shape[axis]), features), dim=-1)
            parts.append(waves.view(view).expand(*shape, -1))
        self.register_buffer("table", torch.cat(parts, dim=-1), persistent=False)

    def forward(self) -> Tensor:
        """Embeddings of all positions, (*shape, width)."""
        return self.table


class Rotation(NamedTuple):
    """What turns queries and keys of each of T times; feature i is a pair with feature i + K/2."""

    cos: Tensor  # (T, K) float32
    sin: Tensor  # (T, K) float32, with the sign that each half of the features takes
    matrices: Tensor | None = None  # (T, K, K) the same as products, in their dtype

    def turn(self, x: Tensor) -> Tensor:
        """x (…, L, K), L/T tokens of each time side by side -> the same shape and dtype."""
        if self.matrices is None:
            cos, sin = self.cos, self.sin
            if len(cos) > 1:
                each = x.shape[-2] // len(cos)
                cos, sin = (table.repeat_interleave(each, dim=0) for table in (cos, sin))
            wide = x.float()
            # Both halves at once: the pair of a feature lies half a turn of the features away.
            return torch.addcmul(wide * cos, wide.roll(x.shape[-1] // 2, dims=-1), sin).to(x.dtype)
        if len(self.matrices) == 1:  # flat, since torch would copy the matrix for every token of a part of a tensor
            return (x.reshape(-1, x.shape[-1]) @ self.matrices[0]).view(x.shape)
        by_time = x.unflatten(-2, (len(self.matrices), -1))
        return torch.einsum("...tnk,tkj->...tnj", by_time, self.matrices).reshape(x.shape)


def rotation(times: Tensor, features: int, base: float = 100.0, products: torch.dtype | None = None) -> Rotation:
    """The rotation by each time.

    Args:
        times: (T,) int64, any size: angles are taken in float64, so that step 1,000,000 is as exact as step 1.
        features: K, even.
        base: ratio of the slowest to the fastest rotation; small, since windows are a few steps long.
        products: turn by matrix products of this dtype: on a processor in bfloat16 a quarter of the time, and as exact
            as what is turned. None: number by number.
    """
    cos, sin = _waves(times, features, base)
    cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    if products is None:
        return Rotation(cos, sin)
    same = torch.eye(features, device=times.device)
    other = same.roll(features // 2, dims=0)  # the pair of each feature
    return Rotation(cos, sin, torch.addcmul(same * cos.unsqueeze(1), other, sin.unsqueeze(1)).to(products))


def _waves(times: Tensor, features: int, base: float = 100.0) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each time's angles, float32 (T, K/2)."""
    exponents = torch.arange(features // 2, dtype=torch.float64, device=times.device) / (features // 2)
    angles = times.double()[:, None] * base**-exponents
    return angles.cos().float(), angles.sin().float()

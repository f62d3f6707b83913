"""Position embeddings: space-time tables (learned or sines), and rotary embeddings in time.

Letters: B batch, T times, L tokens, h w latent grid, D width, K features of one head.
Source: VideoGen (arXiv:2104.10157) section 3, spatio-temporal embeddings; RoFormer (arXiv:2104.09864), rotation.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class BroadcastPosition(nn.Module):
    """One learned table per axis longer than one, each broadcast over the other axes, concatenated along the width.

    `axes` selects the axes with a table; positions along the other axes are not distinguished.
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
        self.tables = nn.ParameterList(torch.randn(shape[axis], part).mul_(0.01) for axis in self.axes)

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
            features = part if axis != axes[0] else width - part * (len(axes) - 1)  # the first axis gets the remainder
            view = [1] * len(shape) + [features]
            view[axis] = shape[axis]
            waves = torch.cat(_waves(torch.arange(shape[axis]), features), dim=-1)
            parts.append(waves.view(view).expand(*shape, -1))
        self.register_buffer("table", torch.cat(parts, dim=-1), persistent=False)

    def forward(self) -> Tensor:
        """Embeddings of all positions, (*shape, width)."""
        return self.table


class Rotation(NamedTuple):
    """Rotates queries and keys by the angles of T times; features i and i + K/2 form a pair."""

    cos: Tensor  # (T, K) float32
    sin: Tensor  # (T, K) float32, with the sign for each half of the features
    matrices: Tensor | None = None  # (T, K, K) the same rotation as matrices, in the dtype of the matmuls

    def turn(self, x: Tensor) -> Tensor:
        """Rotate x (…, L, K), with L/T consecutive tokens of each time; keeps shape and dtype."""
        if self.matrices is None:
            cos, sin = self.cos, self.sin
            if len(cos) > 1:
                each = x.shape[-2] // len(cos)
                cos, sin = (table.repeat_interleave(each, dim=0) for table in (cos, sin))
            wide = x.float()
            # Both halves together: rolling by K/2 brings the pair of each feature to its position.
            return torch.addcmul(wide * cos, wide.roll(x.shape[-1] // 2, dims=-1), sin).to(x.dtype)
        if len(self.matrices) == 1:  # flattened, because torch would copy the matrix for every token of a sliced tensor
            return (x.reshape(-1, x.shape[-1]) @ self.matrices[0]).view(x.shape)
        by_time = x.unflatten(-2, (len(self.matrices), -1))
        return torch.einsum("...tnk,tkj->...tnj", by_time, self.matrices).reshape(x.shape)


def rotation(times: Tensor, features: int, base: float = 100.0, products: torch.dtype | None = None) -> Rotation:
    """Rotary embedding for the given times.

    Args:
        times: (T,) int64, of any size: angles are computed in float64, so step 1,000,000 is as exact as step 1.
        features: K, even.
        base: ratio of the fastest to the slowest rotation; small, because windows are a few steps long.
        products: dtype of matrices to rotate by matmuls, which take a quarter of the time on a CPU in bfloat16, with
            the precision of the rotated tensor. None: elementwise.
    """
    cos, sin = _waves(times, features, base)
    cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    if products is None:
        return Rotation(cos, sin)
    same = torch.eye(features, device=times.device)
    other = same.roll(features // 2, dims=0)  # the pair of each feature
    return Rotation(cos, sin, torch.addcmul(same * cos.unsqueeze(1), other, sin.unsqueeze(1)).to(products))


def angular_speeds(features: int, base: float = 100.0, device: torch.device | None = None) -> Tensor:
    """Radians per step of each pair of features, (K/2,) float64."""
    return base ** -(torch.arange(features // 2, dtype=torch.float64, device=device) / (features // 2))


def _waves(times: Tensor, features: int, base: float = 100.0) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each time's angles, (T, K/2) float32."""
    angles = times.double()[:, None] * angular_speeds(features, base, times.device)
    return angles.cos().float(), angles.sin().float()

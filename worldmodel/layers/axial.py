"""Axial attention: in space and time with a sliding window and a cache, and within a step in raster order.

Letters: B batch, T steps, h w latent grid, S = h*w tokens per step, L = T*S tokens, D width, H heads, K features of
one head, W window in steps.
Source: axial transformers, arXiv:1912.12180, as in the ablation of VideoGen (OpenReview 3InxcRQsYLf). Differs: axes are
summed, not chained.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.layers.attention import KVCache, WindowAttention
from worldmodel.layers.cpu.attention import Mask
from worldmodel.layers.position import Rotation


class AxialWindowAttention(nn.Module):
    """Attention along time, height and width separately, each with its own weights; the outputs are summed."""

    parts = 3  # cache entries per layer

    def __init__(self, width: int, heads: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.axes = nn.ModuleList(WindowAttention(width, heads) for _ in range(self.parts))

    def forward(
        self, x: Tensor, angles: Rotation | None, mask: Mask, last: int | None = None
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Attention over whole sequences, like `WindowAttention.forward`; each axis takes its part of the mask."""
        steps = x.shape[1] // (self.grid[0] * self.grid[1])
        shape = (steps, *self.grid)
        masks = mask.allowed.view(*shape, *shape)
        lines = (masks[:, 0, 0, :, 0, 0], masks[0, :, 0, 0, :, 0], masks[0, 0, :, 0, 0, :])
        total, pairs = torch.zeros_like(x), []
        for axis, (attention, line) in enumerate(zip(self.axes, lines, strict=True), start=2):
            assert isinstance(attention, WindowAttention)
            q, k, v = attention._split(x, angles)  # (B, H, L, K)
            pairs.append((k, v))
            q, k, v = (part.unflatten(2, shape).movedim(axis, -2) for part in (q, k, v))
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=line).movedim(-2, axis).flatten(2, 4)
            total = total + attention.out(mixed.transpose(1, 2).flatten(2))
        return total if last is None else total[:, -last:], pairs

    def step(self, x: Tensor, angles: Rotation | None, cache: KVCache, layer: int, tokens: slice) -> Tensor:
        """Attention for the tokens of the step at the cache's clock, like `WindowAttention.step`."""
        size, width = self.grid[0] * self.grid[1], self.grid[1]
        position = torch.arange(size, device=x.device)
        own = position[tokens, None]  # (n, 1)
        now = (torch.arange(cache.window, device=x.device) == cache.clock % cache.window)[:, None]  # (W, 1)
        same_position = own == position
        same_column, same_row = own % width == position % width, own // width == position // width
        reaches = (
            same_position[:, None].expand(-1, cache.window, -1),
            same_column[:, None] & now,
            same_row[:, None] & now,
        )
        total = torch.zeros_like(x)
        for axis, (attention, reach) in enumerate(zip(self.axes, reaches, strict=True)):
            assert isinstance(attention, WindowAttention)
            total = total + attention.step(
                x, angles, cache, layer * self.parts + axis, tokens, reach.reshape(-1, cache.window * size)
            )
        return total


class GridAttention(nn.Module):
    """Attention within a step in raster order, without positions of its own.

    With `columns` a token sees its whole row, and its column up to itself; otherwise its row up to itself.
    """

    def __init__(self, width: int, heads: int, columns: bool) -> None:
        super().__init__()
        self.columns = columns
        self.axes = nn.ModuleList(WindowAttention(width, heads) for _ in range(1 + columns))

    def forward(self, x: Tensor) -> Tensor:
        """The first h rows of a grid, (B, h, w, D) -> the same shape."""
        total = torch.zeros_like(x)
        for axis, attention in enumerate(self.axes):
            assert isinstance(attention, WindowAttention)
            lines = x.transpose(1, 2) if axis else x  # (B, a, L, D) of columns or rows
            q, k, v = attention._split(lines.flatten(0, 1), None)  # (B*a, H, L, K)
            causal = bool(axis) or not self.columns
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)
            out = attention.out(mixed).unflatten(0, lines.shape[:2])
            total = total + (out.transpose(1, 2) if axis else out)
        return total

"""Attention from every position of a prior to itself and the positions before it.

Letters: B batch, D width, H heads, K features of one head, t slices, h w rows and columns, S = h*w, L = t*S positions.
Source: Predicting Video with VQVAE section 3.2 (arXiv:1712.09763 for images). Its output joins the horizontal stack
only: the vertical stack sees all columns of the rows above, and would pass a code on to its left neighbours.
Ours: a norm before the product, and sines of the position, which the paper does not specify.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.layers.compiling import uncompiled
from worldmodel.layers.cpu.attention import Mask, attend
from worldmodel.layers.position import SinePosition
from worldmodel.layers.precision import Linear


@uncompiled  # tracing would bypass the cache
@lru_cache(maxsize=8)
@torch.inference_mode(False)  # so that a mask first made by sampling also serves training
def visible(slices: int, positions: int, past_full: bool, device: torch.device) -> Mask:
    """The mask of L = slices * positions: each position sees itself and those before it.

    Without `past_full` of earlier slices too it sees only the positions up to its own.
    """
    place = torch.arange(slices * positions, device=device)
    allowed = place[:, None] >= place[None, :]
    if not past_full:
        allowed &= (place % positions)[:, None] >= (place % positions)[None, :]
    return Mask.of(allowed)


class VoxelAttention(nn.Module):
    """Multi-head attention over all positions; the features of a position hold only codes before it."""

    def __init__(self, width: int, heads: int, shape: tuple[int, int, int], past_full: bool) -> None:
        """`shape`: (t, h, w), the most slices that there can be."""
        super().__init__()
        self.heads, self.past_full = heads, past_full
        self.norm = nn.LayerNorm(width)
        self.position = SinePosition(shape, width)
        self.qkv = Linear(width, 3 * width, bias=False)
        self.out = Linear(width, width)

    def split(self, x: Tensor, position: Tensor) -> Tensor:
        """Features (B, L, D) at positions (L, D) -> queries, keys, values (3, B, H, L, K)."""
        return self.qkv(self.norm(x) + position).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def join(self, mixed: Tensor) -> Tensor:
        """(B, H, L, K) -> (B, L, D) float32."""
        return self.out(mixed.transpose(1, 2).flatten(2)).float()

    def forward(self, h: Tensor) -> Tensor:
        """What is added to the horizontal stack (B, D, t, h, w)."""
        slices, rows, columns = h.shape[2:]
        position = self.position()[:slices].flatten(0, 2)
        q, k, v = self.split(h.flatten(2).transpose(1, 2), position)
        mixed = attend(q, k, v, visible(slices, rows * columns, self.past_full, h.device))
        return self.join(mixed).transpose(1, 2).view_as(h)

    def of_one(self, x: Tensor, time: int, place: int, keys: Tensor, values: Tensor) -> Tensor:
        """The same for one position: features (B, D); caches (B, H, t, S, K), into which it writes its own."""
        position = self.position().flatten(1, 2)[time, place : place + 1]
        q, keys[:, :, time, place : place + 1], values[:, :, time, place : place + 1] = self.split(x[:, None], position)
        if self.past_full:  # the positions lie in the order in which they were drawn
            last = time * keys.shape[3] + place + 1
            k, v = (cache.flatten(2, 3)[:, :, :last] for cache in (keys, values))
        else:
            k, v = (cache[:, :, : time + 1, : place + 1].flatten(2, 3) for cache in (keys, values))
        return self.join(F.scaled_dot_product_attention(q, k, v)).squeeze(1)

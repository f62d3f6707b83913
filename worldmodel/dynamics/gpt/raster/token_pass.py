"""Single tokens through the layers in raster order; prepares once per step what all its tokens share.

Computes the same as `GPT._advance` for one token with full attention. Whatever does not depend on the token (the mask,
views of the cache, gains and biases) is prepared once, which matters most when the ring is full and every token needs a
mask (docs/performance.md).

Letters: B rows, S tokens per step, D width, H heads, K features of one head, W window in steps, N = W*S keys at most.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from worldmodel.dynamics.conditioning import ConditionalNorm, Modulation
from worldmodel.dynamics.gpt.blocks import Block, BlockCondition
from worldmodel.layers.attention import KVCache, WindowAttention
from worldmodel.layers.cpu.attention import attend_one
from worldmodel.layers.position import Rotation


class _Layer:
    """One block and its part of the cache."""

    def __init__(self, block: Block, condition: BlockCondition, keys: Tensor, values: Tensor, count: int) -> None:
        """`keys` and `values` (B, H, W, S, K) of the cache, of which the first `count` entries are visible."""
        assert isinstance(block.attention, WindowAttention)
        self.qkv, self.out, self.parts = block.attention.qkv, block.attention.out, block.forward_part
        self.norms = block.norm_attention.forward, block.norm_forward.forward
        *self.modulations, self.frames = condition.flat()
        rows, heads, window, size, features = keys.shape
        shape = (rows, heads, window * size, features)
        self.keys, self.values = keys.view(shape), values.view(shape)  # written one token at a time
        self.seen_keys = self.keys.flatten(0, 1)[:, :count]  # (B*H, count, K)
        self.seen_values = self.values.flatten(0, 1)[:, :count]


class TokenPass:
    """The layers for the tokens of the step at a cache's clock, in order from the first."""

    def __init__(
        self,
        blocks: Sequence[Block],
        norm: ConditionalNorm,
        conditions: Sequence[BlockCondition],
        last: Modulation,
        angles: Rotation | None,
        cache: KVCache,
    ) -> None:
        rows, self.heads, window, size, features = cache.keys[0].shape
        self.shape = (rows, 3, self.heads, features)
        self.angles, self.norm, self.last = angles, norm, last.flat()
        slot = cache.clock % window
        self.first = slot * size
        # Steps that are not written yet are cut off as long as the ring has not wrapped.
        count = cache.slots * size
        self.layers = [
            _Layer(block, condition, keys, values, count)
            for block, condition, keys, values in zip(blocks, conditions, cache.keys, cache.values, strict=True)
        ]
        bias = torch.zeros(1, 1, count, dtype=cache.keys[0].dtype, device=cache.now.device)
        valid = cache.valid()
        if valid is not None:  # (B, 1, 1, W) -> (B*H, 1, N)
            hidden = ~valid.repeat_interleave(size, dim=-1).expand(-1, self.heads, -1, -1).flatten(0, 1)
            bias = bias.expand(hidden.shape).masked_fill(hidden, -torch.inf)
        bias[..., self.first : self.first + size] = -torch.inf  # until they are written
        self.bias = bias

    def __call__(self, x: Tensor, position: int) -> Tensor:
        """The input (B, D) of the token at `position` of the step -> its output (B, D)."""
        rows, at = self.shape[0], self.first + position
        self.bias[..., at] = 0.0
        for layer in self.layers:
            norm_attention, norm_forward = layer.norms
            normed = norm_attention(x, layer.modulations[0])
            parts = layer.qkv.forward(normed).view(self.shape).transpose(0, 1)  # (3, B, H, K)
            q, k = (parts[:2] if self.angles is None else self.angles.turn(parts[:2])).unbind()
            layer.keys[:, :, at], layer.values[:, :, at] = k, parts[2]
            mixed = attend_one(q.reshape(-1, 1, q.shape[-1]), layer.seen_keys, layer.seen_values, self.bias)
            x = x + layer.out.forward(mixed.view(rows, -1))
            x = x + layer.parts.forward(norm_forward(x, layer.modulations[1]), layer.frames)
        return self.norm(x, self.last)

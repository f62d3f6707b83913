"""Blocks of encoder and decoder: attention within a slice, then feed-forward, each after a conditional norm.

Letters: R rows, (t, h, w) shape of a slice, S = h*w, N = t*S its positions, D width, H heads, C width of the condition.
Source: Latent Video Transformer (arXiv:2006.10704) section 3.2, sizes of its authors' public code: the feed-forward
part does not widen. Differs: norms are conditional, so that actions may enter through them.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from worldmodel.dynamics.conditioning import ConditionalNorm, Modulation
from worldmodel.dynamics.subscale.config import SubscaleConfig
from worldmodel.dynamics.subscale.order import Triple
from worldmodel.dynamics.subscale.relative_attention import Projected, RelativeAttention
from worldmodel.layers.precision import Linear
from worldmodel.layers.weight_cache import WeightCache


class Block(nn.Module):
    """Attention, then D -> D -> D."""

    def __init__(self, config: SubscaleConfig, shape: Triple) -> None:
        super().__init__()
        width = config.width
        self.norm_attention = ConditionalNorm(width, config.norm_inputs)
        self.norm_forward = ConditionalNorm(width, config.norm_inputs)
        self.attention = RelativeAttention(
            width, config.heads, config.head_width, config.attention, shape, config.block
        )
        self.rise, self.fall = Linear(width, width), Linear(width, width)

    def forward(self, x: Tensor, modulations: tuple[Modulation, Modulation], bias: Tensor) -> tuple[Tensor, Projected]:
        """x (R, t, S, D), the modulations of both norms, and the bias of attention (H, N, N) -> the same shape."""
        mixed, parts = self.attention(self.norm_attention(x, modulations[0]).flatten(1, 2), bias)
        x = x + mixed.view_as(x)
        return x + self.fall(F.relu(self.rise(self.norm_forward(x, modulations[1])))), parts


class Stack(nn.Module):
    """Blocks in sequence; with `causal` a position sees itself and those before it in raster order."""

    later: Tensor  # (N, N) bool, True where a query must not see a key

    def __init__(self, config: SubscaleConfig, shape: Triple, causal: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config, shape) for _ in range(config.layers))
        self.again = config.checkpointing
        count = shape[0] * shape[1] * shape[2]
        later = torch.ones(count, count, dtype=torch.bool).triu(1) if causal else torch.zeros(0, dtype=torch.bool)
        self.register_buffer("later", later, persistent=False)
        self.cached: WeightCache[Tensor] = WeightCache()  # the biases of all blocks

    @property
    def norms(self) -> list[ConditionalNorm]:
        """Norms in the order in which `forward` takes their modulations."""
        return [norm for block in self.each for norm in (block.norm_attention, block.norm_forward)]

    @property
    def each(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def _bias(self, block: Block) -> Tensor:
        bias = block.attention.distances()
        return bias.masked_fill(self.later, -torch.inf) if len(self.later) else bias

    def biases(self) -> Tensor | list[Tensor]:
        """Bias of attention of each block (H, N, N) float32, outside training in one tensor; -inf: must not be seen."""
        tables = [table for block in self.each for table in block.attention.distances.tables]
        cached = self.cached.of(tables, lambda: torch.stack([self._bias(block) for block in self.each]))
        return [self._bias(block) for block in self.each] if cached is None else cached

    def forward(
        self, x: Tensor, modulations: Sequence[Modulation], keep: Callable[[int, Projected], None] | None = None
    ) -> Tensor:
        """x (R, t, S, D), with causal blocks of the first frames of a slice only if t is smaller -> the same shape.

        `keep` is called with the index of each block and what a sampler needs of it.
        """
        count = x.shape[1] * x.shape[2]
        again = self.again and self.training and torch.is_grad_enabled()
        pairs = list(zip(modulations[::2], modulations[1::2], strict=True))
        for index, (block, bias) in enumerate(zip(self.each, self.biases(), strict=True)):
            bias = bias[:, :count, :count]
            if again:
                x, parts = checkpoint(block, x, pairs[index], bias, use_reentrant=False)
            else:
                x, parts = block(x, pairs[index], bias)
            if keep is not None:
                keep(index, parts)
        return x

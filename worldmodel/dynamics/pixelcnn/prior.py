"""The network of both priors: PixelCNN with gated layers and attention, over a grid of codes.

Letters: B batch, D width, E features of a code, V codes, t slices, h w rows and columns.
Source: Predicting Video with VQVAE section 3.2; layers, width and kernel of `presets` are assumed, the paper has none.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from worldmodel.dynamics.code_head import CodeHead
from worldmodel.dynamics.pixelcnn.attention import VoxelAttention
from worldmodel.dynamics.pixelcnn.config import PixelCNNConfig
from worldmodel.dynamics.pixelcnn.gated import FirstConvs, GatedLayer, PriorShape


class Prior(nn.Module):
    """p(codes of slices | condition), code after code: slice by slice, row by row, from left to right."""

    def __init__(
        self,
        config: PixelCNNConfig,
        shape: PriorShape,
        slices: int,
        grid: tuple[int, int],
        num_codes: int,
        code_dim: int,
    ) -> None:
        """`slices`: the most there can be at a time; `grid`: rows and columns of a slice."""
        super().__init__()
        self.config, self.shape, self.grid = config, shape, grid
        width, every, full = config.width, config.attention_every, config.past == "full"
        self.codes = nn.Embedding(num_codes, code_dim)
        self.first = FirstConvs(code_dim, width, shape)
        self.layers = nn.ModuleList(GatedLayer(width, width, shape, config.dropout) for _ in range(config.layers))
        # By the number of the layer before it, from 1; as text, because names of modules are.
        self.attention = nn.ModuleDict(
            {
                str(after): VoxelAttention(width, config.heads, (slices, *grid), full)
                for after in range(1, config.layers + 1)
                if every and after % every == 0
            }
        )
        self.norm = nn.LayerNorm(width)
        self.head = CodeHead(width, width, 1, num_codes)

    def forward(self, codes: Tensor, condition: Tensor) -> Tensor:
        """Outputs (B, t, h, w, D) that predict codes (B, t, h, w), with the condition (B, C, t, h, w)."""
        v, h = self.first(self.codes(codes).movedim(-1, 1))
        for number, layer in enumerate(self.layers, start=1):
            v, h = self._run(layer, v, h, condition)
            if str(number) in self.attention:
                v, h = self._run(self._attend, self.attention[str(number)], v, h)
        return self.norm(h.movedim(1, -1))

    def _run(self, part: Callable[..., Any], *inputs: Any) -> Any:
        """What a part makes of its inputs; with checkpointing only the inputs are kept for the backward pass."""
        if self.config.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(part, *inputs, use_reentrant=False)
        return part(*inputs)

    def _attend(self, attention: nn.Module, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return v, h + attention(h)

    def nats(self, codes: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Nats of each code (B, t, h, w), and the outputs (B, t, h, w, D)."""
        outputs = self(codes, condition)
        return self.head.loss(outputs, codes[..., None]), outputs

"""The axial transformer's decoder of a step in raster order, given what the blocks before it know of earlier steps.

The blocks of the network read whole earlier steps. Two groups of blocks follow, which read the step itself: the first
sees every row above a token in full, the second the tokens to its left. So a token is predicted from all tokens before
it, while every attention runs along one axis.

Letters: B batch, T steps, S = h*w tokens per step, n tokens of the first rows of a step, D width.
Source: Axial Transformer (arXiv:1912.12180) section 3.2, outer and inner decoder. Differs: axes are summed within a
layer, not chained.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.dynamics.conditioning import ConditionalNorm, Modulation
from worldmodel.dynamics.gpt.blocks import Attention, Block, BlockCondition
from worldmodel.dynamics.gpt.config import GPTConfig
from worldmodel.layers.axial import GridAttention


class AxialDecoder(nn.Module):
    """Features that predict the tokens of a step, from what is known of earlier steps and the tokens before each."""

    def __init__(self, config: GPTConfig, grid: tuple[int, int], condition_width: int) -> None:
        super().__init__()
        self.grid = grid

        def blocks(count: int, columns: bool) -> nn.ModuleList:
            make = partial(GridAttention, config.width, config.heads, columns)
            return nn.ModuleList(Block(config, make, condition_width) for _ in range(count))

        _, above, left = config.axial_layers
        self.above, self.left = blocks(above, columns=True), blocks(left, columns=False)
        self.edge = nn.Parameter(torch.randn(config.width).mul_(0.02))  # stands left of the first token of a row

    def forward(self, known: Tensor, own: Tensor, conditions: Sequence[BlockCondition]) -> Tensor:
        """What is known of earlier steps and the content of the step's own tokens, (B, T, S, D) each -> (B, T, S, D).

        Output s depends on `known`, and on `own` of the tokens before s only.
        """
        height, width = self.grid
        rows = self.read_rows(known, own, conditions)
        below = F.pad(rows[:, :, : (height - 1) * width], (0, 0, width, 0))  # each row reads the one above it
        tokens = own.unflatten(2, self.grid)
        edge = self.edge.expand(*tokens.shape[:-2], 1, -1)
        shifted = torch.cat((edge, tokens[..., :-1, :]), dim=-2).flatten(2, 3)
        return self.read_left(known + below + shifted, conditions, height)

    def read_rows(self, known: Tensor, own: Tensor, conditions: Sequence[BlockCondition]) -> Tensor:
        """Features of the first rows of steps, (B, T, n, D), each with all of its row and the rows above it."""
        return _run(self.above, known + own, conditions[: len(self.above)], known.shape[2] // self.grid[1])

    def read_left(self, x: Tensor, conditions: Sequence[BlockCondition], height: int) -> Tensor:
        """Features of `height` rows, (B, T, n, D), each with the tokens to its left and its own."""
        return _run(self.left, x, conditions[len(self.above) :], height)


def _run(blocks: nn.ModuleList, x: Tensor, conditions: Sequence[BlockCondition], height: int) -> Tensor:
    rows, steps, tokens, _ = x.shape

    def attend(attention: Attention, y: Tensor) -> Tensor:
        assert isinstance(attention, GridAttention)
        return attention(y.reshape(rows * steps, height, tokens // height, -1)).view_as(y)

    for block, condition in zip(blocks, conditions, strict=True):
        x = block(x, condition, attend)
    return x


class AxialPass:
    """The tokens of a step in sequence: the decoder for one token after the other."""

    def __init__(
        self,
        decoder: AxialDecoder,
        known: Tensor,
        conditions: Sequence[BlockCondition],
        norm: ConditionalNorm,
        last: Modulation,
    ) -> None:
        """`known` (B, S, D) of the step that is drawn; conditions and `last` have one step."""
        self._decoder, self._known, self._conditions, self._norm, self._last = decoder, known, conditions, norm, last
        self._own: list[Tensor] = []  # content (B, 1, D) of each drawn token
        self._row = known  # of the current row, (B, w, D): what is known of earlier steps and of the rows above

    def __call__(self, content: Tensor, position: int) -> Tensor:
        """Content of the token before `position` (B, 1, D), unused at 0 -> the output that predicts it, (B, 1, D)."""
        decoder, width = self._decoder, self._decoder.grid[1]
        if position:
            self._own.append(content)
        place = position % width
        if not place:
            self._row = self._known[:, position : position + width]
            if position:
                drawn = torch.cat(self._own, dim=1)[:, None]
                rows = decoder.read_rows(self._known[:, None, :position], drawn, self._conditions)
                self._row = self._row + rows[:, 0, -width:]
        edge = decoder.edge.expand(len(content), 1, -1)
        shifted = torch.cat((edge, *self._own[position - place : position]), dim=1)
        x = decoder.read_left((self._row[:, : place + 1] + shifted)[:, None], self._conditions, 1)
        return self._norm(x, self._last)[:, 0, -1:]

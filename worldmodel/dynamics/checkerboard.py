"""Checkerboard order: the second half of a step's tokens is drawn given the first half's codes around each of them.

Block order predicts all tokens of a step in one pass and draws them independently, so that an object between two tokens
can land in both or in neither. Here the "black" tokens of a checkerboard are drawn first; a "white" token then reads
the codes drawn above, below, left and right of it. The transformer still runs once: only the code head runs per half.

Letters: S = h*w tokens per step, M slices, V codes, U hidden units of the code head.
Source: the checkerboard context model of learned image compression (arXiv:2103.15306). Differs: the four nearest
neighbours in place of a masked 5 x 5 convolution, by look-up.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.layers.precision import EmbeddingSum


class Checkerboard(nn.Module):
    """What the codes around a white token say about its own."""

    black: Tensor  # indices of the tokens that are drawn first, (ceil(S/2),)
    white: Tensor  # of the others, (floor(S/2),)
    around: Tensor  # indices of the four tokens around each white one, (floor(S/2), 4); S stands for outside
    first: Tensor  # first entry of the table of each side and slice, (4, M)

    def __init__(self, grid: tuple[int, int], num_slices: int, num_codes: int, hidden: int) -> None:
        super().__init__()
        self.num_codes = num_codes
        self.tables = EmbeddingSum(4 * num_slices * (num_codes + 1), hidden)  # the last entry of each table: outside
        nn.init.zeros_(self.tables.weight)  # at first the halves do not depend on each other
        height, width = grid
        colours = [(token // width + token % width) % 2 for token in range(height * width)]
        black, white = (torch.tensor([t for t, its in enumerate(colours) if its == one]).long() for one in (0, 1))
        index = F.pad(torch.arange(height * width).view(height, width), (1, 1, 1, 1), value=height * width)
        around = torch.stack((index[:-2, 1:-1], index[2:, 1:-1], index[1:-1, :-2], index[1:-1, 2:]), dim=-1)
        first = torch.arange(4 * num_slices).view(4, num_slices) * (num_codes + 1)
        self.register_buffer("black", black, persistent=False)
        self.register_buffer("white", white, persistent=False)
        self.register_buffer("around", around.flatten(0, 1)[white], persistent=False)
        self.register_buffer("first", first, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes (..., S, M), of which only black tokens are read -> hints for the white tokens (..., S // 2, U)."""
        outside = F.pad(codes, (0, 0, 0, 1), value=self.num_codes)
        entries = outside.index_select(-2, self.around.flatten()).unflatten(-2, self.around.shape) + self.first
        return self.tables(entries.flatten(-2))

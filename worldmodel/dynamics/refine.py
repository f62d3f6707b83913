"""Refinement in block order: a step's tokens are drawn in several passes, each told the tokens drawn before it.

Letters: B batch, T steps, S tokens per step, E features of a token's code vectors, D width.
Source: MaskGIT (arXiv:2202.04200). Differs: each pass draws a random share of the tokens, instead of drawing all and
keeping the surest; so every token is drawn once, and from the model's distribution.
"""

import torch
from torch import Tensor, nn

from worldmodel.layers.precision import Linear


class Hints(nn.Module):
    """What the input of a step is told of the step it predicts: the known tokens, and which ones are not."""

    def __init__(self, code_dim: int, width: int) -> None:
        super().__init__()
        self.told = Linear(code_dim, width, bias=False)
        self.masked = nn.Parameter(torch.zeros(width))

    def forward(self, vectors: Tensor, known: Tensor | None) -> Tensor:
        """Code vectors (..., S, E) of the predicted steps, known (..., S) bool, None: nothing is -> (..., S, D)."""
        if known is None:
            return self.masked.expand(*vectors.shape[:-1], -1)
        return torch.where(known[..., None], self.told(vectors).float(), self.masked)


def draw_groups(noise: Tensor, passes: int) -> Tensor:
    """The pass that draws each token: noise (..., S) -> (..., S) int64 in [0, passes), of equal shares."""
    rank = noise.argsort(-1).argsort(-1)
    return rank * passes // noise.shape[-1]


def random_known(rows: int, steps: int, tokens: int, passes: int, device: torch.device) -> Tensor:
    """Tokens known in a random pass of every step, (B, T, S) bool, for training."""
    groups = draw_groups(torch.rand(rows, steps, tokens, device=device), passes)
    return groups < torch.randint(passes, (rows, steps, 1), device=device)

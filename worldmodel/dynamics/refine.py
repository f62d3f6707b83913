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


def known_in_passes(shape: tuple[int, int, int], passes: int, training: bool, device: torch.device) -> list[Tensor]:
    """What is known in each pass over steps (B, T, S) bool that are given: in training in one random pass of each step.

    Else in all passes one after the other, as a dream draws them; the groups are then always the same ones.
    """
    if passes == 1:
        return [torch.zeros(shape, dtype=torch.bool, device=device)]
    generator = None if training else torch.Generator(device).manual_seed(0)
    groups = draw_groups(torch.rand(shape, device=device, generator=generator), passes)
    if training:
        return [groups < torch.randint(passes, (*shape[:2], 1), device=device)]
    return [groups < now for now in range(passes)]

"""Refinement in block order: draw a step's tokens in several passes, each conditioned on the tokens drawn before.

Letters: B batch, T steps, S tokens per step, E features of a token's code vectors, D width.
Source: MaskGIT (arXiv:2202.04200). Differs: each pass draws a random share of the tokens instead of drawing all and
keeping the most confident; so every token is drawn once, from the model's distribution.
"""

import torch
from torch import Tensor, nn

from worldmodel.layers.precision import Linear


class Hints(nn.Module):
    """Adds the known tokens of the predicted step to its input, and a mask vector for the unknown ones."""

    def __init__(self, code_dim: int, width: int) -> None:
        super().__init__()
        self.told = Linear(code_dim, width, bias=False)
        self.masked = nn.Parameter(torch.zeros(width))

    def forward(self, vectors: Tensor, known: Tensor | None) -> Tensor:
        """Code vectors (..., S, E) of the predicted steps, known (..., S) bool (None: none) -> (..., S, D)."""
        if known is None:
            return self.masked.expand(*vectors.shape[:-1], -1)
        return torch.where(known[..., None], self.told(vectors).float(), self.masked)


def draw_groups(noise: Tensor, passes: int) -> Tensor:
    """Index of the pass that draws each token: noise (..., S) -> (..., S) int64 in [0, passes), in equal shares."""
    rank = noise.argsort(-1).argsort(-1)
    return rank * passes // noise.shape[-1]


def known_in_passes(shape: tuple[int, int, int], passes: int, training: bool, device: torch.device) -> list[Tensor]:
    """Known tokens per pass, over context steps (B, T, S) bool: in training one random pass for each step.

    Otherwise all passes in sequence, as in a dream, always with the same groups.
    """
    if passes == 1:
        return [torch.zeros(shape, dtype=torch.bool, device=device)]
    generator = None if training else torch.Generator(device).manual_seed(0)
    groups = draw_groups(torch.rand(shape, device=device, generator=generator), passes)
    if training:
        return [groups < torch.randint(passes, (*shape[:2], 1), device=device)]
    return [groups < now for now in range(passes)]


def known_in_last_pass(tokens: int, passes: int, device: torch.device) -> Tensor:
    """Tokens of a step that are known in its last pass, (S,) bool, always the same ones: for steps that are given."""
    noise = torch.rand(tokens, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
    return (draw_groups(noise, passes) < passes - 1).to(device)

"""The nine codes of a token: its top code, then the eight bottom codes below it.

Letters: B batch, T steps, h w grid of tokens, V codes.
A step of four frames is one slice of the top, (h, w), and two slices of the bottom, its half-steps, (2h, 2w).
Source: Predicting Video with VQVAE, section 3.1: latents of 4 x 32 x 32 and 8 x 64 x 64.
"""

from typing import NamedTuple

from torch import Tensor

from worldmodel.tokenizer.hierarchical import join_levels, split_levels

SLICES = 9  # codes of a token
HALVES = 2  # half-steps of a step


class Levels(NamedTuple):
    """The codes of some steps, level by level."""

    top: Tensor  # (B, T, h, w)
    bottom: Tensor  # (B, 2T, 2h, 2w), half-step by half-step


def split(codes: Tensor) -> Levels:
    """Codes (B, T, h, w, 9), or anything of that order, level by level."""
    return Levels(*split_levels(codes))


def join(levels: Levels) -> Tensor:
    """Inverse of `split`: (B, T, h, w, 9)."""
    return join_levels(*levels)

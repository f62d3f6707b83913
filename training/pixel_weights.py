"""Weights of pixels in a tokenizer's loss, so that small, rare objects count as much as large areas.

A projectile of four pixels hardly moves the mean squared error of a picture, so a tokenizer learns to omit it,
although it decides the game. Its colours give it away: they are rare.

Letters: B batch, T steps, F frames, H W C pixels, L levels of a channel.
"""

import torch
from torch import Tensor

_COUNTED_AT_ONCE = 64  # entries of the first axis: eight bytes per pixel are needed for each


class RarityWeights:
    """A pixel's weight is the share of its colour to the power -`power`, mean 1 over the play, at most `limit`.

    Args:
        counts: (L^C,) pixels of each colour, channels in order, the last one fastest.
        power: 0 weighs all alike, 0.5 gives a colour a hundred times as rare ten times the weight.
        limit: of the weights, before the last normalisation.
    """

    def __init__(self, counts: Tensor, power: float, limit: float) -> None:
        share = counts.double() / counts.sum()
        rarest = share[share > 0].min()
        weights = share.clamp(min=rarest) ** -power  # a colour that was not met is as rare as the rarest
        weights = (weights / (share * weights).sum()).clamp(max=limit)
        self.table = (weights / (share * weights).sum()).float()

    def __call__(self, frames: Tensor) -> Tensor:
        """Frames (B, T, F, H, W, C) uint8 -> weights (B, T, F, H, W) float32."""
        self.table = self.table.to(frames.device)
        return self.table[colours(frames, levels(frames.shape[-1]))]


def rarity_weights(frames: Tensor, power: float, limit: float) -> RarityWeights:
    """Those of the play that frames (…, C) uint8 are drawn from."""
    channels = frames.shape[-1]
    count = levels(channels)
    counts = torch.zeros(count**channels, dtype=torch.int64, device=frames.device)
    for piece in frames.split(_COUNTED_AT_ONCE):
        counts += torch.bincount(colours(piece, count).flatten(), minlength=len(counts))
    return RarityWeights(counts, power, limit)


def levels(channels: int) -> int:
    """L: 16 of each of three channels, 64 of a single one; about 4,096 colours at most."""
    return {1: 64, 2: 64, 3: 16}.get(channels, 8)


def colours(frames: Tensor, count: int) -> Tensor:
    """The number of each pixel's colour, (…, C) uint8 -> (…) int64, with `count` levels of a channel."""
    numbers = torch.zeros(frames.shape[:-1], dtype=torch.int64, device=frames.device)
    for channel in frames.unbind(-1):
        numbers = numbers * count + channel.long() * count // 256
    return numbers

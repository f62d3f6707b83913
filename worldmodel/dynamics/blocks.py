"""One layer of the GPT: attention, then feed-forward, each on a conditional norm and added to the residual stream.

Letters: B batch, T steps, S tokens per step, D width, C width of the condition, R features of the given frames.
Source: VideoGen (OpenReview 3InxcRQsYLf) section 3.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.dynamics.conditioning import ConditionalNorm, Modulation
from worldmodel.dynamics.config import GPTConfig
from worldmodel.layers.attention import WindowAttention
from worldmodel.layers.axial import AxialWindowAttention
from worldmodel.layers.cpu.dropout import Dropout
from worldmodel.layers.precision import Linear

Attend = Callable[[WindowAttention | AxialWindowAttention, Tensor], Tensor]


class FeedForward(nn.Module):
    """D -> 4D -> D; the vector of the given frames, if any, stands beside each token's D features."""

    def __init__(self, width: int, frame_features: int = 0) -> None:
        super().__init__()
        self.rise, self.fall = Linear(width, 4 * width), Linear(4 * width, width)
        # Concatenation as two products and a sum, so that the vector is multiplied once and not once per token.
        self.frame = Linear(frame_features, 4 * width, bias=False) if frame_features else None

    def tell(self, frames: Tensor | None) -> Tensor | None:
        """What the vector of the given frames (B, R) adds to every token, (B, 1, 1, 4D)."""
        return None if self.frame is None else self.frame(frames)[:, None, None]

    def forward(self, x: Tensor, told: Tensor | None) -> Tensor:
        """x (B, T, S, D) -> (B, T, S, D)."""
        return self.fall(self.rise.gelu(x) if told is None else F.gelu(self.rise(x) + told))


class Told(NamedTuple):
    """A condition as one block reads it: the same for all tokens of a step."""

    attention: Modulation
    forward: Modulation
    frames: Tensor | None  # (B, 1, 1, 4D)

    def of_last(self) -> "Told":
        """What the last step is told."""
        return Told(self.attention.of_last(), self.forward.of_last(), self.frames)


def attention_parts(config: GPTConfig) -> int:
    """Entries of one block in the cache."""
    return WindowAttention.parts if config.attention == "full" else AxialWindowAttention.parts


class Block(nn.Module):
    """Attention, then feed-forward."""

    def __init__(self, config: GPTConfig, grid: tuple[int, int]) -> None:
        super().__init__()
        self.norm_attention = ConditionalNorm(config.width, config.condition_width)
        self.norm_forward = ConditionalNorm(config.width, config.condition_width)
        self.attention = (
            WindowAttention(config.width, config.heads)
            if config.attention == "full"
            else AxialWindowAttention(config.width, config.heads, grid)
        )
        features = config.frame_encoder.features if config.frame_condition else 0
        self.forward_part = FeedForward(config.width, features)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, told: Told, attend: Attend) -> Tensor:
        """x (B, T, S, D) -> the same shape, or the last step alone (B, 1, S, D) if `attend` gives no more.

        `attend` runs the attention on (B, T*S, D).
        """
        mixed = attend(self.attention, self.norm_attention(x, told.attention).flatten(1, 2))
        if mixed.shape[1] != x.shape[1] * x.shape[2]:
            x, told = x[:, -1:], told.of_last()
        x = x + self._dropped(mixed).view_as(x)
        return x + self._dropped(self.forward_part(self.norm_forward(x, told.forward), told.frames))

    def _dropped(self, x: Tensor) -> Tensor:
        return self.dropout(x) if self.training else x  # a module that does nothing takes time too

"""One layer of the GPT: attention, then feed-forward, each on a conditional norm and added to the residual stream.

Letters: B batch, T steps, S tokens per step, D width, C width of the condition, R features of the given frames.
Source: VideoGen (OpenReview 3InxcRQsYLf) section 3.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.dynamics.conditioning import Condition, ConditionalNorm
from worldmodel.dynamics.config import GPTConfig
from worldmodel.layers.attention import WindowAttention
from worldmodel.layers.axial import AxialWindowAttention
from worldmodel.layers.precision import Linear

Attend = Callable[[WindowAttention | AxialWindowAttention, Tensor], Tensor]


class FeedForward(nn.Module):
    """D -> 4D -> D; the vector of the given frames, if any, stands beside each token's D features."""

    def __init__(self, width: int, frame_features: int = 0) -> None:
        super().__init__()
        self.rise, self.fall = Linear(width, 4 * width), Linear(4 * width, width)
        # Concatenation as two products and a sum, so that the vector is multiplied once and not once per token.
        self.frame = Linear(frame_features, 4 * width, bias=False) if frame_features else None

    def forward(self, x: Tensor, frames: Tensor | None) -> Tensor:
        """x (B, T, S, D), frames (B, R) -> (B, T, S, D)."""
        hidden = self.rise(x)
        if self.frame is not None:
            hidden = hidden + self.frame(frames)[:, None, None]
        return self.fall(F.gelu(hidden))


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
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, condition: Condition, attend: Attend) -> Tensor:
        """x (B, T, S, D); `attend` runs the attention on (B, T*S, D)."""
        mixed = attend(self.attention, self.norm_attention(x, condition.steps).flatten(1, 2))
        x = x + self.dropout(mixed).view_as(x)
        return x + self.dropout(self.forward_part(self.norm_forward(x, condition.steps), condition.frames))

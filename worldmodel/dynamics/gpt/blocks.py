"""One layer of the GPT: attention, then feed-forward, each after a conditional norm and with a residual connection.

Letters: B batch, T steps, S tokens per step, D width, C width of the condition, R features of the frame vector.
Source: VideoGen (OpenReview 3InxcRQsYLf) section 3.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.dynamics.conditioning import ConditionalNorm, Modulation
from worldmodel.dynamics.gpt.config import GPTConfig
from worldmodel.layers.attention import WindowAttention
from worldmodel.layers.axial import AxialWindowAttention, GridAttention
from worldmodel.layers.cpu.dropout import Dropout
from worldmodel.layers.precision import Linear

Attention = WindowAttention | AxialWindowAttention | GridAttention
Attend = Callable[[Attention, Tensor], Tensor]


class FeedForward(nn.Module):
    """D -> 4D -> D; the frame vector, if any, is concatenated to the D features of each token."""

    def __init__(self, width: int, frame_features: int = 0) -> None:
        super().__init__()
        self.rise, self.fall = Linear(width, 4 * width), Linear(4 * width, width)
        # Concatenation as the sum of two matmuls, so that the vector is multiplied once instead of once per token.
        self.frame = Linear(frame_features, 4 * width, bias=False) if frame_features else None

    def frame_bias(self, frames: Tensor | None) -> Tensor | None:
        """What the frame vector (B, R) adds to the hidden units of every token, (B, 1, 1, 4D)."""
        return None if self.frame is None else self.frame(frames)[:, None, None]

    def forward(self, x: Tensor, frame_bias: Tensor | None) -> Tensor:
        """x (B, T, S, D) -> (B, T, S, D)."""
        return self.fall(self.rise.gelu(x) if frame_bias is None else F.gelu(self.rise(x) + frame_bias))


class BlockCondition(NamedTuple):
    """The condition of one block, shared by all tokens of a step."""

    attention: Modulation
    forward: Modulation
    frames: Tensor | None  # (B, 1, 1, 4D)

    def map(self, change: Callable[[Tensor], Tensor]) -> "BlockCondition":
        """A function of all tensors, each."""
        frames = None if self.frames is None else change(self.frames)
        return BlockCondition(self.attention.map(change), self.forward.map(change), frames)

    def of_last(self) -> "BlockCondition":
        """The condition of the last step."""
        return BlockCondition(self.attention.of_last(), self.forward.of_last(), self.frames)

    def flat(self) -> "BlockCondition":
        """The condition of a single step, with tensors (B, D) and (B, 4D)."""
        return self.map(lambda part: part[:, 0, 0])


def attention_parts(config: GPTConfig) -> int:
    """Cache entries of one block."""
    return WindowAttention.parts if config.attention == "full" else AxialWindowAttention.parts


def make_attention(config: GPTConfig, grid: tuple[int, int]) -> WindowAttention | AxialWindowAttention:
    """Attention to the last steps."""
    if config.attention == "full":
        return WindowAttention(config.width, config.heads)
    return AxialWindowAttention(config.width, config.heads, grid)


class Block(nn.Module):
    """Attention, then feed-forward."""

    def __init__(self, config: GPTConfig, make: Callable[[], Attention], condition_width: int) -> None:
        super().__init__()
        self.norm_attention = ConditionalNorm(config.width, condition_width)
        self.norm_forward = ConditionalNorm(config.width, condition_width)
        self.attention = make()
        features = config.frame_encoder.features if config.frame_condition else 0
        self.forward_part = FeedForward(config.width, features)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, condition: BlockCondition, attend: Attend) -> Tensor:
        """x (B, T, S, D) -> the same shape, or only the last step (B, 1, S, D) if `attend` returns only that.

        `attend` runs the attention on (B, T*S, D).
        """
        mixed = attend(self.attention, self.norm_attention(x, condition.attention).flatten(1, 2))
        if mixed.shape[1] != x.shape[1] * x.shape[2]:
            x, condition = x[:, -1:], condition.of_last()
        x = x + self._dropped(mixed).view_as(x)
        return x + self._dropped(self.forward_part(self.norm_forward(x, condition.forward), condition.frames))

    def _dropped(self, x: Tensor) -> Tensor:
        return self.dropout(x) if self.training else x  # calling a module that does nothing still costs time

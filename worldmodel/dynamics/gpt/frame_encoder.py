"""FrameEncoder: encodes the first frames as one vector, by a ResNet trained together with the dynamics.

Letters: B batch, T first steps, F frames of a step, H W C pixels, R features of the vector.
Source: VideoGen (OpenReview 3InxcRQsYLf) section 3, ResNet-34 with 512 features; residual blocks, arXiv:1512.03385.
Differs: channel LayerNorm instead of batch norm; no max-pooling after the stem, because frames of 64 pixels are small.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from worldmodel.layers.conv import ChannelNorm
from worldmodel.layers.precision import Conv3d
from worldmodel.settings import PositiveInt, checked_dataclass
from worldmodel.shapes import frames_to_model


@checked_dataclass
class FrameEncoderConfig:
    """Shape of the residual net; the default is ResNet-34."""

    width: PositiveInt = 64  # channels of the first group, doubled in each later group
    # Blocks per group; height and width halve between groups.
    depths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (3, 4, 6, 3)

    @property
    def features(self) -> int:
        """R: 512 by default."""
        return self.width * 2 ** (len(self.depths) - 1)


class _ResidualBlock(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Conv3d(width_in, width, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False)
        self.conv2 = Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(width)
        same = stride == 1 and width_in == width
        self.skip = nn.Identity() if same else Conv3d(width_in, width, 1, stride=(1, stride, stride), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.norm1(self.conv1(x))))
        return F.relu(self.norm2(y) + self.skip(x))


class FrameEncoder(nn.Module):
    """Frames -> one vector of R features; `null` represents missing frames."""

    def __init__(self, config: FrameEncoderConfig, read: int, channels: int, given: int | None = None) -> None:
        """Read the last `read` of the T*F = `given` (None: `read`) first frames, which have `channels` channels."""
        super().__init__()
        self.read, self.channels, self.given = read, channels, given or read
        self.stem = Conv3d(read * channels, config.width, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False)
        self.norm = ChannelNorm(config.width)
        blocks, width_in = [], config.width
        for group, depth in enumerate(config.depths):
            width = config.width * 2**group
            for index in range(depth):
                blocks.append(_ResidualBlock(width_in, width, stride=2 if group and not index else 1))
                width_in = width
        self.blocks = nn.Sequential(*blocks)
        self.null = nn.Parameter(torch.randn(config.features).mul_(0.02))

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (B, T, F, H, W, C) uint8 -> (B, R) float32."""
        if (frames.shape[1] * frames.shape[2], frames.shape[-1]) != (self.given, self.channels):
            raise ValueError(
                f"there must be {self.given} first frames (steps x frames) of {self.channels} channels, got frames "
                f"{tuple(frames.shape)}; pass the first frame_condition steps"
            )
        x = frames_to_model(frames.flatten(1, 2)[:, -self.read :]).flatten(1, 2).unsqueeze(2)  # (B, C*read, 1, H, W)
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        return x.float().mean((2, 3, 4))

"""3-D convolutions: channel norm, attention residual blocks, strided down- and up-sampling.

Tensors here are (B, C, t, h, w) in channels_last_3d memory, in which a kernel of one in time costs no more than a
2-D convolution (docs/performance.md).
Source: VideoGen (arXiv:2104.10157) section 3 and figure 3.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.layers.attention import AxialAttention
from worldmodel.layers.position import BroadcastPosition
from worldmodel.layers.precision import Conv3d


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, t, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(1, -1).to(self.weight.dtype)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).movedim(-1, 1)


class AttentionResidualBlock(nn.Module):
    """x + attention(conv1(conv3(x))), each part after norm and ReLU; the position table is shared by all blocks."""

    def __init__(self, width: int, units: int, heads: int, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.norm_in, self.norm_mid, self.norm_out = ChannelNorm(width), ChannelNorm(units), ChannelNorm(width)
        self.conv3 = Conv3d(width, units, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.conv1 = Conv3d(units, width, 1, bias=False)
        self.attention = AxialAttention(width, heads, axes)

    def forward(self, x: Tensor, position: BroadcastPosition) -> Tensor:
        y = self.conv3(F.relu(self.norm_in(x)))
        y = self.conv1(F.relu(self.norm_mid(y)))
        y = F.relu(self.norm_out(y)).movedim(1, -1) + position()
        return x + self.attention(y).movedim(-1, 1)

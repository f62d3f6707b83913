"""3-D convolutions: "same" and causal padding, channel norms, residual blocks with and without attention.

Tensors are (B, C, t, h, w) in channels_last_3d memory, where a kernel of size one in time costs no more than a 2-D
convolution (docs/performance.md). Kernel k, stride s.
Source: VideoGen (arXiv:2104.10157) section 3 and figure 3. Differs: LayerNorm over channels as in its text, or
BatchNorm as in its authors' code; causal convolutions are our addition.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.layers.attention import AxialAttention
from worldmodel.layers.position import BroadcastPosition
from worldmodel.layers.precision import Conv3d, ConvTranspose3d, follow

Triple = tuple[int, int, int]  # of t, h, w
NormKind = Literal["layer", "batch"]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, t, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(1, -1).to(self.weight.dtype)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).movedim(-1, 1)


class BatchNorm(nn.BatchNorm3d):
    """BatchNorm of (B, C, t, h, w), computed in the dtype of its weight."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


def make_norm(kind: NormKind, width: int) -> nn.Module:
    """A norm for (B, width, t, h, w)."""
    return ChannelNorm(width) if kind == "layer" else BatchNorm(width)


class SameConv3d(Conv3d):
    """Convolution with output size = input size / s: pads k - s zeros along each axis, the larger half in front.

    With `causal`, all zeros of the time axis are in front, so that no output depends on a later input.
    """

    def __init__(
        self, ins: int, outs: int, kernel: Triple, stride: Triple = (1, 1, 1), causal: bool = False, bias: bool = True
    ) -> None:
        totals = [k - s for k, s in zip(kernel, stride, strict=True)]
        pads = [(total - total // 2, total // 2) for total in totals]
        if causal:
            pads[0] = (totals[0], 0)
        # Padding that is equal on both sides is done by the convolution, which is faster than F.pad.
        equal = [front if front == behind else 0 for front, behind in pads]
        super().__init__(ins, outs, kernel, stride=stride, padding=(equal[0], equal[1], equal[2]), bias=bias)
        rest = [(front - both, behind - both) for (front, behind), both in zip(pads, equal, strict=True)]
        self.pads = [side for pair in reversed(rest) for side in pair]  # in the order of F.pad: w, h, t

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, t, h, w) -> (B, C', t / s, h / s, w / s)."""
        return super().forward(F.pad(x, self.pads) if any(self.pads) else x)


class SameConvTranspose3d(ConvTranspose3d):
    """Transposed convolution with output size = input size * s: cuts k - s outputs, the larger half at the end.

    With `causal`, all cut outputs of the time axis are at the end, so that no output depends on a later input.
    """

    def __init__(self, ins: int, outs: int, kernel: Triple, stride: Triple, causal: bool = False) -> None:
        fronts = [(k - s) // 2 for k, s in zip(kernel, stride, strict=True)]
        if causal:
            fronts[0] = 0
        super().__init__(ins, outs, kernel, stride=stride, padding=(fronts[0], fronts[1], fronts[2]))

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, C, t, h, w) -> (B, C', t * s, h * s, w * s)."""
        sizes = [size * stride for size, stride in zip(x.shape[2:], self.stride, strict=True)]
        x = super().forward(x)
        for axis, size in enumerate(sizes, start=2):
            if x.shape[axis] != size:
                x = x.narrow(axis, 0, size)
        return x


class GridConv(Conv3d):
    """A 3 x 3 convolution of token grids, features last: (N, h, w, E) -> (N, h, w, D).

    Two-dimensional and with features last in memory, because a CPU kernel then rounds each grid independently of the
    others in the batch.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__(features, width, (1, 3, 3), padding=(0, 1, 1), bias=False)

    def forward(self, grids: Tensor) -> Tensor:
        x, weight = follow(grids, self.weight).permute(0, 3, 1, 2), self.weight.squeeze(2)
        return F.conv2d(x, weight, padding=1).permute(0, 2, 3, 1)


class ResidualBlock(nn.Module):
    """x + conv1(relu(conv(relu(x)))), without norms.

    Source: arXiv:1711.00937 section 4.1; the inner convolution has `units` channels.
    """

    def __init__(self, width: int, units: int, kernel: Triple) -> None:
        super().__init__()
        self.conv = SameConv3d(width, units, kernel)
        self.conv1 = Conv3d(units, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, t, h, w) -> the same shape."""
        return x + self.conv1(F.relu(self.conv(F.relu(x))))


class AttentionResidualBlock(nn.Module):
    """x + attention(conv1(conv3(x))), each part after norm and ReLU; all blocks share the position table.

    Without `axes` there is no attention: x + conv1(conv3(x)).
    """

    def __init__(
        self,
        width: int,
        units: int,
        heads: int,
        axes: tuple[int, ...],
        kernel: Triple = (1, 3, 3),
        causal: bool = False,
        norm: NormKind = "layer",
    ) -> None:
        super().__init__()
        self.norm_in, self.norm_mid = make_norm(norm, width), make_norm(norm, units)
        self.norm_out = make_norm(norm, width) if axes else None
        self.conv3 = SameConv3d(width, units, kernel, causal=causal, bias=False)
        self.conv1 = Conv3d(units, width, 1, bias=False)
        self.attention = AxialAttention(width, heads, axes) if axes else None

    def forward(self, x: Tensor, position: BroadcastPosition | None) -> Tensor:
        y = self.conv3(F.relu(self.norm_in(x)))
        y = self.conv1(F.relu(self.norm_mid(y)))
        if self.attention is None or self.norm_out is None or position is None:
            return x + y
        y = F.relu(self.norm_out(y)).movedim(1, -1) + position()
        return x + self.attention(y).movedim(-1, 1)


def attention_share(width: int, units: int, axes: int, kernel: Triple) -> float:
    """Ratio of a block's weights with attention to those without; norms not counted."""
    convolutions = width * units * (kernel[0] * kernel[1] * kernel[2] + 1)
    return (convolutions + axes * 4 * width**2) / convolutions

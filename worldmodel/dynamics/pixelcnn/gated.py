"""Gated convolutions over visible positions only.

Every position of a code grid has an output that depends on the codes before it. Two stacks of features carry them:
the vertical stack sees the rows above, the horizontal stack sees the codes to the left and reads the vertical stack.
Both see the earlier slices. A mask would set the weights of all other positions to zero; here these weights do not
exist: each convolution has the visible window only, and its input is shifted.

Letters: B batch, D width, E features of a code, t slices, h w rows and columns, r = kernel // 2.
Source: Conditional Image Generation with PixelCNN Decoders (arXiv:1606.05328) section 2; Predicting Video with VQVAE
section 3.2: masks in space, earlier slices only in time, and a three-dimensional kernel in the first layer alone.
Ours: a layer reaches back one slice, with a kernel of 3.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.layers.cpu.dropout import Dropout
from worldmodel.layers.precision import Conv3d


class Window(NamedTuple):
    """Offsets of the rows and columns that a convolution reads, first and last."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def kernel(self) -> tuple[int, int, int]:
        return 1, self.bottom - self.top + 1, self.right - self.left + 1

    def pad(self, x: Tensor) -> Tensor:
        """Zeros around (..., h, w), or a cut, so that a convolution of this window has h x w outputs."""
        return F.pad(x, (-self.left, self.right, -self.top, self.bottom))

    def row(self, x: Tensor, y: int) -> Tensor:
        """The part of (..., h, w) that the outputs of row y read, with zeros outside of it."""
        first, last, rows = y + self.top, y + self.bottom + 1, x.shape[-2]
        part = x[..., max(first, 0) : min(last, rows), :]
        return F.pad(part, (-self.left, self.right, max(-first, 0), max(last - rows, 0)))


class Planes(NamedTuple):
    """Windows of a convolution: in its own slice, and in the slice before; None if it reads none."""

    now: Window
    past: Window | None


class PriorShape(NamedTuple):
    """What the two stacks of a prior see. Each entry is a pair: vertical stack, horizontal stack."""

    first: tuple[Planes, Planes]  # reads codes; its own position is not visible (mask A)
    later: tuple[Planes, Planes]  # reads features, which its own position has, too


def top_shape(reach: int, past_full: bool) -> PriorShape:
    """Of slices in time: after the first layer the kernels lie in the planes of rows and time, columns and time."""
    r, ahead = reach, 1 if past_full else 0
    first_past = Window(-r, r, -r, r) if past_full else Window(-r, -1, -r, r)
    return PriorShape(
        (
            Planes(Window(-r, -1, -r, r), first_past),
            Planes(Window(0, 0, -r, -1), Window(0, 0, -r, r if past_full else 0)),
        ),
        (
            Planes(Window(-r, 0, 0, 0), Window(-1, ahead, 0, 0)),
            Planes(Window(0, 0, -r, 0), Window(0, 0, -1, ahead)),
        ),
    )


def bottom_shape(reach: int) -> PriorShape:
    """Of one slice: the two-dimensional PixelCNN."""
    r = reach
    return PriorShape(
        (Planes(Window(-r, -1, -r, r), None), Planes(Window(0, 0, -r, -1), None)),
        (Planes(Window(-r, 0, -r, r), None), Planes(Window(0, 0, -r, 0), None)),
    )


class VisibleConv(nn.Module):
    """The sum of a convolution of the own slice and one of the slice before."""

    def __init__(self, ins: int, outs: int, planes: Planes, gain: float = 1.0) -> None:
        super().__init__()
        self.planes = planes
        self.now = Conv3d(ins, outs, planes.now.kernel)
        self.past = None if planes.past is None else Conv3d(ins, outs, planes.past.kernel, bias=False)
        weights = [part.weight for part in (self.now, self.past) if part is not None]
        inputs = sum(weight[0].numel() for weight in weights)
        for weight in weights:
            nn.init.normal_(weight, std=gain * inputs**-0.5)
        nn.init.zeros_(self.now.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, t, h, w) -> (B, C', t, h, w)."""
        out = self.now(self.planes.now.pad(x))
        earlier = self.earlier(x[:, :, :-1])
        return out if earlier is None else out + F.pad(earlier, (0, 0, 0, 0, 1, 0))

    def earlier(self, x: Tensor) -> Tensor | None:
        """The part of slices x (B, C, t, h, w) in the outputs of the slice after each; None without any."""
        if self.past is None or self.planes.past is None or not x.shape[2]:
            return None
        return self.past(self.planes.past.pad(x))


class FirstConvs(nn.Module):
    """The first layer: code features (B, E, t, h, w) -> both stacks (B, D, t, h, w)."""

    def __init__(self, features: int, width: int, shape: PriorShape) -> None:
        super().__init__()
        vertical, horizontal = shape.first
        self.vertical = VisibleConv(features, width, vertical)
        self.horizontal = VisibleConv(features, width, horizontal)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.vertical(x).float(), self.horizontal(x).float()


def gate(x: Tensor) -> Tensor:
    """tanh(a) * sigmoid(b) of the halves of the channels, the second axis: (B, 2D, …) -> (B, D, …) float32."""
    a, b = x.float().chunk(2, dim=1)
    return a.tanh() * b.sigmoid()


class GatedLayer(nn.Module):
    """One layer of both stacks. The condition enters before the vertical gate, and from there before the other."""

    def __init__(self, width: int, condition_width: int, shape: PriorShape, dropout: float = 0.0) -> None:
        super().__init__()
        vertical, horizontal = shape.later
        # The vertical stack has no residual connection: a larger start keeps its size through gates and edges.
        self.vertical = VisibleConv(width, 2 * width, vertical, gain=4.0)
        self.horizontal = VisibleConv(width, 2 * width, horizontal)
        self.from_condition = Conv3d(condition_width, 2 * width, 1, bias=False)
        self.across = Conv3d(2 * width, 2 * width, 1)
        self.dropout = Dropout(dropout)
        self.out = Conv3d(width, width, 1)

    def forward(self, v: Tensor, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Stacks v and h (B, D, t, h, w), condition (B, C, t, h, w)."""
        above = self.vertical(v) + self.from_condition(condition)
        left = self.horizontal(h) + self.across(above)
        return gate(above), h + self.out(self.dropout(gate(left))).float()

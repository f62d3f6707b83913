"""Draw the codes of a prior one after the other, with intermediate results cached.

A plain sampler runs the whole network for every code. Here the vertical stack runs once for a row, which sees the rows
above it only, and so do all the parts of the horizontal stack that read the vertical one or the slice before. For a
single code there remain its own column of the horizontal stack and of the attention, whose keys and values are kept.

Letters: B rows of the batch (twice as many with guidance), D width, E features of a code, H heads, K features of a
head, t slices, h w rows and columns, S = h*w, r = kernel // 2.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from worldmodel.dynamics.pixelcnn.attention import VoxelAttention
from worldmodel.dynamics.pixelcnn.gated import GatedLayer, VisibleConv, gate
from worldmodel.dynamics.pixelcnn.prior import Prior
from worldmodel.dynamics.sampling import Sampling


class _Step(NamedTuple):
    """Weights of the horizontal stack of a layer, for one position at a time."""

    left: Tensor  # (columns * D, 2D): of the features of the columns up to its own
    out: Tensor  # (D, D)
    bias: Tensor  # (D,)


class Maps(NamedTuple):
    """Features of a slice that the rows below read, (B, channels, 1, h, w) each."""

    codes: Tensor
    vertical: list[Tensor]  # the input of each layer
    horizontal: list[Tensor]


class Before(NamedTuple):
    """The same of the slice before; None if there is none."""

    codes: Tensor | None
    vertical: Sequence[Tensor | None]
    horizontal: Sequence[Tensor | None]


class RowSampler:
    """Draws the slices of a prior in order; `draw` must be called for slice 0, 1, …"""

    def __init__(self, prior: Prior, condition: Tensor, options: Sampling) -> None:
        """`condition`: (B, C, t, h, w) of all slices; with guidance its second half is without conditions."""
        self.prior, self.condition, self.options = prior, condition, options
        self.rows, (self.height, self.width) = len(condition), prior.grid
        config = prior.config
        self.reach, self.features = config.reach, config.width
        weight = prior.first.horizontal.now.weight
        self.dtype = weight.dtype
        self.first = _columns(prior.first.horizontal)
        self.steps = [_step(layer) for layer in self._layers()]
        shape = self.rows, config.heads, condition.shape[2], self.height * self.width, config.width // config.heads
        self.caches = {name: (weight.new_zeros(shape), weight.new_zeros(shape)) for name in prior.attention}
        none = [None] * config.layers
        self.before = Before(None, none, none)

    def draw(self, time: int, noise: Tensor) -> Tensor:
        """The codes of slice `time`, (n, h, w) int64; noise (n, S) float32 in [0, 1)."""
        maps = self.empty()
        rows = [self.draw_row(maps, noise, time, y) for y in range(self.height)]
        self.before = Before(*maps)
        return torch.stack(rows, dim=1)

    def draw_row(self, maps: Maps, noise: Tensor, time: int, y: int) -> Tensor:
        """The codes of row y, (n, w), after the rows above; its features are written into `maps`."""
        return self._codes_of_row(maps, self._row(maps, time, y), noise, time, y)

    def empty(self) -> Maps:
        """Maps of zeros; none of the horizontal stack where no later slice reads it."""
        layers = self.prior.config.layers
        kept = layers if self.prior.shape.later[1].past is not None else 0

        def zeros(channels: int) -> Tensor:
            shape = self.rows, channels, 1, self.height, self.width
            return torch.zeros(shape, dtype=self.dtype, device=self.condition.device)

        vertical, horizontal = ([zeros(self.features) for _ in range(count)] for count in (layers, kept))
        return Maps(zeros(self.prior.codes.embedding_dim), vertical, horizontal)

    def _layers(self) -> list[GatedLayer]:
        return [layer for layer in self.prior.layers if isinstance(layer, GatedLayer)]

    def _row(self, maps: Maps, time: int, y: int) -> list[Tensor]:
        """The vertical stack of row y, and what each horizontal layer gets from it: (w, B, channels) each."""
        first, condition = self.prior.first, self.condition[:, :, time : time + 1, y : y + 1]
        codes, vertical, horizontal = self.before
        v = _now(first.vertical, maps.codes, y) + _past(first.vertical, codes, y)
        bases = [_by_column(_past(first.horizontal, codes, y), first.horizontal, self.width)]
        for number, layer in enumerate(self._layers()):
            maps.vertical[number][:, :, :, y : y + 1] = v
            above = _now(layer.vertical, maps.vertical[number], y) + layer.from_condition(condition)
            above = above + _past(layer.vertical, vertical[number], y)
            base = layer.across(above) + _past(layer.horizontal, horizontal[number], y)
            bases.append(_by_column(base, layer.horizontal, self.width))
            v = gate(above)
        return bases

    def _codes_of_row(self, maps: Maps, bases: list[Tensor], noise: Tensor, time: int, y: int) -> Tensor:
        """Draw the codes of row y, (n, w)."""
        prior, reach = self.prior, self.reach
        read = torch.zeros(self.rows, reach + self.width, maps.codes.shape[1], dtype=self.dtype, device=noise.device)
        shape = self.rows, reach + self.width, self.features
        left = [torch.zeros(shape, dtype=self.dtype, device=noise.device) for _ in self.steps]
        drawn = torch.zeros(len(noise), self.width, dtype=torch.int64, device=noise.device)
        for x in range(self.width):
            place = y * self.width + x
            h = torch.addmm(bases[0][x], read[:, x : x + reach].flatten(1), self.first).float()
            for number, step in enumerate(self.steps, start=1):
                columns = left[number - 1]
                columns[:, x + reach] = h
                pre = torch.addmm(bases[number][x], columns[:, x : x + reach + 1].flatten(1), step.left)
                h = h + torch.addmm(step.bias, gate(pre).to(self.dtype), step.out).float()
                if str(number) in self.caches:
                    attention = prior.attention[str(number)]
                    assert isinstance(attention, VoxelAttention)
                    h = h + attention.of_one(h, time, place, *self.caches[str(number)])
            output = prior.norm(h)[:, None]
            code = prior.head.sample(output, noise[:, place, None, None], self.options).codes[..., 0]  # (n, 1)
            drawn[:, x] = code[:, 0]
            read[:, x + reach] = prior.codes(code.repeat(self.rows // len(noise), 1))[:, 0]
        maps.codes[:, :, 0, y] = read[:, reach:].transpose(1, 2)
        for columns, map_ in zip(left, maps.horizontal, strict=False):  # there may be no maps
            map_[:, :, 0, y] = columns[:, reach:].transpose(1, 2)
        return drawn


def _now(conv: VisibleConv, now: Tensor, y: int) -> Tensor:
    """Row y of the convolution of the own slice, (B, channels, 1, 1, w)."""
    return conv.now(conv.planes.now.row(now, y))


def _past(conv: VisibleConv, before: Tensor | None, y: int) -> Tensor | float:
    """Row y of the convolution of the slice before, if there is one."""
    if before is None or conv.past is None or conv.planes.past is None:
        return 0.0
    return conv.past(conv.planes.past.row(before, y))


def _by_column(base: Tensor | float, conv: VisibleConv, width: int) -> Tensor:
    """Row (B, channels, 1, 1, w), with the bias of a horizontal convolution added -> (w, B, channels)."""
    bias = conv.now.bias
    assert bias is not None
    if isinstance(base, float):
        return bias.expand(width, 1, -1)
    return (base.flatten(2).permute(2, 0, 1) + bias).contiguous()


def _columns(conv: VisibleConv) -> Tensor:
    """Weights of a convolution of one row, (columns * C, C'), for the features of its columns side by side."""
    return conv.now.weight.flatten(2).permute(2, 1, 0).flatten(0, 1).contiguous()


def _step(layer: GatedLayer) -> _Step:
    out, bias = layer.out.weight.flatten(1).t().contiguous(), layer.out.bias
    assert bias is not None
    return _Step(_columns(layer.horizontal), out, bias)

"""Draw a slice position by position: one row of the decoder each, with the keys and values of those before it.

Computes what `SliceDecoder` computes for a whole slice. What does not depend on the position (context, gains and
biases, the bias of attention) is prepared once per slice.

Letters: R rows, N positions of a slice (t, h, w), k live taps, n books, D width, H heads, K features of one head.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from worldmodel.dynamics.conditioning import ConditionalNorm, Modulation
from worldmodel.dynamics.subscale.blocks import Block
from worldmodel.dynamics.subscale.context_encoder import NO_CODE
from worldmodel.dynamics.subscale.relative_attention import Projected
from worldmodel.dynamics.subscale.slice_decoder import SliceDecoder
from worldmodel.layers.cpu.attention import attend_one


class _Layer:
    """One block, its modulations, and the keys and values of the positions so far."""

    def __init__(self, block: Block, modulations: Sequence[Modulation], rows: int, count: int) -> None:
        attention = block.attention
        self.attention, self.out, self.rise, self.fall = attention, attention.out, block.rise, block.fall
        self.norms = block.norm_attention.forward, block.norm_forward.forward
        self.flat = [_flat(modulation) for modulation in modulations]
        self.rows, self.heads, self.features = rows, attention.heads, attention.head_width
        self.scorer, self.relative = attention.scorer(), attention.kind == "relative"
        make = attention.out.weight.new_empty
        # Per head and row; distances alone weight all rows alike, so that their values lie side by side.
        each = (self.heads, count, rows * self.features) if self.relative else (rows * self.heads, count, self.features)
        self.values = make(each)
        self.keys = make(each if self.scorer is None else each[:2]) if not self.relative else None

    def remember(self, parts: Projected, first: int) -> None:
        """Store keys and values of the positions from `first`."""
        many = slice(first, first + parts.values.shape[1])
        if self.relative:
            self.values[:, many] = parts.values.permute(2, 1, 0, 3).flatten(2)
            return
        self.values[:, many] = parts.values.transpose(1, 2).flatten(0, 1)
        assert self.keys is not None and parts.keys is not None
        self.keys[:, many] = parts.keys.transpose(1, 2).flatten(0, 1)

    def __call__(self, x: Tensor, position: int, frame: int, bias: Tensor) -> Tensor:
        """x (R, D) at a position; the bias (H, 1, seen) of those that it may see, itself the last."""
        before_attention, before_forward = self.flat[0][frame], self.flat[1][frame]
        parts = self.attention.project(self.norms[0](x, before_attention).unsqueeze(1), self.scorer)
        self.remember(parts, position)
        seen = slice(0, position + 1)
        if self.relative:
            mixed = bias.softmax(-1) @ self.values[:, seen]  # (H, 1, R*K)
            mixed = mixed.view(self.heads, self.rows, -1).transpose(0, 1)
        else:
            assert self.keys is not None
            values = self.values[:, seen]
            if parts.queries is None:
                mixed = (self.keys[:, None, seen] + bias).softmax(-1) @ values
            else:
                query = parts.queries.reshape(-1, 1, self.features)
                mixed = attend_one(query, self.keys[:, seen], values, bias)
        x = x + self.out.forward(mixed.reshape(self.rows, -1))
        hidden = self.rise.forward(self.norms[1](x, before_forward)).relu_()
        return x + self.fall.forward(hidden)


class PixelPass:
    """The decoder for the positions of R slices, in order from the first."""

    def __init__(
        self,
        decoder: SliceDecoder,
        norm: ConditionalNorm,
        context: Tensor,
        modulations: Sequence[Modulation],
        last: Modulation,
    ) -> None:
        """`context` (R, t, h, w, D); `modulations` of the decoder's norms, `last` of the `norm` after it."""
        self.decoder, self.norm, self.last = decoder, norm, _flat(last)
        self.base = decoder.base(context).flatten(1, 3) + decoder.conv.bias.float()
        rows, count = self.base.shape[:2]
        self.frame = decoder.shape[1] * decoder.shape[2]  # positions of a frame of the slice
        self.modulations = modulations
        self.table = decoder.table()
        biases = decoder.stack.biases()
        self.biases = biases if isinstance(biases, Tensor) else torch.stack(biases)  # (layers, H, N, N)
        self.biases = self.biases.to(decoder.conv.weight.dtype)
        pairs = zip(modulations[::2], modulations[1::2], strict=True)
        self.layers = [_Layer(block, pair, rows, count) for block, pair in zip(decoder.stack.each, pairs, strict=True)]
        self.repeats = 1 if decoder.stack.each[0].attention.kind == "relative" else rows
        # Codes so far; the last entry stands for positions outside.
        self.codes = torch.full((rows, count + 1, decoder.books), NO_CODE, dtype=torch.int64, device=self.base.device)

    def begin(self, codes: Tensor) -> Tensor:
        """Take given codes (R, t', h, w, n) of the first frames of the slice; their outputs (R, t'*h*w, D)."""
        frames = codes.shape[1]
        count = frames * self.frame
        self.codes[:, :count] = codes.flatten(1, 3)
        content = self.decoder.content(codes).flatten(1, 3) - self.decoder.conv.bias.float()
        x = (content + self.base[:, :count]).unflatten(1, (frames, -1))
        cut = [modulation.map(lambda part: part[:, :frames]) for modulation in self.modulations]
        x = self.decoder.stack(x, cut, lambda index, parts: self.layers[index].remember(parts, 0))
        last = [modulation.map(lambda part: part.unsqueeze(1)) for modulation in self.last[:frames]]
        return torch.cat([self.norm(x[:, f], last[f]) for f in range(frames)], dim=1)

    def __call__(self, position: int) -> Tensor:
        """The output (R, D) that predicts the codes at a position, given those of all positions before it."""
        decoder = self.decoder
        x = self.base[:, position] + decoder.content_at(self.codes[:, decoder.around[position]], self.table)
        frame = position // self.frame
        rows = self.biases[:, :, position : position + 1, : position + 1]  # (layers, H, 1, seen)
        if self.repeats > 1:
            rows = rows.unsqueeze(1).expand(-1, self.repeats, -1, -1, -1).flatten(1, 2)
        for layer, bias in zip(self.layers, rows.unbind(), strict=True):
            x = layer(x, position, frame, bias)
        return self.norm(x, self.last[frame])

    def put(self, position: int, codes: Tensor) -> None:
        """The codes (R, n) drawn at a position."""
        self.codes[:, position] = codes


def _flat(modulation: Modulation) -> list[Modulation]:
    """(R, t, 1, D) as (R, D) for each frame of the slice."""
    gains, biases = (part.squeeze(2).unbind(1) for part in modulation)
    return [Modulation(gain, bias) for gain, bias in zip(gains, biases, strict=True)]

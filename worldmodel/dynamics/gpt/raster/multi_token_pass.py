"""One forward pass of several tokens of each row, in raster order: on a CPU in float32.

The output of a token does not depend, in any bit, on the other tokens of the pass, except through the keys and values
of earlier tokens of its row. A pass may therefore run on draft tokens: where the drafts turn out right, its outputs are
those of token-by-token generation.

Letters: B rows, S tokens per step, n tokens of a pass, D width, H heads, N visible keys.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel.dynamics.conditioning import ConditionalNorm, Modulation
from worldmodel.dynamics.gpt.blocks import Block, BlockCondition
from worldmodel.layers.attention import KVCache, WindowAttention
from worldmodel.layers.cpu.query_attention import CachedKeys, QueryAttention, QueryRun
from worldmodel.layers.position import Rotation


class Span(NamedTuple):
    """Tokens [first, stop) of one row's step."""

    row: int
    first: int
    stop: int


class TokenSpans:
    """The tokens of a pass: one span for each of some rows, in ascending order of the rows."""

    def __init__(self, spans: Sequence[Span]) -> None:
        lengths = [stop - first for _, first, stop in spans]
        self.rows = np.repeat([span.row for span in spans], lengths)  # of each token, (n,)
        self.positions = np.concatenate([np.arange(first, stop) for _, first, stop in spans])
        self.runs: list[QueryRun] = []
        for row, first, stop in spans:
            last = self.runs[-1] if self.runs else None
            if last and last.stop == row and last.each == stop - first:
                self.runs[-1] = last._replace(stop=row + 1)
            else:
                self.runs.append(QueryRun(row, row + 1, stop - first))

    def in_step(self, rows: int) -> bool:
        """True for one token of each of all `rows`, at the same position."""
        return self.runs == [QueryRun(0, rows, 1)] and bool((self.positions == self.positions[0]).all())


class _Inputs(NamedTuple):
    """What the layers of one pass share."""

    attention: QueryAttention
    written: tuple  # index of the new keys and values in (B, H, W*S)
    bias: Tensor  # (n or 1, 1, N)
    conditions: list[BlockCondition]  # per block, of every token
    last: Modulation  # of the last norm


class MultiTokenPass:
    """The layers, for tokens of the step at the cache's clock."""

    def __init__(
        self,
        blocks: Sequence[Block],
        norm: ConditionalNorm,
        conditions: Sequence[BlockCondition],
        last: Modulation,
        rotation: Rotation | None,
        cache: KVCache,
    ) -> None:
        self._rows, self._heads, window, self._size, self._features = cache.keys[0].shape
        self._blocks, self._norm, self._rotation = blocks, norm, rotation
        self._first = cache.clock % window * self._size  # key of the step's first token
        # Steps not written yet are left out, unless older ones lie behind them in the ring.
        self._visible = cache.slots * self._size
        pairs = zip(cache.keys, cache.values, strict=True)
        self._cached = [CachedKeys(keys, values, self._visible) for keys, values in pairs]
        self._conditions = [condition.flat() for condition in conditions]
        self._last = last.flat()
        self._bias = torch.zeros(1, 1, self._visible)
        valid = cache.valid()
        if valid is not None:  # (B, 1, 1, W) -> (B, 1, N)
            hidden = ~valid.squeeze(1).repeat_interleave(self._size, dim=-1)
            self._bias = self._bias.masked_fill(hidden, -torch.inf)
        self._causal = torch.full((self._size, self._size), -torch.inf).triu(1)  # a token sees those up to itself
        self._in_step: QueryAttention | None = None

    def __call__(self, x: Tensor, tokens: TokenSpans) -> Tensor:
        """Inputs (n, D) -> outputs (n, D)."""
        shared = self._inputs_in_step(tokens) if tokens.in_step(self._rows) else self._inputs(tokens)
        for block, condition, cached in zip(self._blocks, shared.conditions, self._cached, strict=True):
            attention = block.attention
            assert isinstance(attention, WindowAttention)
            qkv = attention.qkv.forward(block.norm_attention.forward(x, condition.attention))
            mixed = shared.attention.attend(qkv, cached, shared.written, shared.bias)
            x = x + attention.out.forward(mixed)
            x = x + block.forward_part.forward(block.norm_forward.forward(x, condition.forward), condition.frames)
        return self._norm(x, shared.last)

    def _inputs_in_step(self, tokens: TokenSpans) -> _Inputs:
        """One token of every row at one position: nothing has to be gathered, and buffers are reused."""
        position = int(tokens.positions[0])
        self._bias[..., self._first : self._first + self._size] = self._causal[position]
        if self._in_step is None:
            self._in_step = self._attention(tokens)
        written = slice(None), slice(None), self._first + position
        return _Inputs(self._in_step, written, self._bias, self._conditions, self._last)

    def _inputs(self, tokens: TokenSpans) -> _Inputs:
        rows, positions = torch.from_numpy(tokens.rows), torch.from_numpy(tokens.positions)
        conditions, last = self._conditions, self._last
        if self._rows > 1:
            conditions = [condition.map(lambda part: part[rows]) for condition in conditions]
            last = last.map(lambda part: part[rows])
        bias = self._bias[rows] if len(self._bias) > 1 else self._bias.repeat(len(rows), 1, 1)
        bias[:, 0, self._first : self._first + self._size] = self._causal[positions]
        written = tokens.rows[:, None], np.arange(self._heads), tokens.positions[:, None] + self._first
        return _Inputs(self._attention(tokens), written, bias, conditions, last)

    def _attention(self, tokens: TokenSpans) -> QueryAttention:
        return QueryAttention(tokens.runs, self._heads, self._features, self._visible, self._rotation)

"""Attention within a slice with learned relative distances: by queries and keys, by keys alone, or by distance alone.

Letters: R rows, (t, h, w) shape of a slice, N = t*h*w its positions, D width, H heads, K features of one head.
Source: Latent Video Transformer (arXiv:2006.10704) section 4.4, equations 3 and 4; the two cheaper kinds follow
arXiv:1904.05873. Differs: scores by keys alone are scaled by K^-0.5, as those by queries and keys are.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.dynamics.subscale.order import Triple
from worldmodel.layers.precision import Linear, follow

AttentionKind = Literal["query-key", "key", "relative"]


class Projected(NamedTuple):
    """What attention computes of each position: of x (R, N, D)."""

    queries: Tensor | None  # (R, N, H, K); None: weights do not depend on the query's content
    keys: Tensor | None  # (R, N, H, K), or the scores (R, N, H) of kind "key"; None: nor on the key's
    values: Tensor  # (R, N, H, K)


class RelativeDistances(nn.Module):
    """A bias of attention for each head and pair of positions: the sum of one learned table per axis.

    With `block` (t, h, w) positions in different blocks do not see each other.
    """

    def __init__(self, heads: int, shape: Triple, block: Triple | None = None) -> None:
        super().__init__()
        spans = [min(part) for part in zip(shape, block or shape, strict=True)]
        self.tables = nn.ParameterList(torch.zeros(heads, 2 * span - 1) for span in spans)
        for axis, (size, span) in enumerate(zip(shape, spans, strict=True)):
            place = torch.arange(size)
            away = (place[:, None] - place).clamp(1 - span, span - 1) + span - 1  # (size, size), query by key
            apart = place[:, None] // span != place // span
            self.register_buffer(f"away{axis}", away, persistent=False)
            self.register_buffer(f"apart{axis}", apart if span < size else None, persistent=False)

    def forward(self) -> Tensor:
        """(H, N, N), queries by keys; -inf between blocks."""
        total: Tensor | None = None
        for axis, table in enumerate(self.tables):
            part = table[:, self._buffers[f"away{axis}"]]
            apart = self._buffers[f"apart{axis}"]
            if apart is not None:
                part = part.masked_fill(apart, -torch.inf)
            view = [1] * 7
            view[0], view[1 + axis], view[4 + axis] = part.shape
            total = part.view(view) if total is None else total + part.view(view)
        assert total is not None
        return total.flatten(4).flatten(1, 3)


class RelativeAttention(nn.Module):
    """Multi-head attention among the positions of a slice."""

    def __init__(
        self, width: int, heads: int, head_width: int, kind: AttentionKind, shape: Triple, block: Triple | None = None
    ) -> None:
        super().__init__()
        self.heads, self.head_width, self.kind = heads, head_width, kind
        inner = heads * head_width
        self.qkv = Linear(width, 3 * inner, bias=False) if kind == "query-key" else None
        self.key = Linear(width, inner, bias=False) if kind == "key" else None
        self.value = Linear(width, inner, bias=False) if kind != "query-key" else None
        self.query = nn.Parameter(torch.randn(heads, head_width)) if kind == "key" else None  # u of equation 4
        self.distances = RelativeDistances(heads, shape, block)
        self.out = Linear(inner, width, bias=False)

    def scorer(self) -> Tensor | None:
        """Kind "key": the matrix (H, D) that scores a position, u_m K_m of each head; None for the other kinds."""
        if self.query is None or self.key is None:
            return None
        weight = self.key.weight.unflatten(0, (self.heads, -1))  # (H, K, D)
        return torch.einsum("hk,hkd->hd", self.query.to(weight.dtype), weight) * self.head_width**-0.5

    def project(self, x: Tensor, scorer: Tensor | None = None) -> Projected:
        """Queries, keys and values of x (R, N, D); `scorer`: as returned by that method, if it is already known."""
        if self.qkv is not None:
            queries, keys, values = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
            return Projected(queries, keys, values)
        assert self.value is not None
        values = self.value(x).unflatten(-1, (self.heads, -1))
        if self.key is None:
            return Projected(None, None, values)
        scorer = self.scorer() if scorer is None else scorer
        assert scorer is not None
        return Projected(None, F.linear(follow(x, scorer), scorer), values)

    def forward(self, x: Tensor, bias: Tensor) -> tuple[Tensor, Projected]:
        """x (R, N, D) and the bias (H, N, N) of `distances`, -inf where a query must not see a key.

        Returns the output (R, N, D), and what a sampler needs to continue after these positions.
        """
        parts = self.project(x)
        values = parts.values.transpose(1, 2)  # (R, H, N, K)
        if parts.keys is None:
            # The weights are the same for all rows: one matmul per head over all of them.
            weights = bias.softmax(-1).to(values.dtype)  # (H, N, N)
            folded = values.permute(1, 2, 0, 3).flatten(2)  # (H, N, R*K)
            mixed = (weights @ folded).unflatten(2, (len(x), -1)).permute(2, 1, 0, 3)
        else:
            if parts.queries is None:
                scores = parts.keys.transpose(1, 2).unsqueeze(2) + bias.to(parts.keys.dtype)
            else:
                queries = parts.queries.transpose(1, 2) * self.head_width**-0.5
                scores = queries @ parts.keys.permute(0, 2, 3, 1) + bias.to(parts.keys.dtype)
            mixed = (scores.softmax(-1) @ values).transpose(1, 2)
        return self.out(mixed.flatten(2)), parts

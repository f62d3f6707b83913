"""Adaptive input and output of codes: frequent codes get more weights than rare ones; and outputs tied to inputs.

Codes are renumbered by falling frequency and cut into clusters. Cluster i has embeddings of E / 4^i features, projected
to E. The output predicts a code of the first cluster or one of the others, then a code of that cluster.

Letters: V codes, E features of a code, H hidden units of the code head, c codes and d features of a cluster.
Source: adaptive input, arXiv:1809.10853; adaptive softmax, arXiv:1609.04309; as in the Latent Video Transformer
(arXiv:2006.10704) section 4.5, table 8. Differs: log-probabilities of all codes are computed at once, which for a few
hundred codes costs nothing. Assumed: the cut-offs, for which the paper has no numbers, lie at 80 and 95 % of the mass.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.layers.precision import EmbeddingSum, Linear

_DIVISOR = 4  # each cluster has a fourth of the features of the one before it
_MASS = (0.80, 0.95)  # of the codes before each cut-off


def cutoffs_of(counts: Tensor) -> tuple[int, ...]:
    """Numbers of codes, the most frequent ones, that carry 80 and 95 % of the counts (V,)."""
    if len(counts) <= len(_MASS):
        raise ValueError(f"adaptive input or output needs more than {len(_MASS)} codes, got {len(counts)}")
    shares = counts.double().sort(descending=True).values.cumsum(0) / counts.sum().clamp_min(1)
    found: list[int] = []
    for rank, mass in enumerate(_MASS):
        count = int((shares < mass).sum()) + 1
        least, most = rank + 1 if not found else found[-1] + 1, len(counts) - len(_MASS) + rank
        found.append(min(max(count, least), most))
    return tuple(found)


class CodeOrder(nn.Module):
    """The numbers of codes by falling frequency, and the clusters of these numbers."""

    rank: Tensor  # (V,) int64, number of each code
    code: Tensor  # (V,) int64, code of each number

    def __init__(self, num_codes: int, cutoffs: Sequence[int]) -> None:
        super().__init__()
        ends = [0, *cutoffs, num_codes]
        if not cutoffs or any(end <= begin for begin, end in pairwise(ends)):
            raise ValueError(
                f"cutoffs must be rising numbers of codes between 0 and {num_codes}, got {tuple(cutoffs)}; leave them "
                "out of a training, which then takes those of its data"
            )
        self.sizes = [end - begin for begin, end in pairwise(ends)]
        self.register_buffer("rank", torch.arange(num_codes))
        self.register_buffer("code", torch.arange(num_codes))

    def by_use(self, counts: Tensor) -> None:
        """Number the codes by falling counts (V,)."""
        self.code.copy_(counts.argsort(descending=True, stable=True))
        self.rank[self.code] = torch.arange(len(counts), device=self.rank.device)


class AdaptiveEmbedding(nn.Module):
    """A table of code vectors of which rare codes have fewer weights."""

    def __init__(self, order: CodeOrder, features: int) -> None:
        super().__init__()
        self._order = [order]  # in a list: its buffers belong to the network
        widths = [max(1, features // _DIVISOR**index) for index in range(len(order.sizes))]
        self.clusters = nn.ParameterList(
            torch.randn(size, width) for size, width in zip(order.sizes, widths, strict=True)
        )
        self.projections = nn.ModuleList(Linear(width, features, bias=False) for width in widths)
        for weight, width in zip(self.projections.parameters(), widths, strict=True):
            nn.init.normal_(weight, std=width**-0.5)

    @property
    def order(self) -> CodeOrder:
        return self._order[0]

    @property
    def weight(self) -> Tensor:
        """(V, E), by code."""
        parts = [projection(table) for projection, table in zip(self.projections, self.clusters, strict=True)]
        return torch.cat(parts)[self.order.rank]


class TiedOutput(nn.Module):
    """Logits (…, V) of hidden units (…, H): their projection to E features times the table of inputs."""

    def __init__(self, hidden: int, features: int, embedding: EmbeddingSum | AdaptiveEmbedding) -> None:
        super().__init__()
        self.squeeze = Linear(hidden, features, bias=False)
        self._inputs = [embedding]  # in a list: its weights belong to the decoder

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.squeeze(x)
        return F.linear(squeezed, self._inputs[0].weight.to(squeezed.dtype))


class _Tail(nn.Module):
    """Logits of the codes of one cluster from hidden units, through d features."""

    def __init__(self, hidden: int, features: int, size: int) -> None:
        super().__init__()
        self.squeeze = Linear(hidden, features, bias=False)
        self.out = Linear(features, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.squeeze(x))


class AdaptiveOutput(nn.Module):
    """Log-probabilities (…, V) of hidden units (…, H), by code; no weight is shared with the input."""

    def __init__(self, hidden: int, order: CodeOrder) -> None:
        super().__init__()
        self._order = [order]  # in a list: its buffers belong to the network
        first, *rest = order.sizes
        self.head = Linear(hidden, first + len(rest), bias=False)
        self.tails = nn.ModuleList(
            _Tail(hidden, max(1, hidden // _DIVISOR ** (index + 1)), size) for index, size in enumerate(rest)
        )

    def forward(self, x: Tensor) -> Tensor:
        return _by_code(self.head(x), [tail(x) for tail in self.tails], self._order[0])


class TiedAdaptiveOutput(nn.Module):
    """Log-probabilities (…, V) of hidden units (…, H), by code, with the embeddings of an adaptive input.

    With `projections`, the projections of the clusters are those of the input, too.
    """

    def __init__(self, hidden: int, features: int, embedding: AdaptiveEmbedding, projections: bool) -> None:
        super().__init__()
        self._inputs = [embedding]  # in a list: its weights belong to the decoder
        self.clusters = Linear(hidden, len(embedding.clusters) - 1, bias=False)
        self.squeeze = Linear(hidden, features, bias=False) if projections else None
        widths = [] if projections else [table.shape[1] for table in embedding.clusters]
        self.squeezes = nn.ModuleList(Linear(hidden, width, bias=False) for width in widths)

    def forward(self, x: Tensor) -> Tensor:
        inputs = self._inputs[0]
        if self.squeeze is not None:
            shared = self.squeeze(x)
            squeezed = [F.linear(shared, weight.T) for weight in inputs.projections.parameters()]
        else:
            squeezed = [squeeze(x) for squeeze in self.squeezes]
        first, *rest = (
            F.linear(part, table.to(part.dtype)) for part, table in zip(squeezed, inputs.clusters, strict=True)
        )
        return _by_code(torch.cat((first, self.clusters(x)), dim=-1), rest, inputs.order)


def _by_code(head: Tensor, tails: Sequence[Tensor], order: CodeOrder) -> Tensor:
    """Log-probabilities (…, V) from the logits of the first cluster and of the others, and those inside the others."""
    logs = head.float().log_softmax(-1)
    first = order.sizes[0]
    parts = [logs[..., :first]]
    for index, tail in enumerate(tails):
        parts.append(logs[..., first + index : first + index + 1] + tail.float().log_softmax(-1))
    return torch.cat(parts, dim=-1)[..., order.rank]

"""The decoder: predicts each position of a slice from the positions before it and the slice's context.

Letters: R rows, (t, h, w) shape of a slice, N = t*h*w its positions, n books, V codes, K taps of the kernel, E features
of a code, D width.
Source: Latent Video Transformer (arXiv:2006.10704) section 3.2, sizes of its authors' public code. The convolution sees
earlier positions only: frames before, rows above, and the left neighbour. So attention may see its own position.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.dynamics.conditioning import Modulation
from worldmodel.dynamics.subscale.adaptive import AdaptiveEmbedding, CodeOrder
from worldmodel.dynamics.subscale.blocks import Stack
from worldmodel.dynamics.subscale.config import SubscaleConfig
from worldmodel.dynamics.subscale.context_encoder import NO_CODE
from worldmodel.dynamics.subscale.order import DECODER_TAPS, Triple, earlier_taps
from worldmodel.layers.position import SinePosition
from worldmodel.layers.precision import EmbeddingSum, Linear
from worldmodel.layers.weight_cache import WeightCache

_LARGEST = 2**24  # elements of a table of contents; a larger one would not fit the processor's caches


class SliceDecoder(nn.Module):
    """Codes of a slice and its context -> outputs (R, t, h, w, D); each sees earlier positions only."""

    around: Tensor  # (N, k) int64, the position that each held tap meets; N outside
    live: Tensor  # (k,) int64, which held taps may meet a code

    def __init__(
        self, config: SubscaleConfig, shape: Triple, books: int, num_codes: int, order: CodeOrder | None = None
    ) -> None:
        """`order`: of the codes by frequency, for adaptive input."""
        super().__init__()
        self.shape, self.books, self.num_codes = shape, books, num_codes
        earlier = earlier_taps(shape)
        held = list(range(len(DECODER_TAPS))) if config.dead_taps else earlier
        self.num_taps = len(held)
        self.offsets = [DECODER_TAPS[index] for index in earlier]
        self.register_buffer("live", torch.tensor([held.index(index) for index in earlier]), persistent=False)
        self.register_buffer("around", _around(shape, self.offsets), persistent=False)
        self.embedding: EmbeddingSum | AdaptiveEmbedding
        if order is not None and config.code_input == "adaptive":
            self.embedding = AdaptiveEmbedding(order, config.code_width)
        else:
            self.embedding = EmbeddingSum(books * num_codes, config.code_width)
            nn.init.normal_(self.embedding.weight, std=books**-0.5)
        self.conv = Linear(self.num_taps * config.code_width, config.width)
        self.position = SinePosition(shape, config.width)
        self.from_context = Linear(config.width, config.width, bias=False)
        self.stack = Stack(config, shape, causal=True)
        self.cached: WeightCache[Tensor] = WeightCache()  # contribution of each tap, book and code to a position

    def _kernel(self) -> Tensor:
        """The convolution's weights of live taps, (D, k*E)."""
        weight = self.conv.weight
        if len(self.live) == self.num_taps:
            return weight
        return weight.unflatten(1, (self.num_taps, -1))[:, self.live].flatten(1)

    def _vectors(self, codes: Tensor) -> Tensor:
        """Embedding of codes (…, n): (…, E)."""
        if isinstance(self.embedding, AdaptiveEmbedding):
            return F.embedding(codes.squeeze(-1), self.embedding.weight)
        return self.embedding(codes + torch.arange(self.books, device=codes.device) * self.num_codes)

    def base(self, context: Tensor) -> Tensor:
        """The part of every input that does not depend on codes: context (R, t, h, w, D) -> the same shape."""
        return self.from_context(context).float() + self.position()

    def content(self, codes: Tensor) -> Tensor:
        """What the codes (R, t, h, w, n) of earlier positions add to each input, (R, t, h, w, D)."""
        _, t, h, w, _ = codes.shape
        padded = F.pad(self._vectors(codes), (0, 0, 1, 1, 2, 0, 2, 0))
        taps = [padded[:, 2 + dt : 2 + dt + t, 2 + dy : 2 + dy + h, 1 + dx : 1 + dx + w] for dt, dy, dx in self.offsets]
        if not taps:  # a slice of one position
            return self.conv.bias.float().expand(*codes.shape[:-1], -1)
        return F.linear(torch.cat(taps, dim=-1), self._kernel(), self.conv.bias).float()

    def table(self) -> Tensor | None:
        """For each live tap, book and code what it adds to a position, (k*n*(V+1), D); each V-th entry is zero.

        None in training, or if it would be too large.
        """
        if len(self.live) * self.books * (self.num_codes + 1) * self.conv.out_features > _LARGEST:
            return None
        return self.cached.of([self.conv.weight, *self.embedding.parameters()], self._make_table)

    def _make_table(self) -> Tensor:
        vectors = self.embedding.weight.float().unflatten(0, (self.books, -1))  # (n, V, E)
        weight = self._kernel().float().unflatten(1, (len(self.live), -1))  # (D, k, E)
        entries = torch.einsum("nve,dke->knvd", vectors, weight)
        return F.pad(entries, (0, 0, 0, 1)).flatten(0, 2)

    def content_at(self, codes: Tensor, table: Tensor | None) -> Tensor:
        """What the codes (R, k, n) that the live taps of one position meet add to its input, without the bias: (R, D).

        NO_CODE stands for positions outside.
        """
        taps = codes.shape[1]
        if not taps:
            return self.conv.bias.new_zeros(len(codes), self.conv.out_features, dtype=torch.float32)
        if table is not None:
            first = torch.arange(taps * self.books, device=codes.device) * (self.num_codes + 1)
            entries = torch.where(codes == NO_CODE, self.num_codes, codes).flatten(1) + first
            return F.embedding_bag(entries, table, mode="sum")
        vectors = self._vectors(codes.clamp_min(0)) * (codes[..., :1] != NO_CODE)
        return F.linear(vectors.flatten(1), self._kernel()).float()

    def forward(self, codes: Tensor, context: Tensor, modulations: Sequence[Modulation]) -> Tensor:
        """Codes (R, t, h, w, n) of a slice, its context (R, t, h, w, D), the modulations of `stack.norms`."""
        x = (self.content(codes) + self.base(context)).flatten(2, 3)
        return self.stack(x, modulations).view(context.shape)


def _around(shape: Triple, offsets: Sequence[Triple]) -> Tensor:
    """The position of a slice that each tap meets from each position, (N, k); N outside."""
    t, h, w = shape
    place = F.pad(torch.arange(t * h * w).view(shape), (1, 1, 2, 0, 2, 0), value=t * h * w)
    met = [place[2 + dt : 2 + dt + t, 2 + dy : 2 + dy + h, 1 + dx : 1 + dx + w].flatten() for dt, dy, dx in offsets]
    return torch.stack(met, dim=-1) if met else torch.zeros(t * h * w, 0, dtype=torch.int64)

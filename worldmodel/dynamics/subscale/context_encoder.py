"""The encoder: what a slice's positions know of the slices before it.

Letters: R rows, P positions of a volume of codes, n books, V codes, (t, h, w) shape of a slice, N its positions, K taps
of the kernel, E features of a code, D width.
Source: Latent Video Transformer (arXiv:2006.10704) section 3.2, sizes of its authors' public code. A convolution over
one-hot codes, in which codes not drawn yet are zeros, is a sum of entries of a table: one entry per tap, book and code.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.dynamics.conditioning import Modulation
from worldmodel.dynamics.subscale.blocks import Stack
from worldmodel.dynamics.subscale.config import SubscaleConfig
from worldmodel.dynamics.subscale.order import Triple
from worldmodel.layers.precision import EmbeddingSum, Linear

NO_CODE = -1  # stands for a code that does not exist or is not drawn yet


class TapTable(EmbeddingSum):
    """Weights of a convolution over one-hot codes: an entry for each tap, book and code, and a last one of zeros."""

    def __init__(self, taps: int, books: int, num_codes: int, features: int) -> None:
        self.taps, self.books, self.num_codes = taps, books, num_codes
        entries = taps * books * num_codes
        super().__init__(entries + 1, features, padding_idx=entries)

    def of_taps(self, codes: Tensor, taps: Tensor) -> Tensor:
        """Codes (R, N, k, n), NO_CODE where there is none, at the k kernel entries `taps` (k,) -> (R, N, E)."""
        first = (taps[:, None] * self.books + torch.arange(self.books, device=codes.device)) * self.num_codes
        entries = torch.where(codes == NO_CODE, self.taps * self.books * self.num_codes, codes + first)
        entries = entries.flatten(2).flatten(0, 1)
        # Excluding the zeros is slower, and needed only where they would get a gradient.
        last = self.padding_idx if self.weight.requires_grad else None
        total = F.embedding_bag(entries, self.weight, mode="sum", padding_idx=last)
        return total.view(*codes.shape[:2], self.embedding_dim)


class ContextEncoder(nn.Module):
    """Codes of earlier slices -> a representation (R, t, h, w, D) of the current slice's context."""

    taps: Tensor  # (k,) int64, the kernel entries that are looked up

    def __init__(
        self, config: SubscaleConfig, shape: Triple, live: Sequence[int], num_taps: int, books: int, num_codes: int
    ) -> None:
        """`live`: the entries of the kernel of `num_taps` entries that see a code; only these are held if `num_taps` is
        their number."""
        super().__init__()
        self.shape = shape
        held = list(live) if num_taps > len(live) else list(range(len(live)))
        self.register_buffer("taps", torch.tensor(held), persistent=False)
        self.table = TapTable(num_taps, books, num_codes, config.code_width)
        self.bias = nn.Parameter(torch.zeros(config.code_width))
        self.slices = nn.Embedding(config.slice_entries, config.code_width)
        self.rise = Linear(config.code_width, config.width, bias=False)
        self.stack = Stack(config, shape, causal=False)
        with torch.no_grad():
            nn.init.normal_(self.table.weight[:-1], std=(len(live) * books) ** -0.5)
            nn.init.normal_(self.slices.weight, std=0.5)

    def forward(self, codes: Tensor, seen: Tensor, entries: Tensor, modulations: Sequence[Modulation]) -> Tensor:
        """Context of R slices.

        Args:
            codes: (R, P, n) of a volume, NO_CODE where there is none.
            seen: (N, k) or (R, N, k), the place in the volume of the code that each live tap meets, P for none.
            entries: (R,) entry of the slice embedding.
            modulations: of the norms, in the order of `stack.norms`.
        """
        volume = F.pad(codes, (0, 0, 0, 1), value=NO_CODE)
        if seen.ndim == 2:
            met = volume[:, seen]  # (R, N, k, n)
        else:
            met = volume.gather(1, seen.flatten(1)[..., None].expand(-1, -1, codes.shape[-1])).view(*seen.shape, -1)
        summed = self.table.of_taps(met, self.taps).float() + self.bias + self.slices(entries)[:, None]
        x = self.rise(summed).float().unflatten(1, (self.shape[0], -1))  # (R, t, h*w, D)
        return self.stack(x, modulations).unflatten(2, self.shape[1:])

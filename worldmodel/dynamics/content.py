"""The content of tokens by looking their codes up, in place of products with their code vectors.

Letters: B batch, T steps, S = h*w tokens per step, M slices, V codes, E features of a token's code vectors, D width,
K places around a token that tell it something, itself included.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.layers.conv import GridConv
from worldmodel.layers.precision import Linear
from worldmodel.layers.weight_cache import WeightCache
from worldmodel.tokenizer import CodeLookup

_LARGEST = 2**24  # numbers of a table: beyond, it would lie far from the processor


class ContentTable:
    """What a code tells the tokens around it, for every code: `token_in` and `neighbours` multiplied once and for all.

    A token's content is then a sum of K*M entries, an eighth of the products' time (docs/performance.md). Only of
    weights that are not in training.
    """

    def __init__(self, token_in: Linear, neighbours: GridConv | None, grid: tuple[int, int]) -> None:
        self._token_in, self._neighbours = token_in, neighbours
        self._around = None if neighbours is None else _around(*grid)
        self.made: WeightCache[tuple[Tensor, Tensor | None]] = WeightCache()  # the table, and `_around` on its device

    def __call__(self, codes: Tensor, lookup: CodeLookup) -> Tensor | None:
        """Codes (B, T, S, M), with neighbours of whole steps -> (B, T, S, D) in the products' dtype.

        None where products have to tell it: in training, or if the table were too large.
        """
        token_in, neighbours, num_codes = self._token_in, self._neighbours, lookup.vectors.shape[1]
        slices = codes.shape[-1]
        places = 1 if neighbours is None else 9
        if places * slices * (num_codes + 1) * token_in.out_features > _LARGEST:
            return None
        weights = [token_in.weight, lookup.vectors] + ([] if neighbours is None else [neighbours.weight])
        made = self.made.of(weights, lambda: self._make(lookup, slices))
        if made is None:
            return None
        table, around = made
        entries = codes.flatten(0, 1).unsqueeze(2)  # (B*T, S, 1, M)
        if around is not None:
            outside = F.pad(entries, (0, 0, 0, 0, 0, 1), value=num_codes)  # one more token, which tells nothing
            entries = outside.squeeze(2).index_select(1, around).unflatten(1, (-1, places))
        first = torch.arange(places * slices, device=codes.device).view(places, slices) * (num_codes + 1)
        content = F.embedding_bag((entries + first).flatten(2).flatten(0, 1), table, mode="sum")
        return content.view(*codes.shape[:-1], token_in.out_features)

    def _make(self, lookup: CodeLookup, slices: int) -> tuple[Tensor, Tensor | None]:
        """(K*M*(V+1), D) in the products' dtype; the last code of every slice is none, and tells nothing."""
        num_codes = lookup.vectors.shape[1]
        codes = torch.arange(num_codes, device=lookup.vectors.device)
        vectors = lookup(codes[:, None].expand(-1, slices)).unflatten(-1, (slices, -1))  # (V, M, E/M)
        told = self._token_in.weight.float()[None]  # (K, D, E)
        if self._neighbours is not None:
            around = self._neighbours.weight.float().flatten(2).permute(2, 0, 1)  # (9, D, E), row by row
            told = around.index_add(0, torch.tensor([len(around) // 2], device=told.device), told)
        entries = torch.einsum("vme,kdme->kmvd", vectors.float(), told.unflatten(-1, (slices, -1)))
        table = F.pad(entries, (0, 0, 0, 1)).flatten(0, 2).to(self._token_in.weight.dtype)
        return table, None if self._around is None else self._around.to(table.device)


def _around(height: int, width: int) -> Tensor:
    """The tokens around each one of a grid, row by row, (S*9,); S stands for those outside."""
    numbers = F.pad(torch.arange(height * width).view(height, width), (1, 1, 1, 1), value=height * width)
    return numbers.unfold(0, 3, 1).unfold(1, 3, 1).flatten()

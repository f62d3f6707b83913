"""Compute the content of tokens by looking up their codes, instead of matmuls with their code vectors.

Letters: B batch, T steps, S = h*w tokens per step, M slices, V codes, E features of a token's code vectors, D width,
K positions around a token that contribute to its content, including its own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.layers.conv import GridConv
from worldmodel.layers.precision import Linear
from worldmodel.layers.weight_cache import WeightCache
from worldmodel.tokenizer import CodeLookup

_LARGEST = 2**24  # elements of a table; a larger one would not fit the processor's caches


class ContentTable:
    """For every code, its contribution to the tokens around it: `token_in` and `neighbours` multiplied in advance.

    A token's content is then a sum of K*M entries, an eighth of the matmuls' time (docs/performance.md). Only for
    weights that are not in training.
    """

    def __init__(self, token_in: Linear, neighbours: GridConv | None, grid: tuple[int, int]) -> None:
        self._token_in, self._neighbours = token_in, neighbours
        self._around = None if neighbours is None else _around(*grid)
        self.cached: WeightCache[tuple[Tensor, Tensor | None]] = WeightCache()  # the table, and `_around` on its device

    def __call__(self, codes: Tensor, lookup: CodeLookup) -> Tensor | None:
        """Codes (B, T, S, M), of whole steps if there are neighbours -> (B, T, S, D) in the dtype of the matmuls.

        None if matmuls must compute it: in training, or if the table would be too large.
        """
        token_in, neighbours, num_codes = self._token_in, self._neighbours, lookup.vectors.shape[1]
        slices = codes.shape[-1]
        positions = 1 if neighbours is None else 9
        if positions * slices * (num_codes + 1) * token_in.out_features > _LARGEST:
            return None
        weights = [token_in.weight, lookup.vectors] + ([] if neighbours is None else [neighbours.weight])
        cached = self.cached.of(weights, lambda: self._make(lookup, slices))
        if cached is None:
            return None
        table, around = cached
        entries = codes.flatten(0, 1).unsqueeze(2)  # (B*T, S, 1, M)
        if around is not None:
            outside = F.pad(entries, (0, 0, 0, 0, 0, 1), value=num_codes)  # one more token, which contributes nothing
            entries = outside.squeeze(2).index_select(1, around).unflatten(1, (-1, positions))
        first = torch.arange(positions * slices, device=codes.device).view(positions, slices) * (num_codes + 1)
        content = F.embedding_bag((entries + first).flatten(2).flatten(0, 1), table, mode="sum")
        return content.view(*codes.shape[:-1], token_in.out_features)

    def _make(self, lookup: CodeLookup, slices: int) -> tuple[Tensor, Tensor | None]:
        """(K*M*(V+1), D) in the dtype of the matmuls; the last entry of every slice stands for no code and is zero."""
        num_codes = lookup.vectors.shape[1]
        codes = torch.arange(num_codes, device=lookup.vectors.device)
        vectors = lookup(codes[:, None].expand(-1, slices)).unflatten(-1, (slices, -1))  # (V, M, E/M)
        weights = self._token_in.weight.float()[None]  # (K, D, E)
        if self._neighbours is not None:
            around = self._neighbours.weight.float().flatten(2).permute(2, 0, 1)  # (9, D, E), row by row
            weights = around.index_add(0, torch.tensor([len(around) // 2], device=weights.device), weights)
        entries = torch.einsum("vme,kdme->kmvd", vectors.float(), weights.unflatten(-1, (slices, -1)))
        table = F.pad(entries, (0, 0, 0, 1)).flatten(0, 2).to(self._token_in.weight.dtype)
        return table, None if self._around is None else self._around.to(table.device)


def _around(height: int, width: int) -> Tensor:
    """Indices of the tokens around each token of a grid, row by row, (S*9,); S stands for positions outside."""
    indices = F.pad(torch.arange(height * width).view(height, width), (1, 1, 1, 1), value=height * width)
    return indices.unfold(0, 3, 1).unfold(1, 3, 1).flatten()

"""Attention of a few queries per row to a KV cache, on a CPU in float32, by NumPy's matrix-vector products.

For one query per head they take about two thirds of the time of torch's batched matmuls, and the result of a query does
not depend, in any bit, on the queries beside it (docs/performance.md).

Letters: B rows, n queries, H heads, K features of one head, N visible keys, D = H*K width.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel.layers.position import Rotation

_THREADED = 9216  # elements of a matrix from which OpenBLAS splits a matrix-vector product over threads, at a loss


class QueryRun(NamedTuple):
    """Consecutive rows [first, stop) with `each` queries per row."""

    first: int
    stop: int
    each: int


class CachedKeys:
    """Keys and values of one layer, as NumPy views of the cache."""

    def __init__(self, keys: Tensor, values: Tensor, visible: int) -> None:
        """`keys` and `values` (B, H, W, S, K) of a cache, of which the first `visible` entries can be seen."""
        rows, heads, _, _, features = keys.shape
        self.keys, self.values = (part.view(rows, heads, -1, features).numpy() for part in (keys, values))
        chunks = key_chunks(visible, features)
        self.key_chunks = [self.keys[:, None, :, chunk] for chunk in chunks]  # (B, 1, H, some of N, K)
        self.value_chunks = [self.values[:, None, :, chunk] for chunk in chunks]


def key_chunks(visible: int, features: int) -> list[slice]:
    """Slices of the keys that OpenBLAS multiplies in one thread."""
    most = max(1, (_THREADED - 1) // features)
    return [slice(low, min(low + most, visible)) for low in range(0, visible, most)]


class QueryAttention:
    """Buffers for the queries of one forward pass, shared by its layers."""

    def __init__(
        self, runs: Sequence[QueryRun], heads: int, features: int, visible: int, rotation: Rotation | None
    ) -> None:
        """`runs` say which rows the queries belong to, in order; `rotation` turns queries and new keys."""
        n = sum((run.stop - run.first) * run.each for run in runs)
        self._shape, self._scale = (n, 3, heads, 2, features // 2), features**-0.5
        self._scores, self._mixed = torch.empty(n, heads, visible), torch.empty(n, heads * features)
        self._rotated, self._partner = np.empty((2, *self._shape), np.float32)
        self._rotation = None if rotation is None else _tables(rotation)
        queries, self._new_keys, self._new_values = self._rotated.reshape(n, 3, heads, features).swapaxes(0, 1)
        buffers = queries, self._scores.numpy(), self._mixed.numpy().reshape(n, heads, features)
        chunks = key_chunks(visible, features)
        self._views: list[tuple[Any, ...]] = []  # of each run: rows, queries, scores, weights, outputs
        begin = 0
        for first, stop, each in runs:
            mine = slice(begin, begin + (stop - first) * each)
            query, score, mix = (part[mine].reshape(stop - first, each, heads, -1) for part in buffers)
            scores = [score[..., chunk, None] for chunk in chunks]
            weights = [score[..., None, chunk] for chunk in chunks]
            self._views.append((slice(first, stop), query[..., None], scores, weights, mix[..., None, :]))
            begin = mine.stop

    def attend(self, qkv: Tensor, cached: CachedKeys, index: tuple, bias: Tensor) -> Tensor:
        """Queries, keys and values (n, 3D) -> outputs (n, D), in a buffer that the next call overwrites.

        Writes the new keys and values to `cached` at `index` first. `bias` (n or 1, 1, N) is added to the scores: 0
        where a query sees a key, else -inf.
        """
        self._rotate(qkv.numpy().reshape(self._shape))
        cached.keys[index], cached.values[index] = self._new_keys, self._new_values
        for rows, query, scores, _, _ in self._views:
            for keys, score in zip(cached.key_chunks, scores, strict=True):
                np.matmul(keys[rows], query, out=score)
        torch.add(bias, self._scores, alpha=self._scale, out=self._scores)
        torch.softmax(self._scores, -1, out=self._scores)
        for rows, _, _, weights, mixed in self._views:
            np.matmul(weights[0], cached.value_chunks[0][rows], out=mixed)
            for weight, values in zip(weights[1:], cached.value_chunks[1:], strict=True):
                mixed += np.matmul(weight, values[rows])
        return self._mixed

    def _rotate(self, qkv: np.ndarray) -> None:
        """Queries, keys and values (n, 3, H, 2, K/2) at their time, as `Rotation.turn`."""
        if self._rotation is None:
            self._rotated[...] = qkv
            return
        cos, sin = self._rotation
        np.multiply(qkv, cos, out=self._rotated)
        np.multiply(qkv[..., ::-1, :], sin, out=self._partner)
        np.add(self._rotated, self._partner, out=self._rotated)


def _tables(rotation: Rotation) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine for queries, keys and values, (3, 1, 2, K/2); values are not rotated."""
    cos, sin = (part.view(1, 1, 2, -1).repeat(3, 1, 1, 1).numpy() for part in (rotation.cos, rotation.sin))
    cos[2], sin[2] = 1.0, 0.0
    return cos, sin

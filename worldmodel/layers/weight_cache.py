"""Values computed from weights, cached until one of the weights changes."""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def version_of(weights: Iterable[Tensor]) -> tuple:
    """Version key of a set of weights: changes when one is modified in place or replaced.

    Misses updates by fused optimisers.
    """
    return tuple((w.data_ptr(), w.dtype, 0 if w.is_inference() else w._version) for w in weights)


class WeightCache(Generic[T]):
    """A value computed from weights outside training, recomputed when one of them has changed.

    Weights in training are not cached, because fused optimisers change them without raising their version. Weights
    created in inference mode have no version either. Code that trains weights without calling `of` must call `forget`.
    """

    def __init__(self) -> None:
        self._kept: tuple[tuple, T] | None = None  # version of the weights, and the value
        self.changes = 0  # how many times a value was computed or dropped

    def of(self, weights: Sequence[Tensor], make: Callable[[], T]) -> T | None:
        """The cached value, computed by `make` if needed; None if gradients or training may need the weights.

        It is computed without gradients and outside inference mode, so that it can be used inside and outside of it.
        """
        if any(weight.requires_grad for weight in weights):
            self.forget()
            return None
        if torch.is_grad_enabled():
            return None
        state = version_of(weights)
        if self._kept is None or self._kept[0] != state:
            with torch.inference_mode(False), torch.no_grad():
                self._kept = state, make()
            self.changes += 1
        return self._kept[1]

    def forget(self) -> None:
        """Drop the value; the next call of `of` recomputes it."""
        if self._kept is not None:
            self._kept = None
            self.changes += 1

    def __getstate__(self) -> dict:
        return {"_kept": None, "changes": 0}  # the cached value is neither copied nor pickled

"""What is made of weights and kept until one of them changes."""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def state_of(weights: Iterable[Tensor]) -> tuple:
    """What tells that one of them has changed, in place or for another; fused optimisers' changes it does not tell."""
    return tuple((w.data_ptr(), w.dtype, 0 if w.is_inference() else w._version) for w in weights)


class Derived(Generic[T]):
    """Something made of weights that are not in training, and made anew when one of them has changed.

    Nothing is kept of weights in training: fused optimisers change them without counting their version up. (Weights
    that were made in inference mode count nothing either.) Who trains them without asking for it has to `forget`.
    """

    def __init__(self) -> None:
        self._kept: tuple[tuple, T] | None = None  # which weights, and what was made of them
        self.changes = 0  # how often something was made or dropped

    def of(self, weights: Sequence[Tensor], make: Callable[[], T]) -> T | None:
        """What `make` makes of them, or made of them before; None where gradients or a training may need the weights.

        It is made without gradients, and outside of inference mode, so that it serves in and out of it.
        """
        if any(weight.requires_grad for weight in weights):
            self.forget()
            return None
        if torch.is_grad_enabled():
            return None
        state = state_of(weights)
        if self._kept is None or self._kept[0] != state:
            with torch.inference_mode(False), torch.no_grad():
                self._kept = state, make()
            self.changes += 1
        return self._kept[1]

    def forget(self) -> None:
        """Make it anew when it is asked for next."""
        if self._kept is not None:
            self._kept = None
            self.changes += 1

    def __getstate__(self) -> dict:
        return {"_kept": None, "changes": 0}  # neither copied nor sent

"""State of causal convolutions between the steps of a stream; the caller holds it, no module does.

Letters: B batch, C channels, t frames or steps, h w their height and width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StreamState:
    """What the causal convolutions saw last, in the order in which they run; empty where nothing looks back."""

    tensors: tuple[Tensor, ...] = ()  # each (B, C, n, h, w), the n last inputs of one convolution


class Stream:
    """One pass through causal convolutions: each one takes its past from the old state and leaves it for the next."""

    def __init__(self, state: StreamState | None) -> None:
        self._old = None if state is None else state.tensors
        self._new: list[Tensor] = []

    def join(self, x: Tensor, count: int) -> Tensor:
        """`x` (B, C, t, h, w) with the `count` inputs before it in front; zeros where the stream begins."""
        shape = (*x.shape[:2], count, *x.shape[3:])
        past = x.new_zeros(shape)
        if self._old is not None:
            place = len(self._new)
            if place >= len(self._old) or self._old[place].shape != shape:
                found = [tuple(tensor.shape) for tensor in self._old[place : place + 1]]
                raise ValueError(
                    f"tensor {place} of the stream's state must be {shape}, got {found or 'none'}; "
                    "pass the state that the same call returned for the step before, with the same rows"
                )
            past = self._old[place].to(x)
        x = torch.cat((past, x), dim=2)
        self._new.append(x[:, :, -count:].detach().clone())
        return x

    def state(self) -> StreamState:
        """The state after the pass."""
        if self._old is not None and len(self._old) != len(self._new):
            raise ValueError(
                f"the stream's state must hold {len(self._new)} tensors, got {len(self._old)}; "
                "pass the state that the same call returned for the step before"
            )
        return StreamState(tuple(self._new))

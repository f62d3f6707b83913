"""Results of dreaming: one step, futures of a state, a rollout.

Letters: B rows, N futures or imagined steps, H steps of a future, F frames of a step, H W C pixels, h w latent grid,
S = h*w tokens, M slices, E code features, D width, G signals.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from worldmodel.tokenizer import Tokenizer


@dataclass
class StepOut:
    """Outputs of one dreamt step; entry b belongs to row b."""

    codes: Tensor  # (B, h, w, M) int64
    reward: Tensor  # (B,) float32, expectation in the unit of the data
    terminated: Tensor  # (B,) bool
    termination_probability: Tensor  # (B,) float32
    signals: Tensor  # (B, G) float32, running values after the step, within the range of the training data
    nll: Tensor  # (B,) nats per step: negative log-likelihood of the sampled step
    entropy: Tensor  # (B,) nats per step, of the distribution that it was sampled from
    outputs: Tensor = field(repr=False)  # (B, S, D) of the dynamics, which predicted the step
    _tokenizer: Tokenizer = field(repr=False)
    _frames: Tensor | None = field(default=None, repr=False)

    @torch.inference_mode()
    def frames(self) -> Tensor:
        """The step's frames (B, F, H, W, C) uint8, decoded at the first call."""
        if self._frames is None:
            self._frames = self._tokenizer.decode(self.codes.unsqueeze(1)).squeeze(1)
        return self._frames

    @torch.inference_mode()
    def latents(self) -> Tensor:
        """The code vectors (B, h, w, E) float32."""
        return self._tokenizer.lookup(self.codes)


class Branches(NamedTuple):
    """N futures of each of B rows; entry h follows action h."""

    rewards: Tensor  # (B, N, H) float32
    terminated: Tensor  # (B, N, H) bool
    termination_probability: Tensor  # (B, N, H) float32
    signals: Tensor  # (B, N, H, G) float32, running values
    nll: Tensor  # (B, N, H) nats per step
    codes: Tensor  # (B, N, H, h, w, M) int64


class Rollout(NamedTuple):
    """Imagined steps; entry n follows action n."""

    frames: Tensor  # (B, N, F, H, W, C) uint8
    rewards: Tensor  # (B, N) float32
    terminated: Tensor  # (B, N) bool
    codes: Tensor  # (B, N, h, w, M) int64

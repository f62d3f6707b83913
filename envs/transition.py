"""Transition: what a reward function or an end condition is told of a batch of dreamt steps.

Letters: B steps (rows of a dream env; all steps of all futures in a planner), F frames of a step, H W C pixels, h w
latent grid, M slices, E features of a code vector, A numbers per action.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from worldmodel.tokenizer import VQVAE

_AT_ONCE = 512  # steps decoded in one batch: a planner asks for thousands


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Transition:
    """B dreamt steps, all on the model's device; entry b of everything belongs to step b.

    What costs time is made when first asked for, and kept: a reward that reads signals decodes no frames.
    """

    actions: Tensor  # (B,) int64 or (B, A) float32, the actions that led to the steps
    reward: Tensor  # (B,) float32, of the model's head, in the unit of the data
    terminated: Tensor  # (B,) bool
    signals: dict[str, Tensor]  # name -> (B,) float32, the game variables after the step
    signals_before: dict[str, Tensor]  # name -> (B,) float32
    codes: Tensor  # (B, h, w, M) int64
    _tokenizer: VQVAE = field(repr=False)
    _made: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.codes)

    @torch.inference_mode()
    def latents(self) -> Tensor:
        """The code vectors (B, h, w, E) float32."""
        if "latents" not in self._made:
            self._made["latents"] = self._tokenizer.code_vectors(self.codes)
        return self._made["latents"]

    @torch.inference_mode()
    def frames(self) -> Tensor:
        """The steps' frames (B, F, H, W, C) uint8; the last of a step is what an agent sees after it."""
        if "frames" not in self._made:
            parts = [self._tokenizer.decode(part[:, None])[:, 0] for part in self.codes.split(_AT_ONCE)]
            self._made["frames"] = torch.cat(parts)
        return self._made["frames"]


RewardFunction = Callable[[Transition], Tensor]  # (B,) rewards that replace the model's own

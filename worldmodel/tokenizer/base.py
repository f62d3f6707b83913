"""Tokenizer: what the rest of the library asks of every tokenizer, whatever network it is.

Letters: B batch, T steps, F frames of a step, H W C pixels, h w grid of tokens, M slices and E features of a token.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from worldmodel.tokenizer.codebook import CodeLookup, SlicedCodebook
from worldmodel.tokenizer.config import VQVAEConfig

# The configs of all tokenizers, which their entry `net` tells apart. With a second class this is
# Annotated[VQVAEConfig | OtherConfig, BY_NET] (worldmodel.settings), and module build knows its tokenizer.
TokenizerConfig = VQVAEConfig


class TokenizerLoss(NamedTuple):
    total: Tensor  # () minimised by training
    nmse: Tensor  # () mean squared error over the variance of the data
    commitment: Tensor  # ()
    codes: Tensor  # (B, T, h, w, M) int64, for usage statistics


class Tokenizer(nn.Module, ABC):
    """Encodes the frames of steps as codes, and decodes them."""

    config: TokenizerConfig

    @property
    @abstractmethod
    def num_codes(self) -> int:
        """V: every code is in [0, V)."""

    @property
    @abstractmethod
    def code_dim(self) -> int:
        """E, features of one token, over all slices."""

    @property
    @abstractmethod
    def lookup(self) -> CodeLookup:
        """Codes (..., M) int64 -> the concatenated code vectors of all slices, (..., E) float32; callable."""

    @abstractmethod
    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, T, F, H, W, C) uint8 -> codes (B, T, h, w, M) int64 in [0, num_codes)."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, T, h, w, M) int64 -> frames (B, T, F, H, W, C) uint8."""

    @abstractmethod
    def loss(self, frames: Tensor, weights: Tensor | None = None) -> TokenizerLoss:
        """Normalised reconstruction error plus commitment loss, for frames (B, T, F, H, W, C) uint8.

        `weights` (B, T, F, H, W) float32 weight the pixels' squared errors; None: all 1.
        """

    def hidden_weights(self) -> list[nn.Parameter]:
        """Kernels and matrices between hidden layers, which Muon may train; none by default."""
        return []

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w), the grid of tokens of a step."""
        return self.config.grid

    @property
    def num_slices(self) -> int:
        return self.config.num_slices

    @property
    def frames_per_step(self) -> int:
        return self.config.frames_per_step

    @property
    def device(self) -> torch.device:
        return next(iter(self.code_vectors.values())).device

    @property
    def code_vectors(self) -> dict[str, Tensor]:
        """The vectors of each codebook, by the codebook's name in this module."""
        return {name: module.vectors for name, module in self.named_modules() if isinstance(module, SlicedCodebook)}

    def check_codes(self, codes: Tensor) -> Tensor:
        """Convert integers (…, h, w, M) to int64; ValueError if they are not codes of this tokenizer."""
        wanted = (*self.grid, self.num_slices)
        if codes.is_floating_point() or codes.dtype == torch.bool or codes.shape[-3:] != wanted:
            raise ValueError(
                f"codes must be integers that end in (h, w, M) = {wanted}, got {codes.dtype} {tuple(codes.shape)}"
            )
        codes = codes.long()
        if codes.device.type == "cpu" and codes.numel():  # on a GPU the check would block the host
            low, high = (int(end) for end in codes.aminmax())
            if low < 0 or high >= self.num_codes:
                raise ValueError(f"codes must be in [0, {self.num_codes}), got {low} to {high}")
        return codes

"""Tokenizer: the interface of every tokenizer, whatever its network.

Letters: B batch, T steps, F frames of a step, H W C pixels, h w grid of tokens, M slices and E features of a token.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.settings import BY_NET
from worldmodel.shapes import check_frames
from worldmodel.tokenizer.codebook import CodeLookup, SlicedCodebook
from worldmodel.tokenizer.config import VQVAEConfig
from worldmodel.tokenizer.frame_config import FrameVQVAEConfig
from worldmodel.tokenizer.hierarchical_config import HierarchicalVQVAEConfig

_AT_ONCE = 2**22  # pixels that a network encodes or decodes at once: 512 steps of two frames of 64 x 64, in 0.3 GB

# The configs of all tokenizers, distinguished by their entry `net`.
TokenizerConfig = Annotated[VQVAEConfig | FrameVQVAEConfig | HierarchicalVQVAEConfig, BY_NET]


class TokenizerLoss(NamedTuple):
    total: Tensor  # () minimised by training
    nmse: Tensor  # () mean squared error over the variance of the data
    commitment: Tensor  # ()
    codes: Tensor  # (B, T, h, w, M) int64, for usage statistics


class Tokenizer(nn.Module, ABC):
    """Encodes the frames of steps as codes, and decodes them."""

    config: TokenizerConfig
    mean: Tensor  # (1, C, 1, 1, 1) of the data, in the model's range
    std: Tensor

    def __init__(self, config: TokenizerConfig, standardise: bool = True) -> None:
        super().__init__()
        self.config = config
        # By default inputs and outputs have mean 0 and variance about 1, because dark games have little contrast.
        mean = torch.tensor(config.data_mean or (0.5,) * config.channels).view(1, -1, 1, 1, 1).sub_(0.5)
        std = torch.empty(mean.shape).fill_(config.data_variance**0.5)
        if not standardise:
            mean, std = torch.zeros(mean.shape), torch.ones(mean.shape)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    @property
    def num_codes(self) -> int:
        """V: every code is in [0, V)."""
        return self.config.codebook.num_codes

    @property
    def code_dim(self) -> int:
        """E, features of one token, over all slices."""
        return self.config.num_slices * self.config.codebook.code_dim

    @property
    @abstractmethod
    def lookup(self) -> CodeLookup:
        """Codes (..., M) int64 -> the concatenated code vectors of all slices, (..., E) float32; callable."""

    @abstractmethod
    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, T, F, H, W, C) uint8 -> codes (B, T, h, w, M) int64 in [0, num_codes)."""

    def encode_given(self, frames: Tensor) -> Tensor:
        """Codes for training dynamics, (B, T, h, w, M) int64, of frames (B, T, F, H, W, C) uint8.

        They are those of `encode`, unless the codes of given steps must be made without the steps to be predicted.
        """
        return self.encode(frames)

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, T, h, w, M) int64 -> frames (B, T, F, H, W, C) uint8."""

    @abstractmethod
    def loss(self, frames: Tensor, weights: Tensor | None = None) -> TokenizerLoss:
        """Normalised reconstruction error plus commitment loss, for frames (B, T, F, H, W, C) uint8.

        `weights` (B, T, F, H, W) float32 weight the pixels' squared errors; None: all 1.
        """

    def code_maps(self, codes: Tensor) -> dict[str, Tensor]:
        """Codes (B, T, h, w, M) as pictures, one row of them per codebook of the grid: name -> (B, T, k, h', w') int64.

        k pictures in each step, in order of time; neighbouring codes are neighbours.
        """
        return {f"slice {index}": part.unsqueeze(2) for index, part in enumerate(codes.unbind(-1))}

    @property
    def books(self) -> tuple[int, ...]:
        """The codebook of each of the M slices of a token; slices at different places of a token share theirs."""
        own = self.config.codebook.num_slices
        return tuple(index % own for index in range(self.num_slices))

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
        return self.mean.device

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

    # --- for the networks ---------------------------------------------------------------------------------------------

    def _check_frames(self, frames: Tensor) -> None:
        """ValueError unless frames are (..., F, H, W, C) uint8 of this tokenizer's sizes."""
        config = self.config
        check_frames(frames, config.height, config.width, config.channels, config.frames_per_step)

    def _check_steps(self, codes: Tensor) -> Tensor:
        """`check_codes` of rows and steps, (B, T, h, w, M)."""
        codes = self.check_codes(codes)
        if codes.ndim != 5:
            raise ValueError(f"codes must be (B, T, h, w, M), after rows and steps; got {tuple(codes.shape)}")
        return codes

    def _in_parts(self, make: Callable[[Tensor], Tensor], samples: Tensor) -> Tensor:
        """`make` of samples (N, t, …), a few at a time, so that memory does not grow with their number."""
        config = self.config
        pixels = samples.shape[1] * config.frames_per_step * config.height * config.width
        parts = [make(part) for part in samples.split(max(1, _AT_ONCE // max(1, pixels)))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _standardise(self, x: Tensor) -> Tensor:
        """(N, C, t, H, W) in [-0.5, 0.5] -> mean 0 and variance about 1, channels last in memory."""
        return ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last_3d)

    def _rescale(self, x: Tensor) -> Tensor:
        """Inverse of `_standardise`."""
        return torch.addcmul(self.mean, x, self.std)

    def _loss(
        self, pixels: Tensor, x: Tensor, weights: Tensor | None, commitment: Tensor, share: float, codes: Tensor
    ) -> TokenizerLoss:
        """The loss of pixels (N, C, t, H, W) that should be x; `weights` (N, t, H, W) weight their squared errors."""
        pixels = pixels.float()
        error = F.mse_loss(pixels, x) if weights is None else ((pixels - x).square() * weights.unsqueeze(1)).mean()
        nmse = error / self.config.data_variance
        return TokenizerLoss(nmse + share * commitment, nmse, commitment, codes)

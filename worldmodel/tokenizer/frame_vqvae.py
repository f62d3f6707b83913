"""FrameVQVAE: encodes each frame alone by 2-D convolutions and sliced codebooks.

Letters: B batch, T steps, F frames of a step, H W C pixels, h w grid of tokens, K codebooks of a frame, M = F*K slices
and E features of a token, N = B*T*F frames.
Source: Latent Video Transformer (arXiv:2006.10704) section 3.1 and 4.1. Differs: a step has F frames, whose codes are
slices of one token, frame after frame (F = 1 is the paper); pixels are standardised instead of scaled to [-1, 1], and
the decoder has no tanh: its pixels are clamped. The paper's commitment weight 1 applies to the error over the variance
of the data, in which the reconstruction weighs more than in the paper.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.layers.conv import ResidualBlock, SameConv3d, SameConvTranspose3d
from worldmodel.layers.defaults import own_defaults, own_dtype
from worldmodel.shapes import frames_from_model, frames_to_model
from worldmodel.tokenizer.base import Tokenizer, TokenizerLoss
from worldmodel.tokenizer.codebook import CodeLookup, SlicedCodebook
from worldmodel.tokenizer.frame_config import FrameVQVAEConfig

_CONV, _HALF = ((1, 3, 3), (1, 1, 1)), ((1, 4, 4), (1, 2, 2))  # kernel and stride


class FrameVQVAE(Tokenizer):
    """Tokenizer of the Latent Video Transformer: frame by frame, without norms, attention or positions."""

    config: FrameVQVAEConfig

    @own_dtype
    def __init__(self, config: FrameVQVAEConfig) -> None:
        super().__init__(config)
        widths = (config.channels, *config.stage_widths)
        self.down = nn.ModuleList(SameConv3d(*pair, *_HALF) for pair in pairwise(widths))
        self.encoder = _stack(config)
        self.codebook = SlicedCodebook(config.codebook)
        self.decoder = _stack(config)
        self.up = nn.ModuleList(SameConvTranspose3d(*pair, *_HALF) for pair in pairwise(widths[::-1]))
        nn.Module.to(self, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def hidden_weights(self) -> list[nn.Parameter]:
        """Kernels between hidden layers: not those of the first layer."""
        first = self.down[0].weight
        return [parameter for parameter in self.parameters() if parameter.ndim > 1 and parameter is not first]

    @property
    def lookup(self) -> CodeLookup:
        return self.codebook.lookup

    # --- the network ---------------------------------------------------------------------------------------------

    def _latents(self, x: Tensor) -> Tensor:
        """(N, C, 1, H, W) in [-0.5, 0.5] -> (N, h, w, E/F)."""
        x = self._standardise(x)
        for conv in self.down:
            x = F.relu(conv(x))
        return self.encoder(x).squeeze(2).movedim(1, -1)

    def _pixels(self, latents: Tensor) -> Tensor:
        """(N, h, w, E/F) -> (N, C, 1, H, W), not clamped."""
        x = latents.movedim(-1, 1).unsqueeze(2).contiguous(memory_format=torch.channels_last_3d)
        x = self.decoder(x)
        for conv in self.up:
            x = conv(F.relu(x))
        return self._rescale(x)

    def _inputs(self, frames: Tensor) -> Tensor:
        """(B, T, F, H, W, C) uint8 -> (N, C, 1, H, W)."""
        self._check_frames(frames)
        return frames_to_model(frames.flatten(0, 2).unsqueeze(1))

    def _to_tokens(self, codes: Tensor, frames: Tensor) -> Tensor:
        """Codes (N, h, w, K) of frames (B, T, F, …) -> (B, T, h, w, M): the frames of a step become slices."""
        codes = codes.unflatten(0, frames.shape[:3])  # (B, T, F, h, w, K)
        return codes.movedim(2, 4).flatten(4)

    def _to_frames(self, codes: Tensor) -> Tensor:
        """Inverse of `_to_tokens`."""
        return codes.unflatten(4, (self.frames_per_step, -1)).movedim(4, 2).flatten(0, 2)

    # --- frames and codes ----------------------------------------------------------------------------------------

    def code_maps(self, codes: Tensor) -> dict[str, Tensor]:
        frames = codes.unflatten(4, (self.frames_per_step, -1)).movedim(4, 2)  # (B, T, F, h, w, K)
        return {f"slice {index}": part for index, part in enumerate(frames.unbind(-1))}

    @own_defaults
    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, T, F, H, W, C) uint8 -> codes (B, T, h, w, M) int64 in [0, num_codes)."""
        self._check_frames(frames)
        codes = self._in_parts(self._codes_of, frames.flatten(0, 1).unsqueeze(1))
        return codes.reshape(*frames.shape[:2], *codes.shape[2:])

    def _codes_of(self, frames: Tensor) -> Tensor:
        """Single steps (N, 1, F, H, W, C) uint8 -> codes (N, 1, h, w, M)."""
        return self._to_tokens(self.codebook.encode(self._latents(self._inputs(frames))), frames)

    @own_defaults
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, T, h, w, M) int64 -> frames (B, T, F, H, W, C) uint8."""
        codes = self._check_steps(codes)
        frames = self._in_parts(self._frames_of, codes.flatten(0, 1).unsqueeze(1))
        return frames.view(*codes.shape[:2], self.frames_per_step, *frames.shape[2:])

    def _frames_of(self, codes: Tensor) -> Tensor:
        """Single steps (N, 1, h, w, M) -> their frames (N*F, 1, H, W, C) uint8."""
        return frames_from_model(self._pixels(self.lookup(self._to_frames(codes))))

    @own_defaults
    def loss(self, frames: Tensor, weights: Tensor | None = None) -> TokenizerLoss:
        """Normalised reconstruction error plus commitment loss, for frames (B, T, F, H, W, C) uint8.

        `weights` (B, T, F, H, W) float32 weight the pixels' squared errors; None: all 1.
        """
        x = self._inputs(frames)
        quantized = self.codebook(self._latents(x))
        weights = None if weights is None else weights.flatten(0, 2).unsqueeze(1)
        codes = self._to_tokens(quantized.codes, frames)
        pixels = self._pixels(quantized.latents)
        return self._loss(pixels, x, weights, quantized.commitment, self.config.commitment, codes)


def _stack(config: FrameVQVAEConfig) -> nn.Sequential:
    """A 3 x 3 convolution and the residual blocks, at the grid of the codes."""
    width = config.stage_widths[-1]
    blocks = (ResidualBlock(width, config.residual_units, _CONV[0]) for _ in range(config.residual_blocks))
    return nn.Sequential(SameConv3d(width, width, *_CONV), *blocks)

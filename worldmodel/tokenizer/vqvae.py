"""VQVAE: 3-D convolutions, attention residual blocks and sliced codebooks; frames to codes and back.

Letters: B batch, T steps, F frames of a step, H W C pixels, h w latent grid, M slices, E features of a position.
Source: VideoGen (arXiv:2104.10157) section 3 and appendix A. Differs: `temporal="step"` codes each step on its own
(first convolution strided over its F frames, then height and width only), so that a dream can stream; stages may have
widths of their own, since full width at full resolution is most of a CPU's work; LayerNorm as the text says.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.layers.conv import AttentionResidualBlock, ChannelNorm
from worldmodel.layers.position import BroadcastPosition
from worldmodel.layers.precision import Conv3d, ConvTranspose3d
from worldmodel.shapes import check_frames, frames_from_model, frames_to_model
from worldmodel.tokenizer.codebook import CodebookConfig, SlicedCodebook


@dataclass(frozen=True, kw_only=True, slots=True)
class VQVAEConfig:
    """Shape of the frames, of the net and of its codebook."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    height: int = 64
    width: int = 64
    channels: int = 3
    frames_per_step: int = 2  # F, the temporal stride
    temporal: Literal["step"] = "step"
    stage_widths: tuple[int, ...] = (32, 64, 128, 128)  # channels after each halving of height and width
    residual_units: int = 64  # inner channels of a residual block
    residual_layers: int = 2  # attention residual blocks in the encoder, and again in the decoder
    heads: int = 2
    commitment: float = 0.25  # weight of the commitment loss
    data_mean: tuple[float, ...] = (0.5, 0.5, 0.5)  # of each channel's pixels in [0, 1]; measured by train-tokenizer
    data_variance: float = 0.06  # of all pixels in [0, 1]; measured by train-tokenizer
    codebook: CodebookConfig = field(default_factory=CodebookConfig)

    def __post_init__(self) -> None:
        stride = 2 ** len(self.stage_widths)
        if not self.stage_widths or self.height % stride or self.width % stride:
            raise ValueError(
                f"{len(self.stage_widths)} stages need height and width divisible by {stride}, "
                f"got {self.height} x {self.width}; change stage_widths or the size of the frames"
            )
        if len(self.data_mean) != self.channels:
            raise ValueError(f"data_mean must have {self.channels} entries, one per channel, got {self.data_mean}")
        if self.data_variance <= 0:
            raise ValueError(f"data_variance must be above 0, got {self.data_variance}")

    @property
    def grid(self) -> tuple[int, int]:
        stride = 2 ** len(self.stage_widths)
        return self.height // stride, self.width // stride


class TokenizerLoss(NamedTuple):
    total: Tensor  # () what training minimises
    nmse: Tensor  # () mean squared error over the variance of the data
    commitment: Tensor  # ()
    codes: Tensor  # (B, T, h, w, M) int64, for usage statistics


class _Stack(nn.Module):
    """Attention residual blocks and a closing norm; the position table belongs to the VQVAE."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        width = config.stage_widths[-1]
        self.blocks = nn.ModuleList(
            AttentionResidualBlock(width, config.residual_units, config.heads, axes=(2, 3))
            for _ in range(config.residual_layers)
        )
        self.norm = ChannelNorm(width)

    def forward(self, x: Tensor, position: BroadcastPosition) -> Tensor:
        for block in self.blocks:
            x = block(x, position)
        return F.relu(self.norm(x))


class VQVAE(nn.Module):
    """Tokenizer of the VideoGen paper, coding each F-frame step on its own."""

    mean: Tensor  # (1, C, 1, 1, 1) of the data, in the range of the model
    std: Tensor

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        width, features = config.stage_widths[-1], config.codebook.num_slices * config.codebook.code_dim
        spans = [config.frames_per_step] + [1] * (len(config.stage_widths) - 1)  # frames that each stage joins
        ins = (config.channels, *config.stage_widths[:-1])
        self.down = nn.ModuleList(
            Conv3d(a, b, (span, 4, 4), stride=(span, 2, 2), padding=(0, 1, 1))
            for a, b, span in zip(ins, config.stage_widths, spans, strict=True)
        )
        self.conv_last = Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1))
        self.position = BroadcastPosition((1, *config.grid), width)  # shared by encoder and decoder
        self.encoder = _Stack(config)
        self.to_code = Conv3d(width, features, 1)
        self.codebook = SlicedCodebook(config.codebook)
        self.from_code = Conv3d(features, width, (1, 3, 3), padding=(0, 1, 1))
        self.decoder = _Stack(config)
        self.up = nn.ModuleList(
            ConvTranspose3d(b, a, (span, 4, 4), stride=(span, 2, 2), padding=(0, 1, 1))
            for a, b, span in reversed(list(zip(ins, config.stage_widths, spans, strict=True)))
        )
        # The net sees and makes pixels of mean 0 and variance about 1: dark games have little contrast.
        mean = torch.tensor(config.data_mean).view(1, -1, 1, 1, 1) - 0.5
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", torch.full_like(mean, config.data_variance**0.5), persistent=False)
        nn.Module.to(self, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the latent grid."""
        return self.config.grid

    @property
    def num_codes(self) -> int:
        return self.config.codebook.num_codes

    @property
    def num_slices(self) -> int:
        return self.config.codebook.num_slices

    @property
    def code_dim(self) -> int:
        """Features of one grid position: those of all slices together."""
        return self.config.codebook.num_slices * self.config.codebook.code_dim

    @property
    def frames_per_step(self) -> int:
        return self.config.frames_per_step

    def _latents(self, x: Tensor) -> Tensor:
        """(N, C, F, H, W) in [-0.5, 0.5] -> (N, h, w, E)."""
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last_3d)
        for conv in self.down:
            x = F.relu(conv(x))
        x = self.encoder(self.conv_last(x), self.position)
        return self.to_code(x).squeeze(2).movedim(1, -1)

    def _pixels(self, latents: Tensor) -> Tensor:
        """(N, h, w, E) -> (N, C, F, H, W), not clamped."""
        x = latents.movedim(-1, 1).unsqueeze(2).contiguous(memory_format=torch.channels_last_3d)
        x = self.decoder(self.from_code(x), self.position)
        for stage, conv in enumerate(self.up):
            x = conv(x if stage == 0 else F.relu(x))
        return torch.addcmul(self.mean, x, self.std)

    def _check(self, frames: Tensor) -> None:
        config = self.config
        check_frames(frames, config.height, config.width, config.channels, config.frames_per_step)

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, T, F, H, W, C) uint8 -> codes (B, T, h, w, M) int64 in [0, num_codes)."""
        self._check(frames)
        codes = self.codebook.encode(self._latents(frames_to_model(frames.flatten(0, 1))))
        return codes.unflatten(0, frames.shape[:2])

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, T, h, w, M) int64 -> frames (B, T, F, H, W, C) uint8."""
        pixels = self._pixels(self.codebook.lookup(codes.flatten(0, 1)))
        return frames_from_model(pixels).unflatten(0, codes.shape[:2])

    def code_vectors(self, codes: Tensor) -> Tensor:
        """Codes (..., M) int64 -> the code vectors of all slices, (..., E) float32."""
        return self.codebook.lookup(codes)

    def loss(self, frames: Tensor) -> TokenizerLoss:
        """Normalised reconstruction error plus commitment, for frames (B, T, F, H, W, C) uint8."""
        self._check(frames)
        x = frames_to_model(frames.flatten(0, 1))
        quantized = self.codebook(self._latents(x))
        nmse = F.mse_loss(self._pixels(quantized.latents).float(), x) / self.config.data_variance
        total = nmse + self.config.commitment * quantized.commitment
        return TokenizerLoss(total, nmse, quantized.commitment, quantized.codes.unflatten(0, frames.shape[:2]))

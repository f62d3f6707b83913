"""VQVAE: 3-D convolutions, attention residual blocks and sliced codebooks; frames to codes and back.

Letters: B batch, T steps, F frames of a step, H W C pixels, h w latent grid, M slices, E features of a position;
N pieces that the net sees at once, of t steps each: single steps (N = B*T, t = 1), or else clips (N = B, t = T).
Source: VideoGen (arXiv:2104.10157) section 3 and appendix A; `temporal="clip"` is that paper. Differs: "step" codes
each step on its own (first convolution strided over its F frames, then height and width only) and "causal" looks only
back, so that a dream can stream; stages may have widths of their own, since full width at full resolution is most of a
CPU's work; LayerNorm as the text says.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.layers.conv import (
    AttentionResidualBlock,
    NormKind,
    SameConv3d,
    SameConvTranspose3d,
    Triple,
    attention_share,
    make_norm,
)
from worldmodel.layers.position import BroadcastPosition
from worldmodel.layers.precision import Conv3d
from worldmodel.layers.streaming import Stream, StreamState
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
    temporal: Literal["step", "causal", "clip"] = "step"  # each step alone; looking back; a whole clip at once
    clip_steps: int = 8  # T of a clip; a causal net is only trained on that many steps and codes any number
    stage_widths: tuple[int, ...] = (32, 64, 128, 128)  # channels after each halving
    space_stride: tuple[int, int] | None = None  # of height and width; None: every stage halves both
    residual_units: int = 64  # inner channels of a residual block
    residual_layers: int = 2  # attention residual blocks in the encoder, and again in the decoder
    attention: bool = True  # False: more residual blocks instead, of about the same size together
    heads: int = 2
    norm: NormKind = "layer"
    from_code_kernel: Literal[1, 3] = 3  # of the decoder's first convolution
    commitment: float = 0.25  # weight of the commitment loss
    data_mean: tuple[float, ...] = (0.5, 0.5, 0.5)  # of each channel's pixels in [0, 1]; measured by train-tokenizer
    data_variance: float = 0.06  # of all pixels in [0, 1]; measured by train-tokenizer
    codebook: CodebookConfig = field(default_factory=CodebookConfig)

    def __post_init__(self) -> None:
        factors = {"height": self._space[0], "width": self._space[1]}
        if self.temporal != "step":
            factors["time (frames_per_step)"] = self.frames_per_step
        if bad := [f"{name} {factor}" for name, factor in factors.items() if factor < 1 or factor & (factor - 1)]:
            raise ValueError(f"strides must be powers of two, got {', '.join(bad)}")
        stages = max(factors.values()).bit_length() - 1
        if not self.stage_widths or stages != len(self.stage_widths):
            raise ValueError(
                f"stage_widths must have one entry per halving, {stages} for the largest of the strides {factors}, "
                f"got {self.stage_widths}"
            )
        for name, size, stride in zip(("height", "width"), (self.height, self.width), self._space, strict=True):
            if size % stride:
                raise ValueError(
                    f"{name} must be divisible by {stride}, its stride, got {size}; "
                    "change stage_widths, space_stride or the size of the frames"
                )
        if self.frames_per_step < 1 or self.clip_steps < 1:
            raise ValueError(
                f"frames_per_step and clip_steps must be at least 1, got {self.frames_per_step} and {self.clip_steps}"
            )
        if len(self.data_mean) != self.channels:
            raise ValueError(f"data_mean must have {self.channels} entries, one per channel, got {self.data_mean}")
        if self.data_variance <= 0:
            raise ValueError(f"data_variance must be above 0, got {self.data_variance}")

    @property
    def _space(self) -> tuple[int, int]:
        """Strides of height and width."""
        return self.space_stride or (2 ** len(self.stage_widths), 2 ** len(self.stage_widths))

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the latent grid."""
        return self.height // self._space[0], self.width // self._space[1]

    @property
    def piece_steps(self) -> int:
        """Steps that a training sample holds."""
        return 1 if self.temporal == "step" else self.clip_steps

    @property
    def strides(self) -> list[Triple]:
        """(t, h, w) of each stage of the encoder: each axis is halved in the first stages, as often as it needs."""
        stages = range(len(self.stage_widths))
        if self.temporal == "step":  # the first stage joins all frames
            times = [self.frames_per_step if i == 0 else 1 for i in stages]
        else:
            times = [2 if 2**i < self.frames_per_step else 1 for i in stages]
        height, width = ([2 if 2**i < stride else 1 for i in stages] for stride in self._space)
        return list(zip(times, height, width, strict=True))


class TokenizerLoss(NamedTuple):
    total: Tensor  # () what training minimises
    nmse: Tensor  # () mean squared error over the variance of the data
    commitment: Tensor  # ()
    codes: Tensor  # (B, T, h, w, M) int64, for usage statistics


class _Stack(nn.Module):
    """Attention residual blocks and a closing norm; the position table belongs to the VQVAE."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        width, units = config.stage_widths[-1], config.residual_units
        axes: tuple[int, ...] = (1, 2, 3) if config.temporal == "clip" else (2, 3)
        kernel = _kernel(config, 3)
        count = config.residual_layers
        if not config.attention:
            count, axes = round(count * attention_share(width, units, len(axes), kernel)), ()
        causal = config.temporal == "causal"
        self.blocks = nn.ModuleList(
            AttentionResidualBlock(width, units, config.heads, axes, kernel, causal, config.norm) for _ in range(count)
        )
        self.norm = make_norm(config.norm, width)

    def forward(self, x: Tensor, position: BroadcastPosition | None, stream: Stream | None) -> Tensor:
        for block in self.blocks:
            x = block(x, position, stream)
        return F.relu(self.norm(x))


def _kernel(config: VQVAEConfig, size: int) -> Triple:
    """A cube, or flat in time where steps are coded alone."""
    return (1 if config.temporal == "step" else size, size, size)


class VQVAE(nn.Module):
    """Tokenizer of the VideoGen paper, for whole clips or for streams of steps."""

    mean: Tensor  # (1, C, 1, 1, 1) of the data, in the range of the model
    std: Tensor

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        width, features = config.stage_widths[-1], config.codebook.num_slices * config.codebook.code_dim
        causal = config.temporal == "causal"
        strides, widths = config.strides, (config.channels, *config.stage_widths)
        # The paper's kernel is 4 on every axis; "step" has no other frames to see.
        kernels = [(s[0] if config.temporal == "step" else 4, 4, 4) for s in strides]
        self.down = nn.ModuleList(
            SameConv3d(widths[i], widths[i + 1], kernels[i], strides[i], causal) for i in range(len(strides))
        )
        self.conv_last = SameConv3d(width, width, _kernel(config, 3), causal=causal)
        self.position = None  # shared by encoder and decoder
        if config.attention:
            steps = config.clip_steps if config.temporal == "clip" else 1
            self.position = BroadcastPosition((steps, *config.grid), width)
        self.encoder = _Stack(config)
        self.to_code = Conv3d(width, features, 1)
        self.codebook = SlicedCodebook(config.codebook)
        self.from_code = SameConv3d(features, width, _kernel(config, config.from_code_kernel), causal=causal)
        self.decoder = _Stack(config)
        # The paper's decoder doubles each axis in its first stages, as its encoder halves it. The others mirror the
        # encoder: with the frames of a step unfolded last, the stages before have less to do.
        backwards = range(len(strides))[::-1]
        order = backwards[::-1] if config.temporal == "clip" else backwards
        self.up = nn.ModuleList(
            SameConvTranspose3d(widths[i + 1], widths[i], kernels[j], strides[j], causal)
            for i, j in zip(backwards, order, strict=True)
        )
        # The net sees and makes pixels of mean 0 and variance about 1: dark games have little contrast.
        mean = torch.tensor(config.data_mean).view(1, -1, 1, 1, 1) - 0.5
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", torch.full_like(mean, config.data_variance**0.5), persistent=False)
        nn.Module.to(self, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def hidden_weights(self) -> list[nn.Parameter]:
        """The kernels and matrices between hidden layers: not those at the pixels and at the codes, nor the positions."""
        inner = ("down.", "conv_last.", "encoder.", "decoder.", "up.")
        return [
            parameter
            for name, parameter in self.named_parameters()
            if parameter.ndim > 1 and name.startswith(inner) and not name.startswith("down.0.")
        ]

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

    # --- the net -------------------------------------------------------------------------------------------------

    def _latents(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """(N, C, t*F, H, W) in [-0.5, 0.5] -> (N, t, h, w, E)."""
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last_3d)
        for conv in self.down:
            x = F.relu(conv(x, stream))
        x = self.encoder(self.conv_last(x, stream), self.position, stream)
        return self.to_code(x).movedim(1, -1)

    def _pixels(self, latents: Tensor, stream: Stream | None = None) -> Tensor:
        """(N, t, h, w, E) -> (N, C, t*F, H, W), not clamped."""
        x = latents.movedim(-1, 1).contiguous(memory_format=torch.channels_last_3d)
        x = self.decoder(self.from_code(x, stream), self.position, stream)
        for stage, conv in enumerate(self.up):
            x = conv(x if stage == 0 else F.relu(x), stream)
        return torch.addcmul(self.mean, x, self.std)

    def _to_pieces(self, steps: Tensor) -> Tensor:
        """(B, T, ...) -> (N, t, ...)."""
        config = self.config
        if config.temporal == "clip" and steps.shape[1] != config.clip_steps:
            raise ValueError(
                f"a clip has {config.clip_steps} steps, got {steps.shape[1]}; cut the video into clips, "
                "or set clip_steps and train again"
            )
        return steps.flatten(0, 1).unsqueeze(1) if config.temporal == "step" else steps

    def _inputs(self, frames: Tensor) -> Tensor:
        """(B, T, F, H, W, C) uint8 -> (N, C, t*F, H, W)."""
        config = self.config
        check_frames(frames, config.height, config.width, config.channels, config.frames_per_step)
        return frames_to_model(self._to_pieces(frames).flatten(1, 2))

    # --- frames and codes ----------------------------------------------------------------------------------------

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, T, F, H, W, C) uint8 -> codes (B, T, h, w, M) int64 in [0, num_codes)."""
        return self._encode(frames, None)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, T, h, w, M) int64 -> frames (B, T, F, H, W, C) uint8."""
        return self._decode(codes, None)

    def encode_step(self, frames: Tensor, state: StreamState | None = None) -> tuple[Tensor, StreamState]:
        """The next step of a stream, coded as `encode` codes it in the whole.

        Args:
            frames: (B, F, H, W, C) uint8.
            state: what the step before returned; None begins a stream.

        Returns:
            Codes (B, h, w, M) int64 and the state for the next step; the given one stays as it is.
        """
        stream = self._stream(state)
        codes = self._encode(frames.unsqueeze(1), stream)
        return codes.squeeze(1), stream.state()

    def decode_step(self, codes: Tensor, state: StreamState | None = None) -> tuple[Tensor, StreamState]:
        """The next step of a stream, decoded as `decode` decodes it in the whole.

        Args:
            codes: (B, h, w, M) int64.
            state: what the step before returned; None begins a stream.

        Returns:
            Frames (B, F, H, W, C) uint8 and the state for the next step; the given one stays as it is.
        """
        stream = self._stream(state)
        frames = self._decode(codes.unsqueeze(1), stream)
        return frames.squeeze(1), stream.state()

    def _stream(self, state: StreamState | None) -> Stream:
        if self.config.temporal == "clip":
            raise ValueError(
                'a tokenizer with temporal="clip" codes whole clips, whose every code depends on later frames; '
                'to stream, train one with temporal="step" or "causal"'
            )
        return Stream(state)

    def _encode(self, frames: Tensor, stream: Stream | None) -> Tensor:
        codes = self.codebook.encode(self._latents(self._inputs(frames), stream))
        return codes.reshape(*frames.shape[:2], *codes.shape[2:])

    def _decode(self, codes: Tensor, stream: Stream | None) -> Tensor:
        wanted = (*self.grid, self.num_slices)
        if codes.ndim != 5 or codes.shape[2:] != wanted:
            raise ValueError(f"codes must end in (h, w, M) = {wanted}, after rows and steps; got {tuple(codes.shape)}")
        pixels = self._pixels(self.codebook.lookup(self._to_pieces(codes)), stream)
        frames = frames_from_model(pixels)
        return frames.view(*codes.shape[:2], self.frames_per_step, *frames.shape[2:])

    def code_vectors(self, codes: Tensor) -> Tensor:
        """Codes (..., M) int64 -> the code vectors of all slices, (..., E) float32."""
        return self.codebook.lookup(codes)

    def loss(self, frames: Tensor) -> TokenizerLoss:
        """Normalised reconstruction error plus commitment, for frames (B, T, F, H, W, C) uint8."""
        x = self._inputs(frames)
        quantized = self.codebook(self._latents(x))
        nmse = F.mse_loss(self._pixels(quantized.latents).float(), x) / self.config.data_variance
        total = nmse + self.config.commitment * quantized.commitment
        codes = quantized.codes.reshape(*frames.shape[:2], *quantized.codes.shape[2:])
        return TokenizerLoss(total, nmse, quantized.commitment, codes)

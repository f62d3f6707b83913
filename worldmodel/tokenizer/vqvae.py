"""VQVAE: 3-D convolutions, attention residual blocks and sliced codebooks; encodes frames as codes and decodes them.

Letters: B batch, T steps, F frames of a step, H W C pixels, h w grid of tokens, p side of their patches of latents,
M slices and E features of a token;
N samples that the network processes, of t steps each: single steps (N = B*T, t = 1) or clips (N = B, t = T).
Source: VideoGen (arXiv:2104.10157) section 3 and appendix A; `temporal="clip"` follows that paper. Differs: "step"
encodes each step on its own (the first convolution is strided over its F frames, the others over height and width only)
and "causal" encodes a step with those before it; each stage may have its own width, because full width at full
resolution is most of a CPU's work; LayerNorm as in the paper's text.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.layers.conv import (
    AttentionResidualBlock,
    SameConv3d,
    SameConvTranspose3d,
    Triple,
    attention_share,
    make_norm,
)
from worldmodel.layers.defaults import own_defaults, own_dtype
from worldmodel.layers.position import BroadcastPosition
from worldmodel.layers.precision import Conv3d
from worldmodel.shapes import frames_from_model, frames_to_model
from worldmodel.tokenizer.base import Tokenizer, TokenizerLoss
from worldmodel.tokenizer.codebook import CodeLookup, SlicedCodebook
from worldmodel.tokenizer.config import VQVAEConfig


class _Stack(nn.Module):
    """Attention residual blocks and a final norm; the position table belongs to the VQVAE."""

    def __init__(self, config: VQVAEConfig, count: int) -> None:
        super().__init__()
        width, units = config.stage_widths[-1], config.residual_units
        axes: tuple[int, ...] = (1, 2, 3) if config.temporal == "clip" else (2, 3)
        kernel = _kernel(config, 3)
        if not config.attention:
            count, axes = round(count * attention_share(width, units, len(axes), kernel)), ()
        causal = config.temporal == "causal"
        self.blocks = nn.ModuleList(
            AttentionResidualBlock(width, units, config.heads, axes, kernel, causal, config.norm) for _ in range(count)
        )
        self.norm = make_norm(config.norm, width)

    def forward(self, x: Tensor, position: BroadcastPosition | None) -> Tensor:
        for block in self.blocks:
            x = block(x, position)
        return F.relu(self.norm(x))


def _kernel(config: VQVAEConfig, size: int) -> Triple:
    """A cubic kernel, or flat in time if steps are encoded alone."""
    return (1 if config.temporal == "step" else size, size, size)


class VQVAE(Tokenizer):
    """Tokenizer of the VideoGen paper, for whole clips, for single steps, or for steps with their past."""

    config: VQVAEConfig

    @own_dtype
    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__(config, config.standardise)
        width, features = config.stage_widths[-1], config.codebook.num_slices * config.codebook.code_dim
        causal = config.temporal == "causal"
        strides, widths = config.strides, (config.channels, *config.stage_widths)
        # The paper's kernel is 4 on every axis; "step" has only its own frames in time.
        kernels = [(s[0] if config.temporal == "step" else 4, 4, 4) for s in strides]
        self.down = nn.ModuleList(
            SameConv3d(widths[i], widths[i + 1], kernels[i], strides[i], causal) for i in range(len(strides))
        )
        self.conv_last = SameConv3d(width, width, _kernel(config, 3), causal=causal)
        self.position = None  # shared by encoder and decoder
        if config.attention:
            steps = config.clip_steps if config.temporal == "clip" else 1
            self.position = BroadcastPosition((steps, *config.latent_grid), width)
        own = config.encoder_layers
        self.encoder = _Stack(config, config.residual_layers if own is None else own)
        self.to_code = Conv3d(width, features, 1)
        self.codebook = SlicedCodebook(config.codebook)
        self.from_code = SameConv3d(features, width, _kernel(config, config.from_code_kernel), causal=causal)
        self.decoder = _Stack(config, config.residual_layers)
        # The paper's decoder doubles each axis in its first stages, like its encoder halves it. The other modes mirror
        # the encoder: unfolding the frames of a step last leaves less work for the stages before.
        backwards = range(len(strides))[::-1]
        order = backwards[::-1] if config.temporal == "clip" else backwards
        self.up = nn.ModuleList(
            SameConvTranspose3d(widths[i + 1], widths[i], kernels[j], strides[j], causal)
            for i, j in zip(backwards, order, strict=True)
        )
        nn.Module.to(self, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def hidden_weights(self) -> list[nn.Parameter]:
        """Kernels and matrices between hidden layers: not those of the first layer, the codes, or the positions."""
        inner = ("down.", "conv_last.", "encoder.", "decoder.", "up.")
        return [
            parameter
            for name, parameter in self.named_parameters()
            if parameter.ndim > 1 and name.startswith(inner) and not name.startswith("down.0.")
        ]

    # --- the network ---------------------------------------------------------------------------------------------

    def _latents(self, x: Tensor) -> Tensor:
        """(N, C, t*F, H, W) in [-0.5, 0.5] -> (N, t, h, w, E)."""
        x = self._standardise(x)
        for conv in self.down:
            x = F.relu(conv(x))
        x = self.encoder(self.conv_last(x), self.position)
        return self.to_code(x).movedim(1, -1)

    def _pixels(self, latents: Tensor) -> Tensor:
        """(N, t, h, w, E) -> (N, C, t*F, H, W), not clamped."""
        x = latents.movedim(-1, 1).contiguous(memory_format=torch.channels_last_3d)
        x = self.decoder(self.from_code(x), self.position)
        for stage, conv in enumerate(self.up):
            x = conv(x if stage == 0 else F.relu(x))
        return self._rescale(x)

    def _fold(self, codes: Tensor) -> Tensor:
        """Codes of latents (…, h*p, w*p, M) -> codes of tokens (…, h, w, p*p*M): a patch becomes slices."""
        patch = self.config.patch
        rows = codes.unflatten(-3, (-1, patch)).unflatten(-2, (-1, patch))  # (…, h, p, w, p, M)
        return rows.transpose(-4, -3).flatten(-3)

    def _unfold(self, codes: Tensor) -> Tensor:
        """Inverse of `_fold`."""
        patch = self.config.patch
        rows = codes.unflatten(-1, (patch, patch, -1)).transpose(-4, -3)  # (…, h, p, w, p, M)
        return rows.flatten(-5, -4).flatten(-3, -2)

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
        self._check_frames(frames)
        return frames_to_model(self._to_pieces(frames).flatten(1, 2))

    # --- frames and codes ----------------------------------------------------------------------------------------

    @own_defaults
    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, T, F, H, W, C) uint8 -> codes (B, T, h, w, M) int64 in [0, num_codes)."""
        self._check_frames(frames)
        codes = self._in_parts(self._codes_of, self._to_pieces(frames))
        return codes.reshape(*frames.shape[:2], *codes.shape[2:])

    def _codes_of(self, frames: Tensor) -> Tensor:
        """Frames (N, t, F, H, W, C) uint8 -> codes (N, t, h, w, M)."""
        return self._fold(self.codebook.encode(self._latents(frames_to_model(frames.flatten(1, 2)))))

    @own_defaults
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, T, h, w, M) int64 -> frames (B, T, F, H, W, C) uint8."""
        codes = self._check_steps(codes)
        frames = self._in_parts(self._frames_of, self._to_pieces(codes))
        return frames.view(*codes.shape[:2], self.frames_per_step, *frames.shape[2:])

    def _frames_of(self, codes: Tensor) -> Tensor:
        """Codes (N, t, h, w, M) -> frames (N, t*F, H, W, C) uint8."""
        return frames_from_model(self._pixels(self.lookup(self._unfold(codes))))

    def code_maps(self, codes: Tensor) -> dict[str, Tensor]:
        return super().code_maps(self._unfold(codes))  # each slice of the codebook at the grid of latents

    @property
    def lookup(self) -> CodeLookup:
        """Codes (..., M) int64 -> the concatenated code vectors of all slices, (..., E) float32; callable."""
        return self.codebook.lookup

    @own_defaults
    def loss(self, frames: Tensor, weights: Tensor | None = None) -> TokenizerLoss:
        """Normalised reconstruction error plus commitment loss, for frames (B, T, F, H, W, C) uint8.

        `weights` (B, T, F, H, W) float32 weight the pixels' squared errors; None: all 1.
        """
        x = self._inputs(frames)
        quantized = self.codebook(self._latents(x))
        pixels = self._pixels(quantized.latents)
        if weights is not None:
            weights = self._to_pieces(weights).flatten(1, 2)
        codes = self._fold(quantized.codes)
        codes = codes.reshape(*frames.shape[:2], *codes.shape[2:])
        return self._loss(pixels, x, weights, quantized.commitment, self.config.commitment, codes)

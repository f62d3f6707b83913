"""HierarchicalVQVAE: encodes clips in two levels of 3-D convolutions, the finer level given the coarser one.

Letters: B batch, T steps of 4 frames, H W C pixels, h w grid of tokens, E features of one code vector. "Top" is the
coarse level, (T, h, w); "bottom" the fine one, twice as fine along each axis: (2T, 2h, 2w).
Source: Predicting Video with VQVAE (arXiv:2103.01950) section 3.1; Generating Diverse High-Fidelity Images with
VQ-VAE-2 (arXiv:1906.00446) section 3.1 and its appendix. The first gives shapes alone: the order of layers, and their
widths in preset "pixelcnn-paper", are assumed from the second and its public code, in three dimensions. Differs: pixels
are standardised.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from worldmodel.layers.conv import ResidualBlock, SameConv3d, SameConvTranspose3d
from worldmodel.layers.defaults import own_defaults, own_dtype
from worldmodel.layers.precision import Conv3d
from worldmodel.shapes import frames_from_model, frames_to_model
from worldmodel.tokenizer.base import Tokenizer, TokenizerLoss
from worldmodel.tokenizer.codebook import CodeLookup, Quantized, SlicedCodebook
from worldmodel.tokenizer.hierarchical_config import HierarchicalVQVAEConfig

_SAME = (3, 3, 3), (1, 1, 1)  # kernel and stride
_HALF, _HALF_SPACE = ((4, 4, 4), (2, 2, 2)), ((3, 4, 4), (1, 2, 2))


class HierarchicalVQVAE(Tokenizer):
    """Tokenizer of Predicting Video with VQVAE: two levels of codes, for clips of any number of 4-frame steps.

    The slices of a token are [top, bottom(0;0,0), bottom(0;0,1), bottom(0;1,0), bottom(0;1,1), bottom(1;0,0), …], with
    (half-step; row, column) below the top code. It is not causal: codes depend on earlier and later frames.
    """

    config: HierarchicalVQVAEConfig

    @own_dtype
    def __init__(self, config: HierarchicalVQVAEConfig) -> None:
        super().__init__(config)
        (narrow, wide), features = config.stage_widths, config.codebook.code_dim
        self.bottom_encoder = _encoder(config, ((config.channels, narrow, _HALF), (narrow, wide, _HALF_SPACE)), wide)
        self.top_encoder = _encoder(config, ((wide, narrow, _HALF),), narrow)
        self.to_top = Conv3d(wide, features, 1)
        self.top_codebook = SlicedCodebook(config.codebook)
        self.top_decoder = _decoder(config, features, ((wide, features, _HALF),))
        self.to_bottom = Conv3d(features + wide, features, 1)
        self.bottom_codebook = SlicedCodebook(config.codebook)
        self.raise_top = SameConvTranspose3d(features, features, *_HALF)
        stages = (wide, narrow, _HALF_SPACE), (narrow, config.channels, _HALF)
        self.decoder = _decoder(config, 2 * features, stages)
        nn.Module.to(self, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    @property
    def books(self) -> tuple[int, ...]:
        return (0, *[1] * 8)

    def hidden_weights(self) -> list[nn.Parameter]:
        """Kernels between hidden layers: not those of the first layer and of the codes."""
        inner = ("bottom_encoder.", "top_encoder.", "top_decoder.", "raise_top.", "decoder.")
        first = self.bottom_encoder[0].weight
        return [
            parameter
            for name, parameter in self.named_parameters()
            if parameter.ndim > 1 and name.startswith(inner) and parameter is not first
        ]

    @property
    def lookup(self) -> CodeLookup:
        """Codes (..., 9) int64 -> the vectors of a token's top code and eight bottom codes, (..., 9*E) float32."""
        top, bottom = self.top_codebook.vectors, self.bottom_codebook.vectors
        return CodeLookup(torch.cat((top, bottom.expand(8, -1, -1))))

    # --- the network ---------------------------------------------------------------------------------------------

    def _run(self, part: nn.Module, x: Tensor) -> Tensor:
        if self.config.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(part, x, use_reentrant=False)
        return part(x)

    def _features(self, x: Tensor) -> Tensor:
        """(B, C, 4T, H, W) in [-0.5, 0.5] -> features of the bottom level (B, D, 2T, 2h, 2w)."""
        return self._run(self.bottom_encoder, self._standardise(x))

    def _top_latents(self, features: Tensor) -> Tensor:
        """(B, D, 2T, 2h, 2w) -> (B, T, h, w, E)."""
        return self.to_top(self._run(self.top_encoder, features)).movedim(1, -1)

    def _bottom_latents(self, top: Tensor, features: Tensor) -> Tensor:
        """Top vectors (B, T, h, w, E) and features of the bottom level -> (B, 2T, 2h, 2w, E)."""
        given = self._run(self.top_decoder, _channels_second(top))
        return self.to_bottom(torch.cat((given, features), dim=1)).movedim(1, -1)

    def _pixels(self, top: Tensor, bottom: Tensor) -> Tensor:
        """Vectors (B, T, h, w, E) and (B, 2T, 2h, 2w, E) -> (B, C, 4T, H, W), not clamped."""
        x = torch.cat((self.raise_top(_channels_second(top)), _channels_second(bottom)), dim=1)
        return self._rescale(self._run(self.decoder, x))

    def _inputs(self, frames: Tensor) -> Tensor:
        """(B, T, 4, H, W, C) uint8 -> (B, C, 4T, H, W)."""
        self._check_frames(frames)
        return frames_to_model(frames.flatten(1, 2))

    def _quantise(self, x: Tensor) -> tuple[Quantized, Quantized]:
        """Top and bottom level of (B, C, 4T, H, W); in training mode also updates the codebooks."""
        features = self._features(x)
        top = self.top_codebook(self._top_latents(features))
        return top, self.bottom_codebook(self._bottom_latents(top.latents, features))

    # --- frames and codes ----------------------------------------------------------------------------------------

    def code_maps(self, codes: Tensor) -> dict[str, Tensor]:
        top, bottom = split_levels(codes)
        return {"top": top.unsqueeze(2), "bottom": bottom.unflatten(1, (-1, 2))}

    @own_defaults
    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, T, 4, H, W, C) uint8 -> codes (B, T, h, w, 9) int64 in [0, num_codes); T is at least 1."""
        self._check_frames(frames)
        return self._in_parts(self._codes_of, frames)

    def _codes_of(self, frames: Tensor) -> Tensor:
        """`encode` of a few rows."""
        features = self._features(self._inputs(frames))
        top = self.top_codebook.encode(self._top_latents(features))
        bottom = self.bottom_codebook.encode(self._bottom_latents(self.top_codebook.lookup(top), features))
        return join_levels(top.squeeze(-1), bottom.squeeze(-1))

    def encode_given(self, frames: Tensor) -> Tensor:
        """Codes as a prediction needs them: the first step encoded alone, the others with the whole clip.

        The codes of the given step then do not depend on the frames to be predicted.

        Args:
            frames: (B, T, 4, H, W, C) uint8.

        Returns: codes (B, T, h, w, 9) int64.
        """
        return torch.cat((self.encode(frames[:, :1]), self.encode(frames)[:, 1:]), dim=1)

    @own_defaults
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, T, h, w, 9) int64 -> frames (B, T, 4, H, W, C) uint8."""
        return self._in_parts(self._frames_of, self._check_steps(codes))

    def _frames_of(self, codes: Tensor) -> Tensor:
        """`decode` of a few rows."""
        return self._to_frames(self._pixels(*self._vectors(codes)))

    @own_defaults
    def decode_top(self, codes: Tensor) -> Tensor:
        """Frames as the top level alone describes them, like `decode` with bottom code vectors of zero."""
        top, bottom = self._vectors(codes)
        return self._to_frames(self._pixels(top, torch.zeros_like(bottom)))

    def _vectors(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        top, bottom = split_levels(self._check_steps(codes))
        return self.top_codebook.lookup(top.unsqueeze(-1)), self.bottom_codebook.lookup(bottom.unsqueeze(-1))

    def _to_frames(self, pixels: Tensor) -> Tensor:
        return frames_from_model(pixels).unflatten(1, (-1, self.frames_per_step))

    @own_defaults
    def loss(self, frames: Tensor, weights: Tensor | None = None) -> TokenizerLoss:
        """Normalised reconstruction error plus both levels' commitment loss, for frames (B, T, 4, H, W, C) uint8.

        `weights` (B, T, 4, H, W) float32 weight the pixels' squared errors; None: all 1.
        """
        x = self._inputs(frames)
        top, bottom = self._quantise(x)
        codes = join_levels(top.codes.squeeze(-1), bottom.codes.squeeze(-1))
        weights = None if weights is None else weights.flatten(1, 2)
        commitment = top.commitment + bottom.commitment
        pixels = self._pixels(top.latents, bottom.latents)
        return self._loss(pixels, x, weights, commitment, self.config.commitment, codes)


def join_levels(top: Tensor, bottom: Tensor) -> Tensor:
    """Codes (B, T, h, w) of the top and (B, 2T, 2h, 2w) of the bottom level -> tokens (B, T, h, w, 9)."""
    parts = bottom.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (B, T, 2, h, 2, w, 2)
    return torch.cat((top.unsqueeze(-1), parts.permute(0, 1, 3, 5, 2, 4, 6).flatten(4)), dim=-1)


def split_levels(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse of `join_levels`."""
    parts = codes[..., 1:].unflatten(-1, (2, 2, 2)).permute(0, 1, 4, 2, 5, 3, 6)  # (B, T, 2, h, 2, w, 2)
    return codes[..., 0], parts.flatten(5, 6).flatten(3, 4).flatten(1, 2)


def _channels_second(vectors: Tensor) -> Tensor:
    return vectors.movedim(-1, 1).contiguous(memory_format=torch.channels_last_3d)


_Stage = tuple[int, int, tuple[tuple[int, int, int], tuple[int, int, int]]]  # channels in and out, kernel and stride


def _blocks(config: HierarchicalVQVAEConfig) -> list[nn.Module]:
    """The residual blocks of one of the four parts, and the ReLU behind them."""
    wide, units, count = config.stage_widths[1], config.residual_units, config.residual_blocks
    return [*(ResidualBlock(wide, units, _SAME[0]) for _ in range(count)), nn.ReLU()]


def _encoder(config: HierarchicalVQVAEConfig, stages: Sequence[_Stage], width: int) -> nn.Sequential:
    """Strided convolutions with a ReLU behind each, a convolution from their width, the residual blocks."""
    layers: list[nn.Module] = []
    for ins, outs, shape in stages:
        layers += [SameConv3d(ins, outs, *shape), nn.ReLU()]
    return nn.Sequential(*layers, SameConv3d(width, config.stage_widths[1], *_SAME), *_blocks(config))


def _decoder(config: HierarchicalVQVAEConfig, features: int, stages: Sequence[_Stage]) -> nn.Sequential:
    """A convolution of the code vectors, the residual blocks, transposed convolutions with a ReLU between them."""
    layers: list[nn.Module] = [SameConv3d(features, config.stage_widths[1], *_SAME), *_blocks(config)]
    for index, (ins, outs, shape) in enumerate(stages):
        layers += [nn.ReLU()] * (index > 0) + [SameConvTranspose3d(ins, outs, *shape)]
    return nn.Sequential(*layers)

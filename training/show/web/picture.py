"""The decoder of a tokenizer of single steps in two dimensions, as every runtime computes it fast.

A step has one place in time until its last stage, which unfolds it into frames: their channels are side by side here.

Letters: S = h*w tokens, M slices, p side of a patch of latents, E code features, C channels, F frames, H W pixels,
a heads, K features of one head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.layers.attention import AxialAttention
from worldmodel.layers.conv import AttentionResidualBlock, SameConvTranspose3d
from worldmodel.model import WorldModel
from worldmodel.tokenizer.vqvae import VQVAE
from worldmodel.training.show.web.graphs import look_up


class Picture(nn.Module):
    """Codes (S, M) int32 of a step -> its frames (F, H, W, 3) uint8."""

    def __init__(self, world: WorldModel) -> None:
        super().__init__()
        assert isinstance(world.tokenizer, VQVAE)
        self.tokenizer, self.vectors = world.tokenizer, world.tokenizer.lookup.vectors

    def forward(self, codes: Tensor) -> Tensor:
        tokenizer, config = self.tokenizer, self.tokenizer.config
        latents = tokenizer._unfold(codes.unflatten(0, config.grid))  # (h*p, w*p, slices)
        vectors = look_up(self.vectors, latents.flatten(0, 1)).unflatten(0, config.latent_grid)
        x = _conv(tokenizer.from_code, vectors.permute(2, 0, 1)[None])
        position = None if tokenizer.position is None else tokenizer.position()[0]  # (h*p, w*p, D)
        for block in tokenizer.decoder.blocks:
            assert isinstance(block, AttentionResidualBlock)
            x = _block(block, x, position)
        x = F.relu(_normed(tokenizer.decoder.norm, x))
        for stage, layer in enumerate(tokenizer.up):
            assert isinstance(layer, SameConvTranspose3d)
            x = _unfolded(layer, x if stage == 0 else F.relu(x))
        x = x[0].unflatten(0, (config.channels, -1))  # (C, F, H, W)
        x = x * tokenizer.std[0] + tokenizer.mean[0]
        pixels = (x * 255 + 128).clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0)
        return pixels if config.channels == 3 else pixels.expand(-1, -1, -1, 3)


def _conv(layer: nn.Module, x: Tensor) -> Tensor:
    """A convolution whose kernel is 1 in time, on (1, C, h, w)."""
    assert isinstance(layer, nn.Conv3d) and layer.kernel_size[0] == 1
    pads = getattr(layer, "pads", [0])
    if any(pads):
        x = F.pad(x, pads[:4])
    padding = layer.padding if isinstance(layer.padding, tuple) else (0, 0, 0)
    return F.conv2d(x, layer.weight.squeeze(2), layer.bias, layer.stride[1:], padding[1:])


def _unfolded(layer: SameConvTranspose3d, x: Tensor) -> Tensor:
    """A transposed convolution that makes F places of one: (1, C, h, w) -> (1, C' * F, h', w')."""
    weight = layer.weight  # (C, C', F, k, k)
    bias = None if layer.bias is None else layer.bias.repeat_interleave(weight.shape[2])
    out = F.conv_transpose2d(x, weight.flatten(1, 2), bias, layer.stride[1:], layer.padding[1:])  # type: ignore[arg-type]
    height, width = (size * stride for size, stride in zip(x.shape[2:], layer.stride[1:], strict=True))
    return out[:, :, :height, :width]


def _normed(norm: nn.Module, x: Tensor) -> Tensor:
    """A norm over the channels of (1, C, h, w)."""
    if isinstance(norm, nn.BatchNorm3d):
        return norm(x.unsqueeze(2)).squeeze(2)
    assert isinstance(norm, nn.LayerNorm)
    features_last = F.layer_norm(x.permute(0, 2, 3, 1), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return features_last.permute(0, 3, 1, 2)


def _block(block: AttentionResidualBlock, x: Tensor, position: Tensor | None) -> Tensor:
    y = _conv(block.conv3, F.relu(_normed(block.norm_in, x)))
    y = _conv(block.conv1, F.relu(_normed(block.norm_mid, y)))
    if block.attention is None or block.norm_out is None or position is None:
        return x + y
    y = F.relu(_normed(block.norm_out, y))[0].permute(1, 2, 0) + position  # (h, w, D)
    return x + _attention(block.attention, y).permute(2, 0, 1)[None]


def _attention(attention: AxialAttention, x: Tensor) -> Tensor:
    """Along each axis of (h, w, D), summed."""
    total = torch.zeros_like(x)
    for axis, qkv, out in zip(attention.axes, attention.qkv, attention.out, strict=True):
        assert axis in (2, 3) and isinstance(qkv, nn.Linear) and isinstance(out, nn.Linear)
        lines = x.transpose(0, 1) if axis == 2 else x  # (lines, tokens, D)
        parts = F.linear(lines, qkv.weight).unflatten(-1, (3, attention.heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)  # (lines, a, tokens, K)
        mixed = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(-1) @ v
        mixed = F.linear(mixed.transpose(1, 2).flatten(2), out.weight, out.bias)
        total = total + (mixed.transpose(0, 1) if axis == 2 else mixed)
    return total

"""The letters used in array shapes, and the only two functions that change pixel range and axis order.

Letters, used in docstrings and as suffixes of dense locals (``logits_BLV``):

- B batch rows, T env steps, N steps of an episode or any flattened set, F frames per step
- H W C height, width and channels of a frame; h w height and width of the code grid
- A actions or action features, G signals (named game variables)
- E code features, V codes in a codebook, M code slices, S tokens per step, L tokens in a sequence, D model width

Outside models (storage, envs): frames uint8 (B, T, H, W, C) in [0, 255]. Inside models: float (B, C, T, H, W) in
[-0.5, 0.5], that is x / 255 - 0.5. Here T counts frames: flatten (T, F) to T * F first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # recording alone does not need torch
    from torch import Tensor


def frames_to_model(frames: Tensor) -> Tensor:
    """Convert pixels to the model's range and axis order.

    Args:
        frames: (B, T, H, W, C) uint8 in [0, 255].

    Returns:
        (B, C, T, H, W) float32 in [-0.5, 0.5]. In memory the channels stay last (``torch.channels_last_3d``), which
        saves a transposition and makes convolutions on a CPU faster.
    """
    if frames.ndim != 5 or _dtype_name(frames) != "uint8":
        raise ValueError(f"frames must be (B, T, H, W, C) uint8, got {_describe(frames)}")
    return frames.float().mul_(1 / 255).sub_(0.5).permute(0, 4, 1, 2, 3)


def frames_from_model(pixels: Tensor) -> Tensor:
    """The inverse of `frames_to_model`: rounded to the nearest byte, clamped outside [-0.5, 0.5].

    Args:
        pixels: (B, C, T, H, W) float of any precision.

    Returns:
        (B, T, H, W, C) uint8 in [0, 255], contiguous.
    """
    import torch

    if pixels.ndim != 5 or not pixels.is_floating_point():
        raise ValueError(f"pixels must be (B, C, T, H, W) float, got {_describe(pixels)}")
    # (x + 0.5) * 255, plus 0.5 because the conversion to integers truncates. Going through int16 takes half the time.
    pixels_BCTHW = pixels.float().mul(255).add_(128).clamp_(0, 255).short().byte()
    frames = pixels_BCTHW.permute(0, 2, 3, 4, 1)
    if frames.is_contiguous():
        return frames
    # Stacking the channels takes half the time of frames.contiguous().
    return torch.stack(pixels_BCTHW.unbind(1), dim=-1)


def check_frames(frames: Any, height: int, width: int, channels: int, frames_per_step: int) -> None:
    """Raise ValueError unless `frames` (numpy or torch) are (..., F, H, W, C) uint8 of the given sizes."""
    wanted = (frames_per_step, height, width, channels)
    if tuple(frames.shape[-4:]) != wanted or _dtype_name(frames) != "uint8":
        raise ValueError(
            f"frames must be (..., F, H, W, C) = (..., {', '.join(map(str, wanted))}) uint8, got {_describe(frames)}"
            f"{channels_first(tuple(frames.shape), channels)}. "
            "Convert them to that size and dtype, or use the data, env or model they belong to."
        )


def channels_first(shape: tuple[int, ...], channels: int) -> str:
    """A hint for an error message if images of this shape seem to be (..., C, H, W) or to have an alpha channel."""
    if shape[-1:] != (channels,) and shape[-3:-2] == (channels,):
        return "; their channels seem to come first: give np.moveaxis(frames, -3, -1)"
    if shape[-1:] == (4,):
        return "; they seem to have an alpha channel: blend them with a background colour first"
    return ""


def _dtype_name(array: Any) -> str:
    return str(array.dtype).removeprefix("torch.")


def _describe(array: Any) -> str:
    return f"{tuple(array.shape)} {_dtype_name(array)}"

"""Named tokenizers: those of the VideoGen paper, and small ones for two CPU cores.

Source: VideoGen's ICLR submission (OpenReview 3InxcRQsYLf) section 4 for 2x4x4; VideoGPT (arXiv:2104.10157) table 8 for
2x2x2 and Moving MNIST; the defaults of its authors' public code for 4x4x4. Differs: that code has no positions in its
tokenizer.
"""

from typing import Any

from worldmodel.errors import did_you_mean
from worldmodel.tokenizer.base import TokenizerConfig
from worldmodel.tokenizer.codebook import CodebookConfig
from worldmodel.tokenizer.config import VQVAEConfig


def _paper(widths: tuple[int, ...], num_codes: int, **changes) -> VQVAEConfig:
    """A clip of 16 frames of 64 x 64 pixels with the sizes that the papers share."""
    settings: dict[str, Any] = {
        "residual_units": 128,
        "residual_layers": 4,
        "heads": 2,
        "standardise": False,
        "codebook": CodebookConfig(num_codes=num_codes, num_slices=1, code_dim=256),
    } | changes
    return VQVAEConfig(temporal="clip", stage_widths=widths, **settings)


PRESETS: dict[str, TokenizerConfig] = {
    # 23 M weights, 8 x 16 x 16 codes.
    "videogen-2x4x4": _paper((240, 240), 2048),
    # 16 M weights, 8 x 32 x 32 codes.
    "videogen-2x2x2": _paper((240,), 1024),
    # For BAIR's robot pushing: the same as the first.
    "bair-paper": _paper((240, 240), 2048),
    # 21 M weights, 4 x 32 x 32 codes of 16 frames of 128 x 128 pixels.
    "public-4x4x4": _paper(
        (240, 240),
        2048,
        height=128,
        width=128,
        frames_per_step=4,
        clip_steps=4,
        residual_units=120,
        norm="batch",
        from_code_kernel=1,
    ),
    # For Moving MNIST: 4 x 16 x 16 codes of 16 gray frames.
    "moving-mnist": _paper(
        (240, 240),
        512,
        channels=1,
        frames_per_step=4,
        clip_steps=4,
        residual_layers=2,
        attention=False,
        codebook=CodebookConfig(num_codes=512, num_slices=1, code_dim=64),
    ),
    # A clip of 16 frames as 8 x 8 x 8 codes, narrow where the resolution is high.
    "clip-small": VQVAEConfig(temporal="clip", stage_widths=(24, 48, 96), residual_units=48),
    # Steps of 8 x 8 codes, each coded with the steps before it.
    "causal-small": VQVAEConfig(temporal="causal", stage_widths=(24, 48, 96), residual_units=48),
    # Steps encoded alone: 4 x 4 tokens with two slices, 32 codes per step. For the demo and the shipped Doom worlds.
    "doom-tiny": VQVAEConfig(),
    # Finer: 8 x 8 latents, four of which form a token; 4 x 4 tokens with four slices, 64 codes per step.
    "doom-small": VQVAEConfig(
        stage_widths=(32, 64, 128), patch=2, codebook=CodebookConfig(num_codes=1024, num_slices=1, code_dim=32)
    ),
    # For robot pushing, where the difficult details are in few positions: three slices each. The encoder's receptive
    # field is only that of its convolutions, so with a fixed camera the codes of resting objects stay the same. For the
    # shipped "push" world.
    "push-small": VQVAEConfig(
        stage_widths=(32, 64, 128),
        patch=2,
        encoder_layers=0,
        codebook=CodebookConfig(num_codes=512, num_slices=3, code_dim=16),
    ),
}


def preset(name: str) -> TokenizerConfig:
    """The configuration of that name; change single fields with `dataclasses.replace`."""
    if name not in PRESETS:
        raise ValueError(f"unknown tokenizer preset {name!r}.{did_you_mean(name, PRESETS)}")
    return PRESETS[name]

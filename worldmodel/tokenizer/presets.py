"""Named tokenizers: those of the papers, and small ones for two CPU cores.

Source: VideoGen's ICLR submission (OpenReview 3InxcRQsYLf) section 4 for 2x4x4; VideoGPT (arXiv:2104.10157) table 8 for
2x2x2 and Moving MNIST; the defaults of its authors' public code for 4x4x4. Differs: that code has no positions in its
tokenizer. Latent Video Transformer (arXiv:2006.10704) section 4.1 for lvt; Predicting Video with VQVAE
(arXiv:2103.01950) section 3.1 for pixelcnn, whose widths are those of the public code of VQ-VAE-2 (assumed: the paper
states none).
"""

from typing import Any

from worldmodel.errors import check_known
from worldmodel.tokenizer.base import TokenizerConfig
from worldmodel.tokenizer.codebook import CodebookConfig
from worldmodel.tokenizer.config import VQVAEConfig
from worldmodel.tokenizer.frame_config import FrameVQVAEConfig
from worldmodel.tokenizer.hierarchical_config import HierarchicalVQVAEConfig


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


def _lvt(
    books: int,
    restart_below: float = CodebookConfig().restart_below,
    stage_widths: tuple[int, ...] = (128, 256),
    **changes,
) -> FrameVQVAEConfig:
    """Frames of 64 x 64 pixels, each encoded alone; the codebooks share the channels of the last stage."""
    codebook = CodebookConfig(num_slices=books, code_dim=stage_widths[-1] // books, restart_below=restart_below)
    return FrameVQVAEConfig(stage_widths=stage_widths, codebook=codebook, **changes)


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
    # Finer in width, where a game's objects stand side by side: 4 x 16 latents, 2 x 8 tokens with four slices, 64 codes
    # per step. For the shipped doom-hg and doom-take-cover.
    "doom-wide": VQVAEConfig(
        stage_widths=(32, 64, 128, 128),
        space_stride=(16, 4),
        patch=2,
        codebook=CodebookConfig(num_codes=1024, num_slices=1, code_dim=32),
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
    # Latent Video Transformer, robot pushing: 3.6 M weights, each frame as 16 x 16 x 4 codes.
    "lvt-paper": _lvt(4, restart_below=0.0),
    # The same with one codebook: 16 x 16 codes.
    "lvt-paper-n1": _lvt(1, restart_below=0.0),
    # A step of two frames: 1 M weights, each frame as 8 x 8 x 2 codes.
    "lvt-small": _lvt(2, frames_per_step=2, stage_widths=(32, 64, 128), residual_units=64),
    # Predicting Video with VQVAE: 4.4 M weights, 16 frames as 4 x 32 x 32 and 8 x 64 x 64 codes.
    "pixelcnn-paper": HierarchicalVQVAEConfig(
        height=256, width=256, codebook=CodebookConfig(num_slices=1, code_dim=64, restart_below=0.0)
    ),
    # 1.3 M weights, 16 frames of 64 x 64 pixels as 4 x 8 x 8 and 8 x 16 x 16 codes.
    "pixelcnn-small": HierarchicalVQVAEConfig(
        stage_widths=(32, 64), codebook=CodebookConfig(num_slices=1, code_dim=32)
    ),
}


def preset(name: str) -> TokenizerConfig:
    """The configuration of that name; change single fields with `dataclasses.replace`."""
    check_known("tokenizer preset", name, PRESETS)
    return PRESETS[name]

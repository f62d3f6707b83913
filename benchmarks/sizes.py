"""Sizes to measure: the presets, and "ten-layers", whose frames are 16 tokens of 512 codes in a context of 20 frames.

"ten-layers" has the tokens and about the parameters (8.4 M in raster order) of IRIS's world model (arXiv:2209.00588).
"""

from worldmodel import tokenizer
from worldmodel.dynamics import GPTConfig, presets
from worldmodel.tokenizer import CodebookConfig, VQVAEConfig

_TEN_LAYERS = presets.Preset(
    model=GPTConfig(layers=10, width=256, window=20, code_head_width=256),
    latents=(20, 4, 4),
    num_codes=512,
    code_dim=64,
)


def prior(name: str) -> presets.Preset:
    """The dynamics of this size."""
    return _TEN_LAYERS if name == "ten-layers" else presets.preset(name)


def coder(name: str) -> VQVAEConfig:
    """The tokenizer that makes its codes."""
    if name == "ten-layers":
        return VQVAEConfig(codebook=CodebookConfig(num_codes=512, num_slices=1, code_dim=64))
    return tokenizer.preset(name)

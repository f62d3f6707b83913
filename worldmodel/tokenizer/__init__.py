"""Tokenizers: encode frames as codes and decode them."""

from worldmodel.tokenizer.base import Tokenizer, TokenizerConfig, TokenizerLoss
from worldmodel.tokenizer.build import build
from worldmodel.tokenizer.codebook import CodebookConfig, CodeLookup, SlicedCodebook
from worldmodel.tokenizer.config import VQVAEConfig
from worldmodel.tokenizer.frame_config import FrameVQVAEConfig
from worldmodel.tokenizer.frame_vqvae import FrameVQVAE
from worldmodel.tokenizer.hierarchical import HierarchicalVQVAE
from worldmodel.tokenizer.hierarchical_config import HierarchicalVQVAEConfig
from worldmodel.tokenizer.presets import preset
from worldmodel.tokenizer.vqvae import VQVAE

__all__ = [
    "VQVAE",
    "CodeLookup",
    "CodebookConfig",
    "FrameVQVAE",
    "FrameVQVAEConfig",
    "HierarchicalVQVAE",
    "HierarchicalVQVAEConfig",
    "SlicedCodebook",
    "Tokenizer",
    "TokenizerConfig",
    "TokenizerLoss",
    "VQVAEConfig",
    "build",
    "preset",
]

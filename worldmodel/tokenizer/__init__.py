"""Tokenizers: encode frames as codes and decode them."""

from worldmodel.tokenizer.base import Tokenizer, TokenizerConfig, TokenizerLoss
from worldmodel.tokenizer.build import build
from worldmodel.tokenizer.codebook import CodebookConfig, CodeLookup, SlicedCodebook
from worldmodel.tokenizer.config import VQVAEConfig
from worldmodel.tokenizer.presets import preset
from worldmodel.tokenizer.vqvae import VQVAE

__all__ = [
    "VQVAE",
    "CodeLookup",
    "CodebookConfig",
    "SlicedCodebook",
    "Tokenizer",
    "TokenizerConfig",
    "TokenizerLoss",
    "VQVAEConfig",
    "build",
    "preset",
]

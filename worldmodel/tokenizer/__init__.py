"""Tokenizers: frames to codes and back."""

from worldmodel.tokenizer.codebook import CodebookConfig, SlicedCodebook
from worldmodel.tokenizer.vqvae import VQVAE, VQVAEConfig

__all__ = ["VQVAE", "CodebookConfig", "SlicedCodebook", "VQVAEConfig"]

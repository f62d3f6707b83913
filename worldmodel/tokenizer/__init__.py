"""Tokenizers: frames to codes and back."""

from worldmodel.layers.streaming import StreamState
from worldmodel.tokenizer.codebook import CodebookConfig, SlicedCodebook
from worldmodel.tokenizer.presets import preset
from worldmodel.tokenizer.vqvae import VQVAE, VQVAEConfig

__all__ = ["VQVAE", "CodebookConfig", "SlicedCodebook", "StreamState", "VQVAEConfig", "preset"]

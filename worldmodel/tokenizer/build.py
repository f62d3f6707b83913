"""Which tokenizer a config stands for."""

from worldmodel.tokenizer.base import Tokenizer, TokenizerConfig
from worldmodel.tokenizer.config import VQVAEConfig
from worldmodel.tokenizer.vqvae import VQVAE

_CLASSES: dict[type, type[Tokenizer]] = {VQVAEConfig: VQVAE}


def build(config: TokenizerConfig) -> Tokenizer:
    """An untrained tokenizer of this config."""
    return _CLASSES[type(config)](config)  # type: ignore[call-arg]

"""Build the tokenizer that a config describes."""

from worldmodel.tokenizer.base import Tokenizer, TokenizerConfig
from worldmodel.tokenizer.config import VQVAEConfig
from worldmodel.tokenizer.frame_config import FrameVQVAEConfig
from worldmodel.tokenizer.frame_vqvae import FrameVQVAE
from worldmodel.tokenizer.hierarchical import HierarchicalVQVAE
from worldmodel.tokenizer.hierarchical_config import HierarchicalVQVAEConfig
from worldmodel.tokenizer.vqvae import VQVAE

_CLASSES: dict[type, type[Tokenizer]] = {
    VQVAEConfig: VQVAE,
    FrameVQVAEConfig: FrameVQVAE,
    HierarchicalVQVAEConfig: HierarchicalVQVAE,
}


def build(config: TokenizerConfig) -> Tokenizer:
    """An untrained tokenizer of this config."""
    return _CLASSES[type(config)](config)

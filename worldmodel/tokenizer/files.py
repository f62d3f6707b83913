"""Save and load tokenizers: alone, or as part of a world model."""

import os
from pathlib import Path

import torch

from worldmodel import checkpoint
from worldmodel.cards import model_card
from worldmodel.layers.defaults import own_defaults
from worldmodel.restoring import restore
from worldmodel.tokenizer.base import Tokenizer, TokenizerConfig
from worldmodel.tokenizer.build import build


def save_tokenizer(folder: str | os.PathLike, tokenizer: Tokenizer, card: str = "") -> Path:
    """Save a tokenizer to a checkpoint folder; `card` is the text of README.md, a plain one unless given."""
    card = card or model_card("tokenizer", "# Video tokenizer\n\nTrained by VideoGenDream.\n")
    return checkpoint.save(folder, "tokenizer", tokenizer.config, {"tokenizer": tokenizer}, card=card)


@own_defaults
@torch.inference_mode(False)  # weights created in inference mode have no version counter
def load_tokenizer(name: str | os.PathLike) -> Tokenizer:
    """Load a tokenizer, saved alone or as part of a world model, in evaluation mode and float32.

    From a world model only the tokenizer's part of config.json and its tensors are read.
    """
    folder = checkpoint.resolve(name)
    in_world = checkpoint.kind_in(folder) == "world_model"
    kind, part = ("world_model", "tokenizer") if in_world else ("tokenizer", None)
    config: TokenizerConfig = checkpoint.load_config(folder, kind, TokenizerConfig, part)  # type: ignore[arg-type]
    tokenizer = restore(folder, lambda: build(config), lambda loaded: {"tokenizer": loaded}, among_others=in_world)
    return tokenizer.eval()

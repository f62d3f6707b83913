"""A world model of toy size with a tokenizer of two levels and PixelCNN priors, for tests on every floor."""

from dataclasses import replace

import torch

from tests.dynamics.pixelcnn.pairs import SMALL, randomise
from tests.tiny import tiny_config
from worldmodel.dynamics import PixelCNNConfig
from worldmodel.model import WorldModel, WorldModelConfig
from worldmodel.tokenizer import CodebookConfig, HierarchicalVQVAEConfig

CLIP = 3  # steps


def two_levels() -> HierarchicalVQVAEConfig:
    """16x16 frames coded as 2x2 tokens of a top code and eight bottom codes, three steps together."""
    return HierarchicalVQVAEConfig(
        height=16,
        width=16,
        clip_steps=CLIP,
        stage_widths=(4, 6),
        residual_units=4,
        residual_blocks=1,
        codebook=CodebookConfig(num_codes=16, num_slices=1, code_dim=4),
    )


def pixelcnn_config(**dynamics) -> WorldModelConfig:
    priors = PixelCNNConfig(**SMALL | {"max_steps": CLIP} | dynamics)
    return replace(tiny_config(), tokenizer=two_levels(), dynamics=priors)


def pixelcnn_world(**dynamics) -> WorldModel:
    """Random weights everywhere, also where training begins with zeros."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        world = WorldModel(pixelcnn_config(**dynamics))
        randomise(world)
    return world.prepare(torch.float32)

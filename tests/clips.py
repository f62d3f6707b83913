"""A world model of toy size with a clip or causal tokenizer of four steps, for tests on every floor."""

from dataclasses import replace

import torch

from tests.tiny import tiny_config
from worldmodel.dynamics import FrameEncoderConfig
from worldmodel.model import WorldModel, WorldModelConfig
from worldmodel.tokenizer import VQVAEConfig

CLIP = 4


def clip_tokenizer(temporal: str = "clip") -> VQVAEConfig:
    """16x16 frames coded as 2x2 positions of 2 slices per step, four steps together."""
    return replace(tiny_config().tokenizer, temporal=temporal, clip_steps=CLIP, stage_widths=(8, 8, 12))


def clip_config(temporal: str = "clip", **dynamics) -> WorldModelConfig:
    """A prior with the learned start and room for a clip, and with null conditions."""
    options = {
        "learn_start": True,
        "position": "learned",
        "width": 24,
        "window": CLIP,
        "max_steps": CLIP,
        "drop_actions": 0.5,
        "drop_frames": 0.5,
        "frame_encoder": FrameEncoderConfig(width=4, depths=(1, 1)),
    }
    return replace(tiny_config(**options | dynamics), tokenizer=clip_tokenizer(temporal))


def clip_world(temporal: str = "clip", **dynamics) -> WorldModel:
    """Random weights everywhere, also where training begins with zeros."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        world = WorldModel(clip_config(temporal, **dynamics))
        for parameter in world.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.3)
    return world.prepare(torch.float32)

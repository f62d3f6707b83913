"""A world model of toy size with random weights, for tests on every floor."""

from collections.abc import Mapping
from typing import Any

import torch

from worldmodel.data import ActionSpec
from worldmodel.dynamics import GPTConfig, HeadsConfig, SubscaleConfig
from worldmodel.model import Starts, WorldModel, WorldModelConfig
from worldmodel.tokenizer import CodebookConfig, FrameVQVAEConfig, TokenizerConfig, VQVAEConfig

_DYNAMICS: dict[str, tuple[type, dict[str, Any]]] = {
    "gpt": (GPTConfig, {"layers": 2, "width": 16, "heads": 2, "window": 4, "code_head_width": 16}),
    # The two slices of a position count as two frames of one book.
    "subscale": (
        SubscaleConfig,
        {"books": 1, "layers": 1, "width": 16, "heads": 2, "head_width": 4, "code_width": 8, "code_head_width": 8},
    ),
}


_SIZE = {
    "height": 16,
    "width": 16,
    "residual_units": 8,
    "codebook": CodebookConfig(num_codes=16, num_slices=2, code_dim=4),
}


def tiny_config(
    heads: Mapping[str, Any] | None = None, net: str = "gpt", frames_alone: bool = False, **dynamics
) -> WorldModelConfig:
    """Three actions, 16x16 frames coded as 2x2 positions of 2 slices, one signal; dynamics of the class `net`.

    With `frames_alone` each of a step's two frames has two slices of its own.
    """
    kind, sizes = _DYNAMICS[net]
    if frames_alone:
        tokenizer: TokenizerConfig = FrameVQVAEConfig(
            **_SIZE, frames_per_step=2, stage_widths=(4, 4, 8), residual_blocks=1
        )
        sizes = sizes | {"books": 2}
    else:
        tokenizer = VQVAEConfig(**_SIZE, stage_widths=(8, 8, 16), residual_layers=1)
    return WorldModelConfig(
        action=ActionSpec(kind="discrete", n=3, names=("noop", "left", "right")),
        tokenizer=tokenizer,
        dynamics=kind(**sizes | dynamics),
        # Random weights on the signals would drown what actions earn: tests of reading them ask for it.
        heads=HeadsConfig(**{"width": 16, "read_signals": False} | dict(heads or {})),
        signal_names=("HEALTH",),
        env_id="VideoGenReal-DoomHealthGathering",
        reward="health",
    )


def tiny_world(seed: int = 0, starts: int = 5, first: int = 0, **config) -> WorldModel:
    """Random weights everywhere, also where training begins with zeros, so that outputs differ from each other.

    With `first` it knows the first steps of that many episodes, too, as trained worlds do.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        world = WorldModel(tiny_config(**config))
        for parameter in world.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.3)
        h, w = world.tokenizer.grid

        def make_starts(count: int, steps: int) -> Starts:
            return Starts(
                torch.randint(world.tokenizer.num_codes, (count, steps, h, w, world.tokenizer.num_slices)),
                torch.randint(3, (count, steps - 1)),
                torch.rand(count, steps, 1) * 100,
            )

        world.starts = make_starts(starts, 3)
        if first:
            given = make_starts(first, max(1, world.config.dynamics.frame_condition))
            world.starts = world.starts._replace(first=given)
    return world.prepare(torch.float32)

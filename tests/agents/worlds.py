"""Tiny dreams for agents: one with continuous actions."""

import dataclasses

import torch

from tests.tiny import tiny_config
from worldmodel.data import ActionSpec
from worldmodel.model import Starts, WorldModel


def pushing_world() -> WorldModel:
    """Random weights; an action has two dimensions, with other bounds than Stable-Baselines3's networks."""
    action = ActionSpec(kind="box", n=2, low=(-1.0, 0.0), high=(1.0, 10.0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        world = WorldModel(dataclasses.replace(tiny_config(), action=action))
        for parameter in world.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.3)
        h, w = world.tokenizer.grid
        actions = torch.tensor([2.0, 10.0]) * torch.rand(4, 2, 2) - torch.tensor([1.0, 0.0])
        world.starts = Starts(torch.randint(16, (4, 3, h, w, 2)), actions, torch.rand(4, 3, 1))
    return world.prepare(torch.float32)

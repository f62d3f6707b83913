"""Every kind of dynamics at toy size: order x position x conditions, and axial attention."""

from collections.abc import Callable
from itertools import product

import pytest
import torch

from tests.tiny import tiny_world
from worldmodel.dynamics import DreamState, FrameEncoderConfig
from worldmodel.model import CodeBatch, WorldModel

ORDERS = ("block", "raster")
POSITIONS = ("rotary-time", "learned", "space", "time", "sine", "none")
CONDITIONS = {
    "none": {"action_condition": "none"},
    "step": {},
    "clip": {"action_condition": "clip"},
    "frames": {"action_condition": "none", "frame_condition": 1},
    "frames-and-step": {"frame_condition": 2},
}
LIMIT = 12  # number of steps of a limited context


def make_world(order: str, position: str = "rotary-time", condition: str = "step", **changes) -> WorldModel:
    """A world trained for missing conditions; its window is longer than the limit of limited contexts."""
    options = {"order": order, "position": position} | CONDITIONS[condition]
    limited = position in ("learned", "time", "sine") or condition == "clip"
    options |= {"window": LIMIT if limited else 4, "max_steps": LIMIT, "width": 24, "learn_start": True}
    options |= {"frame_encoder": FrameEncoderConfig(width=4, depths=(1, 1)), "drop_actions": 0.5, "drop_frames": 0.5}
    return tiny_world(**options | changes)


def train_on(world: WorldModel, draw_codes: Callable[[], torch.Tensor]) -> float:
    """Train on 60 batches of codes (32, 3, h, w, M) and prepare for dreaming; returns the loss of the last batch."""
    optimizer = torch.optim.Adam(world.dynamics.parameters(), lr=2e-2)
    torch.manual_seed(0)
    for _ in range(60):
        unread = torch.zeros(32, 2), torch.zeros(32, 2, dtype=torch.bool), torch.zeros(32, 3, 1)
        batch = CodeBatch(draw_codes(), torch.zeros(32, 2).long(), *unread, torch.ones(32, 2, dtype=torch.bool))
        optimizer.zero_grad()
        world.loss(batch).codes.backward()
        optimizer.step()
    world.prepare(torch.float32)
    return world.loss(batch).codes.item()


def make_frames(rows: int, steps: int = 2, seed: int = 0) -> torch.Tensor:
    """(rows, steps, 2, 16, 16, 3) uint8."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (rows, steps, 2, 16, 16, 3), generator=generator, dtype=torch.uint8)


def future(world: WorldModel, state: DreamState, steps: int = 6) -> torch.Tensor:
    """Codes of the next steps under fixed actions; does not change `state`."""
    state, codes = state.clone(), []
    for t in range(steps):
        state, out = world.step(state, torch.full((len(state),), t % 3))
        codes.append(out.codes)
    return torch.stack(codes, dim=1)


def _cases():
    for order, position, condition in product(ORDERS, POSITIONS, CONDITIONS):
        yield pytest.param({"order": order, "position": position, "condition": condition})
    for order, position in product(ORDERS, ("rotary-time", "learned")):
        yield pytest.param({"order": order, "position": position, "attention": "axial", "layers": 4})
    for order in ORDERS:
        yield pytest.param({"order": order, "echo": True})
    yield pytest.param({"order": "block", "checkerboard": True})
    yield pytest.param({"order": "block", "learn_start": False})
    yield pytest.param({"order": "block", "position": "learned", "condition": "clip", "learn_start": False})


every_kind = pytest.mark.parametrize("kind", list(_cases()), ids=lambda kind: "-".join(map(str, kind.values())))

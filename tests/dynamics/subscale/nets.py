"""Subscale transformers of toy size with random weights: kinds, attentions and conditions."""

from itertools import product

import pytest
import torch
from torch import Tensor

from worldmodel.data import ActionSpec
from worldmodel.dynamics import SubscaleConfig, SubscaleTransformer
from worldmodel.tokenizer import CodeLookup

LOOKUP = CodeLookup(torch.zeros(1, 1, 1))  # not read by these dynamics
KINDS = {
    "frame": {},
    "spatiotemporal": {"subscale": (2, 2, 2), "kernel": (3, 3, 3)},
    "spatial": {"subscale": (1, 2, 2), "kernel": (1, 3, 3)},
}
ATTENTIONS = ("query-key", "key", "relative")
every_kind = pytest.mark.parametrize("kind", KINDS)
every_attention = pytest.mark.parametrize("attention", ATTENTIONS)


def make_net(
    kind: str = "frame", grid: tuple[int, int] = (2, 2), frames: int = 2, books: int = 1, num_codes: int = 2, **changes
) -> SubscaleTransformer:
    """A net of clips of `frames` latent frames, one per step unless `num_slices` says otherwise."""
    slices = changes.pop("num_slices", books)
    options = KINDS[kind] | ({"clip_frames": frames} if kind != "frame" else {})
    options |= {"layers": 2, "width": 12, "heads": 2, "head_width": 4, "code_width": 6, "code_head_width": 8}
    config = SubscaleConfig(**{"books": books, "condition_width": 3} | options | changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = SubscaleTransformer(config, grid, num_codes, slices, 4, ActionSpec(kind="discrete", n=3))
        for parameter in net.parameters():
            if parameter.numel() and not parameter.any():  # where training begins with zeros
                torch.nn.init.normal_(parameter, std=0.5)
    return net.eval().requires_grad_(False)


def make_codes(net: SubscaleTransformer, rows: int, steps: int, seed: int = 0) -> Tensor:
    """(rows, steps, S, M)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, steps, net.tokens_per_step, net.num_slices)
    return torch.randint(net.code_head.num_codes, shape, generator=generator)


def make_actions(rows: int, steps: int, seed: int = 0) -> Tensor:
    """(rows, steps - 1)."""
    return torch.randint(3, (rows, steps - 1), generator=torch.Generator().manual_seed(seed))


def logits_of(net: SubscaleTransformer, codes: Tensor, actions: Tensor) -> Tensor:
    """Teacher-forced logits of all predicted codes, (B, frames, S, n, V), from the first predicted frame."""
    conditions = net.condition(len(codes), codes.shape[1], actions).steps
    if net.config.single_frame:
        first = 1 - net.config.lead
        steps = torch.arange(first, codes.shape[1]).expand(len(codes), -1)
        rows = net._frame_rows(codes, steps, conditions[:, first:])
        logits = _logits(net, net._predict(rows), rows.codes.flatten(1, 3))  # (B*frames, S, n, V)
        return logits.unflatten(0, (len(codes), -1))
    count = len(net.positions)
    rows = net._slice_rows(codes, torch.arange(count).expand(len(codes), -1), conditions)
    logits = _logits(net, net._predict(rows), rows.codes.flatten(1, 3)).unflatten(0, (len(codes), count)).flatten(1, 2)
    volume = torch.empty_like(logits)
    volume[:, net.positions.flatten()] = logits
    return volume.unflatten(1, (-1, net.tokens_per_step))[:, (1 - net.config.lead) * net.latent_frames :]


def _logits(net: SubscaleTransformer, outputs: Tensor, codes: Tensor) -> Tensor:
    return torch.stack([net.code_head.logits(outputs, codes, book) for book in range(net.books)], dim=-2)


def place_order(net: SubscaleTransformer, frames: int) -> Tensor:
    """For each position (frames*S,) of a video its rank in the sampling order, by the definition of the slices."""
    height, width = net.grid
    s_t, s_h, s_w = net.config.subscale or (frames, 1, 1)

    def key(place: tuple[int, int, int]):
        t, y, x = place
        return (t % s_t, y % s_h, x % s_w, t // s_t, y // s_h, x // s_w)

    places = list(product(range(frames), range(height), range(width)))
    ranks = {place: rank for rank, place in enumerate(sorted(places, key=key))}
    return torch.tensor([ranks[place] for place in places])


def slice_of(net: SubscaleTransformer, frames: int) -> Tensor:
    """For each position (frames*S,) of a video the index of its slice."""
    size = net.shape[0] * net.shape[1] * net.shape[2]
    return place_order(net, frames) // size

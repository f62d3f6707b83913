"""Slices of a latent video, and what an encoder or decoder may see of it.

Letters: T latent frames, h w code grid, P = T*h*w positions of the volume, N positions of a slice (t, h', w'), Q
slices, K taps of a kernel.
Source: subscaling, Latent Video Transformer (arXiv:2006.10704) section 3.2: slice (a, b, c) holds the positions
(a + i*s_t, b + j*s_h, c + k*s_w). Slices follow each other with c fastest; positions of a slice in raster order.
"""

import math
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Triple = tuple[int, int, int]
_LARGEST = 2**24  # entries of the table of what an encoder sees


class Slices(NamedTuple):
    """The slices of a volume and the codes that each tap of a centred kernel meets."""

    shape: Triple  # (t, h', w') of a slice
    positions: Tensor  # (Q, N) int64, place of each position of each slice in the volume
    seen: Tensor  # (Q, N, K) int64, place of the code that a tap meets; P if it lies outside or in a later slice


def make_slices(volume: Triple, subscale: Triple, kernel: Triple) -> Slices:
    """The slices of a volume (T, h, w), of which an encoder with this kernel sees those before the current one.

    On the CPU, whatever the default device is: which taps see a code decides the sizes of a network.

    Raises: ValueError if the tables would be larger than those of any useful model.
    """
    entries = math.prod(volume) * math.prod(kernel)
    if entries > _LARGEST:
        raise ValueError(
            f"a clip of {volume} positions and a kernel of {kernel} make a table of {entries:,} entries, more than "
            f"{_LARGEST:,}; take a coarser grid, a shorter clip or a smaller kernel"
        )
    shape = tuple(size // s for size, s in zip(volume, subscale, strict=True))
    place = torch.arange(math.prod(volume), device="cpu").view(volume)
    cut = place.unflatten(0, (-1, subscale[0])).unflatten(2, (-1, subscale[1])).unflatten(4, (-1, subscale[2]))
    positions = cut.permute(1, 3, 5, 0, 2, 4).flatten(0, 2).flatten(1)  # (Q, N)
    number = torch.arange(len(positions), device="cpu")
    order = torch.empty_like(place).flatten()
    order[positions.flatten()] = number.repeat_interleave(positions.shape[1])
    reach = [size // 2 for size in kernel]
    pads = [side for size in reversed(reach) for side in (size, size)]
    around = F.pad(place, pads, value=place.numel())
    for axis, size in enumerate(kernel):
        around = around.unfold(axis, size, 1)  # ends as (T, h, w, k_t, k_h, k_w)
    met = around.flatten(3).flatten(0, 2)[positions]  # (Q, N, K)
    beyond = F.pad(order, (0, 1), value=len(positions))  # the outside counts as later than all slices
    later = beyond[met] >= number.view(-1, 1, 1)
    return Slices((shape[0], shape[1], shape[2]), positions, met.masked_fill(later, place.numel()))


def live_taps(seen: Tensor, nowhere: int) -> list[int]:
    """Taps of `seen` (…, K) that meet a code somewhere."""
    return (seen != nowhere).flatten(0, -2).any(0).nonzero().flatten().tolist()


# Offsets (t, h, w) of the decoder's 3 x 3 x 3 kernel: two frames back, two rows up, one column to each side.
DECODER_TAPS: list[Triple] = list(product((-2, -1, 0), (-2, -1, 0), (-1, 0, 1)))


def earlier_taps(shape: Triple) -> list[int]:
    """Indices of the `DECODER_TAPS` that lie before a position in raster order and inside a slice of this shape."""
    t, h, w = shape
    return [
        index
        for index, (dt, dy, dx) in enumerate(DECODER_TAPS)
        if (dt, dy, dx) < (0, 0, 0) and -dt < t and -dy < h and abs(dx) < w
    ]

"""Axial attention over the axes of a latent grid; space-time attention with a sliding window and a ring-buffer cache.

Letters: B batch, T steps, S tokens per step, L = T*S tokens, D width, H heads, K features of one head, W window in
steps.
Source: VideoGen (arXiv:2104.10157) section 3; axial sums, arXiv:1912.12180.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from worldmodel.layers.cpu.attention import Mask, attend, attend_few
from worldmodel.layers.position import Rotation
from worldmodel.layers.precision import Linear


class AxialAttention(nn.Module):
    """Attention along each of `axes` separately, each with its own weights; the outputs are summed, not chained."""

    def __init__(self, width: int, heads: int, axes: tuple[int, ...]) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be divisible by the number of heads, got width {width} and {heads} heads")
        self.heads = heads
        self.axes = axes  # of (B, t, h, w, D): any of 1, 2, 3
        self.qkv = nn.ModuleList(Linear(width, 3 * width, bias=False) for _ in axes)
        self.out = nn.ModuleList(Linear(width, width) for _ in axes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, t, h, w, D) -> the same shape."""
        total = torch.zeros_like(x)
        for axis, qkv, out in zip(self.axes, self.qkv, self.out, strict=True):
            q, k, v = qkv(x).transpose(axis, 3).unflatten(-1, (3, self.heads, -1)).unbind(-3)
            # (B, a, b, tokens, H, K) -> (B*a*b, H, tokens, K)
            q, k, v = (part.flatten(0, 2).transpose(1, 2) for part in (q, k, v))
            mixed = attend(q, k, v).transpose(1, 2).flatten(2)
            total = total + out(mixed.view(*x.transpose(axis, 3).shape).transpose(axis, 3))
        return total


@dataclass
class KVCache:
    """Keys and values of the last W steps of every row and layer, in a ring buffer: step t is stored in slot t mod W.

    All rows share one clock; a row that started later has fewer valid steps (`lengths`).
    """

    keys: list[Tensor]  # per layer (B, H, W, S, K), rotated to the time of their step
    values: list[Tensor]  # per layer (B, H, W, S, K)
    lengths: Tensor  # (B,) int64, valid steps before the clock, at most W
    clock: int  # time of the next step to be written
    shortest: int  # lower bound of min(lengths), kept on the host to avoid device synchronisation
    # False: no row holds steps from before time 0, so that before the clock reaches W, slots from it on are empty.
    wraps: bool | None = None  # None: derived from `shortest`
    now: Tensor = field(init=False)  # (1,) int64, the clock on the device, to avoid a transfer per step

    def __post_init__(self) -> None:
        self.now = torch.full((1,), self.clock, device=self.lengths.device)
        if self.wraps is None:
            self.wraps = self.shortest < self.clock

    @property
    def window(self) -> int:
        return self.keys[0].shape[2]

    @property
    def slots(self) -> int:
        """Number of slots that a step at `clock` reads, its own included; the same for all rows, whatever they hold."""
        return self.window if self.wraps else min(self.clock + 1, self.window)

    @property
    def all_visible(self) -> bool:
        """True if every row holds a step in each of these slots."""
        return self.shortest >= self.slots - 1

    def valid(self) -> Tensor | None:
        """Mask (B, 1, 1, slots) of slots visible to the step at `clock`, including its own; None if all are."""
        if self.all_visible:
            return None
        slots = torch.arange(self.slots, device=self.lengths.device)
        age = (self.clock - slots) % self.window
        return (age <= self.lengths[:, None])[:, None, None]

    def advance(self) -> None:
        """Move the clock to the next step after the current one is written."""
        self.now.add_(1)
        self.lengths.add_(1).clamp_(max=self.window)
        self.tick()

    def tick(self) -> None:
        """The host's part of `advance`."""
        self.clock += 1
        self.shortest = min(self.shortest + 1, self.window)

    def at(self, clock: int, turns: Rotation | None) -> "KVCache":
        """Shift the cached steps in time so that the next one is at `clock`; `turns` rotates by the difference."""
        away = (clock - self.clock) % self.window

        def move(tensor: Tensor, turned: bool) -> Tensor:
            if turned and turns is not None:
                tensor = turns.turn(tensor.flatten(2, 3)).view_as(tensor)
            return tensor.roll(away, dims=2)

        keys, values = [move(k, True) for k in self.keys], [move(v, False) for v in self.values]
        wraps = self.wraps or clock < min(self.clock, self.window)  # steps at negative times
        return KVCache(keys, values, self.lengths.clone(), clock, self.shortest, wraps)

    def overwritten(self, other: "KVCache") -> "KVCache":
        """Copy another cache of the same sizes into this one's memory; this object must not be used afterwards."""
        for mine, theirs in zip((*self.keys, *self.values), (*other.keys, *other.values), strict=True):
            mine.copy_(theirs)
        lengths = self.lengths.copy_(other.lengths)
        taken = KVCache(self.keys, self.values, lengths, other.clock, other.shortest, other.wraps)
        taken.now = self.now.fill_(other.clock)
        self.clock = -1  # invalidates states that refer to this object
        return taken

    def map(self, change) -> "KVCache":
        """A new cache with `change` applied to every tensor (the first dimension is rows)."""
        keys, values = [change(k) for k in self.keys], [change(v) for v in self.values]
        return KVCache(keys, values, change(self.lengths), self.clock, self.shortest, self.wraps)


class WindowAttention(nn.Module):
    """Multi-head attention from a step's tokens to the last W steps, with rotary positions in time."""

    parts = 1  # cache entries per layer

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width, bias=False)
        self.out = Linear(width, width)

    def _split(self, x: Tensor, angles: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L, D) -> rotated queries, rotated keys, values, each (B, H, L, K)."""
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, H, L, K)
        q, k = parts[:2] if angles is None else angles.turn(parts[:2])
        return q, k, parts[2]

    def forward(
        self, x: Tensor, angles: Rotation | None, mask: Mask, last: int | None = None
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Attention over whole sequences: x (B, L, D), the rotation for their times, the mask of L tokens.

        Returns the output (B, L, D), or without gradients that of the `last` tokens only (B, last, D), and the keys
        and values (B, H, L, K) for a cache.
        """
        q, k, v = self._split(x, angles)
        mixed = attend(q, k, v, mask) if last is None else attend_few(q[:, :, -last:], k, v, mask.allowed[-last:])
        return self.out(mixed.transpose(1, 2).flatten(2)), [(k, v)]

    def step(
        self,
        x: Tensor,
        angles: Rotation | None,
        cache: KVCache,
        layer: int,
        tokens: slice,
        reach: Tensor | None = None,
    ) -> Tensor:
        """Attention for some tokens of the step at the cache's clock: x (B, n, D); writes their keys and values.

        Tokens of this step before `tokens` are visible if already written; later ones are not. `reach` (n, W*S) bool
        further restricts what each token may attend to.
        """
        q, k, v = self._split(x, angles)
        slot = cache.clock % cache.window
        keys, values = cache.keys[layer], cache.values[layer]
        keys[:, :, slot, tokens], values[:, :, slot, tokens] = k, v
        size = keys.shape[3]
        count, mask = cache.slots * size, cache.valid()
        if mask is not None:
            mask = mask.repeat_interleave(size, dim=-1)  # (B, 1, 1, slots*S)
        if tokens.stop < size:  # raster order: the rest of this step is not written yet
            if slot == cache.slots - 1:
                count -= size - tokens.stop
                mask = None if mask is None else mask[..., :count]
            else:
                known = torch.ones(cache.slots, size, dtype=torch.bool, device=x.device)
                known[slot, tokens.stop :] = False
                known = known.view(1, 1, 1, -1)
                mask = known if mask is None else mask & known
        if reach is not None:
            reach = reach[:, :count]
            mask = reach if mask is None else mask & reach
        mixed = attend_few(q, keys.flatten(2, 3)[:, :, :count], values.flatten(2, 3)[:, :, :count], mask)
        return self.out(mixed.transpose(1, 2).flatten(2))

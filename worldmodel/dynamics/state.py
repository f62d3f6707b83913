"""The state of a batch of dreams: a dataclass of tensors held by the caller.

Letters: B rows, h w latent grid, S = h*w tokens, M slices, D width of the dynamics, G signals, R features of the frame
vector, N steps of half a context.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodel.dynamics import state_file
from worldmodel.dynamics.sampling import as_seeds
from worldmodel.layers.attention import KVCache
from worldmodel.layers.defaults import own_defaults

_FIELDS = ("codes", "outputs", "signals", "seeds", "counter")  # tensors outside the cache, in constructor order


@dataclass
class DreamState:
    """Everything that determines a dream's future, given the model and the actions.

    `WorldModel.step` reuses the memory of the state it is given; `clone` first to branch.
    """

    cache: KVCache
    codes: Tensor  # (B, h, w, M) int64, the last step
    outputs: Tensor  # (B, S, D) the dynamics' outputs that predicted it; zeros if nothing preceded it
    signals: Tensor  # (B, G) float32, running values of the game variables
    seeds: Tensor  # (B,) int64
    counter: Tensor  # (B,) int64, number of steps dreamt by each row
    clock: int  # the cache's clock when this state was created; detects a state that was already stepped
    # Models with frame_condition: "frames" (B, R) float32, the frame vector. Models with a limited context: the last
    # "codes" (B, N, h, w, M) and the "actions" between them (B, N-1, …), from which the context restarts. A caller may
    # add tensors with one entry per row under other names.
    extras: dict[str, Tensor] = field(default_factory=dict)
    # The WorldModel that dreams it. A loaded or copied state has the model's fingerprint, or None in older files.
    world: Any = field(default=None, repr=False, compare=False)
    origin: str = field(default="this state", repr=False, compare=False)  # in error messages

    def __repr__(self) -> str:
        grid = "x".join(map(str, self.codes.shape[1:]))
        return f"DreamState({len(self)} rows of {grid} codes, clock {self.clock}, {self.codes.device})"

    def __len__(self) -> int:
        return len(self.codes)

    @torch.inference_mode()
    def _map(self, change) -> "DreamState":
        self.check_fresh()
        tensors = (change(getattr(self, name)) for name in _FIELDS)
        extras = {name: change(t) for name, t in self.extras.items()}
        return DreamState(self.cache.map(change), *tensors, self.clock, extras, self.world, self.origin)  # type: ignore[call-arg]

    def check_fresh(self) -> None:
        """Raise ValueError if this state's memory has been reused by a later state."""
        if self.cache.clock < 0:
            raise ValueError(
                "another dream has reused the memory of this state; clone() it before stepping another state in its "
                "memory"
            )
        if self.clock != self.cache.clock:
            raise ValueError(
                f"this dream state (clock {self.clock}) has been stepped to clock {self.cache.clock}; "
                "use the state that step returned, or clone() before stepping to branch"
            )

    def clone(self) -> "DreamState":
        """An independent copy."""
        return self._map(torch.clone)

    @torch.inference_mode()
    def with_cache(self, cache: KVCache) -> "DreamState":
        """A copy of these rows with another cache."""
        self.check_fresh()
        own = (getattr(self, name).clone() for name in _FIELDS)
        extras = {name: tensor.clone() for name, tensor in self.extras.items()}
        return DreamState(cache, *own, cache.clock, extras, self.world, self.origin)  # type: ignore[call-arg]

    def select(self, rows: Tensor | list[int]) -> "DreamState":
        """A new state with these rows in this order, or with the rows of a mask (B,) bool."""
        index = self._index(rows)
        return self._map(lambda t: t[index])

    def repeat(self, n: int) -> "DreamState":
        """Repeat each row n times, copies side by side: row i becomes rows i*n … i*n + n-1.

        Copies share their row's seed and dream the same under the same actions; use `reseed` to draw other futures.
        """
        return self._map(lambda t: t.repeat_interleave(n, dim=0))

    @torch.inference_mode()
    def reseed(self, seeds: Sequence[int] | Tensor) -> "DreamState":
        """This state, in its own memory, with these seeds (B,) for all future steps."""
        self.check_fresh()
        return replace(self, seeds=as_seeds(seeds, len(self), self.seeds.device))

    @torch.inference_mode()
    def put(self, rows: Tensor | list[int], other: "DreamState") -> "DreamState":
        """Replace `rows` (indices or a mask (B,) bool) in place by the rows of `other`: of the same world and clock.

        Tensors that a step has returned to the caller stay unchanged.
        """
        self.check_fresh()
        other.check_fresh()
        if other.clock != self.clock:
            raise ValueError(
                f"rows must share one clock, got {other.clock} for {self.clock}; shift them with "
                "world.at_clock(rows, state.clock)"
            )
        index = self._index(rows)
        if missing := self.extras.keys() - other.extras.keys():
            raise ValueError(
                f"these rows have the extras {', '.join(sorted(missing))}, which the new rows lack: add "
                "other.extras[name] with one entry per row"
            )
        mine, theirs = ([*cache.keys, *cache.values, cache.lengths] for cache in (self.cache, other.cache))
        if [tensor.shape[1:] for tensor in mine] != [tensor.shape[1:] for tensor in theirs]:
            raise ValueError("these rows belong to another model: its caches have other sizes")
        self._join_world(other)
        for name in _FIELDS:
            setattr(self, name, getattr(self, name).index_copy(0, index, getattr(other, name)))
        for name, tensor in self.extras.items():
            self.extras[name] = tensor.index_copy(0, index, other.extras[name])
        for here, there in zip(mine, theirs, strict=True):
            here.index_copy_(0, index, there.to(here.dtype))
        self.cache.shortest = min(self.cache.shortest, other.cache.shortest)
        self.cache.wraps = self.cache.wraps or other.cache.wraps
        return self

    def _index(self, rows: Tensor | list[int]) -> Tensor:
        """Row indices from indices or a mask."""
        given = torch.as_tensor(rows, device=self.codes.device)
        if given.dtype != torch.bool:
            return given.to(torch.int64)
        if given.shape != (len(self),):
            raise ValueError(f"a mask of rows must have one bool for each of the {len(self)} rows, got {given.shape}")
        return given.nonzero().flatten()

    @own_defaults
    def save(self, path: str | Path) -> None:
        """Write to one safetensors file, atomically, with a checksum and the fingerprint of the world."""
        self.check_fresh()
        tensors = {name: getattr(self, name) for name in _FIELDS} | {"lengths": self.cache.lengths}
        tensors |= {f"extras.{name}": tensor for name, tensor in self.extras.items()}
        for layer, (k, v) in enumerate(zip(self.cache.keys, self.cache.values, strict=True)):
            tensors |= {f"keys.{layer}": k, f"values.{layer}": v}
        cache = self.cache
        about = {
            "clock": self.clock,
            "shortest": cache.shortest,
            "wraps": int(bool(cache.wraps)),
            "layers": len(cache.keys),
        }
        world = self._world_name()
        words = {name: str(value) for name, value in about.items()}
        state_file.write(path, tensors, words if world is None else words | {"world": world})

    @classmethod
    @own_defaults
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> "DreamState":
        """Read a file written by `save`. Whether it fits a world is checked when that world continues it.

        Raises: ValueError if it is damaged or not a dream state; names the file.
        """
        tensors, about = state_file.read(path)
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        keys, values = ([tensors[f"{part}.{i}"] for i in range(about["layers"])] for part in ("keys", "values"))
        cache = KVCache(keys, values, tensors["lengths"], about["clock"], about["shortest"], about["wraps"])
        extras = {name.removeprefix("extras."): t for name, t in tensors.items() if name.startswith("extras.")}
        own: dict[str, Any] = {name: tensors[name] for name in _FIELDS}
        return cls(cache=cache, **own, clock=about["clock"], extras=extras, world=about["world"], origin=str(path))

    def __getstate__(self) -> dict:
        return self.__dict__ | {"world": self._world_name()}  # copies and other processes do not get the model

    def _world_name(self) -> str | None:
        """The fingerprint of its world; None if it is unknown."""
        return self.world.fingerprint() if hasattr(self.world, "fingerprint") else self.world

    def _join_world(self, other: "DreamState") -> None:
        """ValueError if rows of `other` belong to another world; rows from a file make this state unchecked."""
        if other.world is self.world:
            return
        own, theirs = self._world_name(), other._world_name()
        if None not in (own, theirs) and own != theirs:
            raise ValueError("these rows belong to another world: their keys and codes mean something else in this one")
        if not hasattr(other.world, "fingerprint"):
            self.world = own or theirs

"""Types used on all floors: action spec, episode, segment, batch of segments.

Letters: see worldmodel/shapes.py. Time: `frames[t + 1]`, `rewards[t]` and `signals[t + 1]` follow `actions[t]`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from worldmodel.settings import NonNegativeFloat, PositiveInt, checked_dataclass

if TYPE_CHECKING:
    import gymnasium as gym
    import torch
    from torch import Tensor


_MOST_ACTIONS = 2**20  # actions are encoded as dense vectors of this length
_MOST_CLASSES = 255  # of objects; class 0 means no object
_MOST_BOUND = float(np.finfo(np.float32).max)
_Size = Annotated[int, Field(ge=1, le=2**31 - 1)]


@checked_dataclass
class ActionSpec:
    """An action space: one of `n` named actions, or a vector of `n` bounded numbers."""

    kind: Literal["discrete", "box"]
    n: Annotated[int, Field(ge=1, le=_MOST_ACTIONS)]  # number of actions (discrete) or dimensions of an action (box)
    names: tuple[str, ...] = ()  # one per action or dimension; empty: unnamed
    low: tuple[float, ...] = ()  # box only, one per dimension
    high: tuple[float, ...] = ()
    frames: PositiveInt = 1  # box: the vector concatenates the actions of this many frames, as BAIR records them

    def __post_init__(self) -> None:
        if self.names and len(self.names) != self.n:
            raise ValueError(f"names must be empty or one for each of the {self.n} actions, got {self.names}")
        bounds = 0 if self.kind == "discrete" else self.n
        if len(self.low) != bounds or len(self.high) != bounds:
            raise ValueError(
                f"a {self.kind} action with n={self.n} has {bounds} bounds; got {self.low} and {self.high}"
            )
        for low, high in zip(self.low, self.high, strict=True):
            if not -_MOST_BOUND <= low < high <= _MOST_BOUND:
                raise ValueError(
                    f"every low must be finite in float32 and below its high, got low={self.low} high={self.high}"
                )
        if self.n % self.frames or (self.frames > 1 and self.kind == "discrete"):
            raise ValueError(
                f"frames must be 1, or for a box a divisor of its n, got frames={self.frames} with n={self.n} "
                f"of a {self.kind} action"
            )

    def __str__(self) -> str:
        names = f" ({', '.join(self.names)})" if self.names else ""
        if self.kind == "discrete":
            return f"one of {self.n} actions{names}"
        low, high = (", ".join(f"{bound:.4g}" for bound in ends) for ends in (self.low, self.high))
        return f"{self.n} dimensions{names} from ({low}) to ({high})"

    @property
    def held(self) -> ActionSpec:
        """The action space of an agent: the action of one frame, which is held for all frames of a step."""
        if self.frames == 1:
            return self
        each = self.n // self.frames
        names = tuple(name.removesuffix("_0") for name in self.names[:each])
        return ActionSpec(kind=self.kind, n=each, names=names, low=self.low[:each], high=self.high[:each])

    def hold(self, actions: Tensor) -> Tensor:
        """Repeat an agent's action, (...) or (..., A / frames), for all frames of a step: (...) or (..., A)."""
        return actions if self.frames == 1 else actions.repeat(*[1] * (actions.ndim - 1), self.frames)

    @property
    def num_features(self) -> int:
        """Length of an action as a vector; discrete actions are one-hot."""
        return self.n

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one action: () or (A,)."""
        return () if self.kind == "discrete" else (self.n,)

    @property
    def dtype(self) -> np.dtype:
        """int64 for discrete actions, float32 for a box."""
        return np.dtype(np.int64 if self.kind == "discrete" else np.float32)

    @property
    def torch_dtype(self) -> torch.dtype:
        """`dtype` as a torch dtype."""
        import torch

        return torch.int64 if self.kind == "discrete" else torch.float32

    def to_gym(self) -> gym.Space:
        """The equivalent Gymnasium space: Discrete(n) or Box((A,), float32)."""
        from gymnasium import spaces

        if self.kind == "discrete":
            return spaces.Discrete(self.n)
        return spaces.Box(np.array(self.low, np.float32), np.array(self.high, np.float32))

    def check(self, actions: NDArray) -> None:
        """Raise ValueError unless `actions` (N, ...) have this spec's dtype, shape and range."""
        if actions.dtype != self.dtype or actions.shape[1:] != self.shape:
            raise ValueError(
                f"actions must be {_describe(('N', *self.shape), self.dtype)} for this {self.kind} action space, "
                f"got {_describe(actions.shape, actions.dtype)}"
            )
        low = np.array(self.low or 0, self.dtype)
        high = np.array(self.high or self.n - 1, self.dtype)
        outside = ~((actions >= low) & (actions <= high))  # catches NaN too
        if outside.any():
            step = int(np.argmax(outside.reshape(len(actions), -1).any(1)))
            raise ValueError(f"action {actions[step]} at step {step} lies outside [{low}, {high}]")


@checked_dataclass
class StoreInfo:
    """Properties that all episodes of a store share."""

    env_id: str
    frames_per_step: _Size  # F
    height: _Size
    width: _Size
    channels: _Size
    action: ActionSpec
    signal_names: tuple[str, ...] = ()  # G names, in the order of the signals' last axis
    reward: str = "native"  # unit of the rewards
    test_episodes: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0  # size of the test split, at the start; 0: by hash
    views: _Size = 1  # consecutive episodes that show the same recording, such as two cameras; they share a split
    steps_per_second: NonNegativeFloat = 0.0  # in the game's own time; 0: unknown
    label_names: tuple[str, ...] = ()  # classes of the objects in the labels, class c at c - 1; empty: no labels

    def __post_init__(self) -> None:
        if self.test_episodes % self.views:
            raise ValueError(f"test_episodes must be a multiple of views ({self.views}), got {self.test_episodes}")
        if len(set(self.signal_names)) < len(self.signal_names) or any(
            not name.isprintable() or not name or "/" in name or name.startswith(".") for name in self.signal_names
        ):
            raise ValueError(
                f"signal names must be unique, not empty, printable and without '/', got {self.signal_names}"
            )
        if len(set(self.label_names)) < len(self.label_names) or len(self.label_names) > _MOST_CLASSES:
            raise ValueError(
                f"label_names must be unique and at most {_MOST_CLASSES}, got {len(self.label_names)}: "
                f"{', '.join(self.label_names[:8])}"
            )

    @property
    def frame_shape(self) -> tuple[int, int, int, int]:
        """(F, H, W, C), shape of one step's frames."""
        return (self.frames_per_step, self.height, self.width, self.channels)

    @property
    def labels_shape(self) -> tuple[int, int, int, int]:
        """(F, H, W, 2), shape of one step's labels."""
        return (self.frames_per_step, self.height, self.width, 2)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Episode:
    """One episode from reset to its end (neither terminated nor truncated if only the recording stopped).

    Attributes:
        frames: (N + 1, F, H, W, C) uint8; frames[0] is the reset frame repeated F times.
        actions: (N,) int64 or (N, A) float32.
        rewards: (N,) float32.
        terminated: the game ended after the last action.
        truncated: a time limit ended the episode after the last action.
        signals: (N + 1, G) float32; G may be 0.
        seed: seed of the env's reset, if known.
        labels: (N + 1, F, H, W, 2) uint8, class and object number of each pixel, 0 where there is no object; or None.
            Only the evaluation reads them.
    """

    frames: NDArray[np.uint8]
    actions: NDArray
    rewards: NDArray[np.float32]
    terminated: bool
    truncated: bool
    signals: NDArray[np.float32]
    seed: int | None = None
    labels: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        arrays = ("frames", "actions", "rewards", "signals", *(() if self.labels is None else ("labels",)))
        for name in arrays:
            if not isinstance(getattr(self, name), np.ndarray):
                raise TypeError(f"{name} of an episode must be a numpy array, got {type(getattr(self, name)).__name__}")
        steps = len(self.actions) if self.actions.ndim else 0
        if steps < 1:
            raise ValueError(f"an episode needs at least one step, got actions {self.actions.shape}")
        discrete = self.actions.ndim == 1
        self._check("actions", ("N",) if discrete else ("N", "A"), np.int64 if discrete else np.float32, steps)
        self._check("rewards", ("N",), np.float32, steps)
        self._check("frames", ("N+1", "F", "H", "W", "C"), np.uint8, steps + 1)
        self._check("signals", ("N+1", "G"), np.float32, steps + 1)
        if self.labels is not None:
            self._check("labels", ("N+1", "F", "H", "W", "2"), np.uint8, steps + 1)
        for name in ("terminated", "truncated"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} of an episode must be a bool, got {type(getattr(self, name)).__name__}")
        if self.terminated and self.truncated:
            raise ValueError("an episode cannot be both terminated and truncated; a time-out is truncated only")

    def _check(self, name: str, letters: tuple[str, ...], dtype: Any, length: int) -> None:
        array = getattr(self, name)
        if array.dtype != dtype or array.ndim != len(letters) or len(array) != length:
            raise ValueError(
                f"{name} of an episode of N={self.num_steps} steps must be {_describe(letters, dtype)}, "
                f"got {_describe(array.shape, array.dtype)}"
            )
        if np.dtype(dtype).kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} of an episode must be finite; the first that is not is at {_first_nan(array)}")

    @property
    def num_steps(self) -> int:
        """N."""
        return len(self.actions)


class SegmentId(NamedTuple):
    """Steps [start, stop) of an episode; its frames are start to stop, inclusive."""

    episode: int  # index in the store, 0 to len(store) - 1
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Segment:
    """T steps of one episode as numpy arrays, padded at the end where `padding_mask` is False.

    Padding repeats the last frames and signals and is zero elsewhere.
    """

    frames: NDArray[np.uint8]  # (T + 1, F, H, W, C)
    actions: NDArray  # (T,) int64 or (T, A) float32
    rewards: NDArray[np.float32]  # (T,)
    terminated: NDArray[np.bool_]  # (T,)
    truncated: NDArray[np.bool_]  # (T,)
    signals: NDArray[np.float32]  # (T + 1, G)
    padding_mask: NDArray[np.bool_]  # (T,) True on real steps


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """B segments of equal length as torch tensors; the fields of `Segment` with a leading dimension B."""

    frames: Tensor  # (B, T + 1, F, H, W, C) uint8
    actions: Tensor  # (B, T) int64 or (B, T, A) float32
    rewards: Tensor  # (B, T) float32
    terminated: Tensor  # (B, T) bool
    truncated: Tensor  # (B, T) bool
    signals: Tensor  # (B, T + 1, G) float32
    padding_mask: Tensor  # (B, T) bool, True on real steps

    def to(self, device: str | torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def _describe(shape: tuple, dtype: Any) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''}) {np.dtype(dtype).name}"


def _first_nan(array: NDArray) -> list[int]:
    return np.argwhere(~np.isfinite(array))[0].tolist()

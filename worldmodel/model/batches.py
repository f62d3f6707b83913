"""Data of world models: encoded segments for training, the parts of their loss, encoded starts of dreams.

Letters: B rows, T steps, K starts, F frames of a step, H W C pixels, h w latent grid, M slices, G signals.
Time: `actions[:, t]` is taken after step t; frames, reward and end of step t+1 follow from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

FIRST = "first_"  # prefix of the tensors of `Starts.first`


@dataclass
class CodeBatch:
    """Encoded segments of T steps, for the dynamics and the heads."""

    codes: Tensor  # (B, T+1, h, w, M) int64
    actions: Tensor  # (B, T) int64 or (B, T, A) float32
    rewards: Tensor  # (B, T) float32
    terminated: Tensor  # (B, T) bool
    signals: Tensor  # (B, T+1, G) float32
    padding_mask: Tensor  # (B, T) bool, True on real steps
    frames: Tensor | None = None  # (B, n, F, H, W, C) uint8, the first n = frame_condition steps, if any

    def to(self, device: torch.device) -> "CodeBatch":
        return CodeBatch(*(None if tensor is None else tensor.to(device) for tensor in vars(self).values()))  # type: ignore[arg-type]

    def split(self, rows: int) -> list["CodeBatch"]:
        """Batches of at most `rows` rows."""
        count = -(-len(self.codes) // rows)
        parts = [(None,) * count if tensor is None else tensor.split(rows) for tensor in vars(self).values()]
        return [CodeBatch(*part) for part in zip(*parts, strict=True)]  # type: ignore[arg-type]

    @classmethod
    def join(cls, parts: Sequence["CodeBatch"]) -> "CodeBatch":
        """One batch with the rows of all parts, in order."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(*(None if column[0] is None else torch.cat(column) for column in columns))  # type: ignore[arg-type]


class DynamicsLoss(NamedTuple):
    total: Tensor  # () minimised in training
    codes: Tensor  # () nats per code
    reward: Tensor  # () nats
    termination: Tensor  # ()
    signals: Tensor  # () nats, summed over signals


class Starts(NamedTuple):
    """Encoded segments of recorded play that dreams start from.

    In starts.safetensors: `codes` (int16), `actions` and `signals` of segments from the middle of episodes, and, if
    `first` is not None, `first_codes`, `first_actions` and `first_signals`. Older files have only the first three.
    """

    codes: Tensor  # (K, T, h, w, M) int64
    actions: Tensor  # (K, T-1) int64 or (K, T-1, A) float32
    signals: Tensor  # (K, T, G) float32
    first: "Starts | None" = None  # the first steps of episodes, with their own K and T

    def packed(self) -> dict[str, Tensor]:
        """Tensors of the file, codes as int16."""
        own = {"codes": self.codes.to(torch.int16), "actions": self.actions, "signals": self.signals}
        first = {} if self.first is None else self.first.packed()
        return own | {f"{FIRST}{name}": tensor for name, tensor in first.items()}

    @classmethod
    def unpacked(cls, tensors: dict[str, Tensor]) -> "Starts":
        """Starts from the tensors of a file. ValueError if names or types are wrong."""
        first = {name.removeprefix(FIRST): t for name, t in tensors.items() if name.startswith(FIRST)}
        rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(FIRST)}
        return cls._of(rest)._replace(first=cls._of(first, FIRST) if first else None)

    @classmethod
    def _of(cls, tensors: dict[str, Tensor], prefix: str = "") -> "Starts":
        names = ("codes", "actions", "signals")
        if differing := set(names) ^ set(tensors):
            wanted, found = (", ".join(prefix + name for name in some) for some in (names, sorted(differing)))
            raise ValueError(f"starts.safetensors must hold {wanted}; differs in {found}")
        codes = tensors["codes"]
        if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
            raise ValueError(f"{prefix}codes of the start segments must be integers, got {codes.dtype}")
        return cls(codes.long(), tensors["actions"], tensors["signals"])

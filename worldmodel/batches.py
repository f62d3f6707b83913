"""What a world model learns from and begins with: encoded segments, their loss, and encoded starts.

Letters: B rows, T steps, K starts, F frames of a step, H W C pixels, h w latent grid, M slices, G signals.
Time: `actions[:, t]` is taken after step t; frames, reward and end of step t+1 follow from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from worldmodel.model import WorldModel


@dataclass
class CodeBatch:
    """Encoded segments for the dynamics, T steps each."""

    codes: Tensor  # (B, T+1, h, w, M) int64
    actions: Tensor  # (B, T) int64 or (B, T, A) float32
    rewards: Tensor  # (B, T) float32
    terminated: Tensor  # (B, T) bool
    signals: Tensor  # (B, T+1, G) float32
    padding_mask: Tensor  # (B, T) bool, True on real steps
    frames: Tensor | None = None  # (B, n, F, H, W, C) uint8, the first n = frame_condition steps; for models with one

    def to(self, device: torch.device) -> "CodeBatch":
        return CodeBatch(*(None if tensor is None else tensor.to(device) for tensor in vars(self).values()))  # type: ignore[arg-type]

    def split(self, rows: int) -> list["CodeBatch"]:
        """Batches of at most `rows` rows."""
        count = -(-len(self.codes) // rows)
        parts = [(None,) * count if tensor is None else tensor.split(rows) for tensor in vars(self).values()]
        return [CodeBatch(*part) for part in zip(*parts, strict=True)]  # type: ignore[arg-type]

    @classmethod
    def join(cls, parts: Sequence["CodeBatch"]) -> "CodeBatch":
        """The rows of all parts, one below the other."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(*(None if column[0] is None else torch.cat(column) for column in columns))  # type: ignore[arg-type]


class DynamicsLoss(NamedTuple):
    total: Tensor  # () what training minimises
    codes: Tensor  # () nats per code
    reward: Tensor  # () nats
    termination: Tensor  # ()
    signals: Tensor  # () nats, summed over signals


class Starts(NamedTuple):
    """Encoded start segments that a dream resets to."""

    codes: Tensor  # (K, T, h, w, M) int64
    actions: Tensor  # (K, T-1) int64 or (K, T-1, A) float32
    signals: Tensor  # (K, T, G) float32

    def packed(self) -> dict[str, Tensor]:
        """For the file: codes as int16."""
        return self._asdict() | {"codes": self.codes.to(torch.int16)}

    @classmethod
    def unpacked(cls, tensors: dict[str, Tensor]) -> "Starts":
        """From the file."""
        if missing := set(cls._fields) ^ set(tensors):
            raise ValueError(f"starts.safetensors must hold {', '.join(cls._fields)}; differs in {sorted(missing)}")
        codes = tensors["codes"]
        if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
            raise ValueError(f"codes of the start segments must be integers, got {codes.dtype}")
        return cls(codes.long(), tensors["actions"], tensors["signals"])

    def check(self, model: "WorldModel") -> None:
        """ValueError if these are not starts of `model`."""
        action, tokenizer = model.config.action, model.tokenizer
        count, steps = self.codes.shape[:2] if self.codes.ndim > 1 else (0, 0)
        wanted = {
            "codes": (count, steps, *tokenizer.grid, tokenizer.num_slices),
            "actions": (count, steps - 1, *action.shape),
            "signals": (count, steps, len(model.config.signal_names)),
        }
        for name, shape in wanted.items():
            if not count or not steps or getattr(self, name).shape != shape:
                found = tuple(getattr(self, name).shape)
                raise ValueError(f"{name} of the start segments must be {shape}, at least one, got {found}")
        if self.codes.min() < 0 or self.codes.max() >= tokenizer.num_codes:
            raise ValueError(f"codes of the start segments must be in [0, {tokenizer.num_codes})")
        for name, wanted_dtype in (("actions", action.torch_dtype), ("signals", torch.float32)):
            if (dtype := getattr(self, name).dtype) != wanted_dtype:
                raise ValueError(f"{name} of the start segments must be {wanted_dtype}, got {dtype}")
        if not self.signals.isfinite().all():
            raise ValueError("signals of the start segments must be finite")
        action.check(self.actions.flatten(0, 1).numpy())

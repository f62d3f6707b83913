"""What a world model learns from and begins with: encoded segments, their loss, and encoded starts.

Letters: B rows, T steps, K starts, F frames of a step, H W C pixels, h w latent grid, M slices, G signals.
Time: `actions[:, t]` is taken after step t; frames, reward and end of step t+1 follow from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from worldmodel.dynamics import GPTConfig
from worldmodel.tokenizer import VQVAEConfig

if TYPE_CHECKING:
    from worldmodel.model import WorldModel

_FIRST = "first_"  # in the names of tensors of first steps


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
    """Encoded steps of real play that dreams go on from.

    In starts.safetensors: `codes` (int16), `actions` and `signals` of segments from the middle of play, and, if `first`
    is not None, `first_codes`, `first_actions` and `first_signals`. Older files have the first three alone.
    """

    codes: Tensor  # (K, T, h, w, M) int64
    actions: Tensor  # (K, T-1) int64 or (K, T-1, A) float32
    signals: Tensor  # (K, T, G) float32
    first: "Starts | None" = None  # with K and T of their own: the first steps of episodes, which nothing comes before

    def packed(self) -> dict[str, Tensor]:
        """For the file: codes as int16."""
        own = {"codes": self.codes.to(torch.int16), "actions": self.actions, "signals": self.signals}
        first = {} if self.first is None else self.first.packed()
        return own | {f"{_FIRST}{name}": tensor for name, tensor in first.items()}

    @classmethod
    def unpacked(cls, tensors: dict[str, Tensor]) -> "Starts":
        """From the file."""
        first = {name.removeprefix(_FIRST): t for name, t in tensors.items() if name.startswith(_FIRST)}
        rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(_FIRST)}
        return cls._of(rest)._replace(first=cls._of(first, _FIRST) if first else None)

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

    def check(self, model: "WorldModel", prefix: str = "") -> None:
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
                raise ValueError(f"{prefix}{name} of the start segments must be {shape}, at least one, got {found}")
        if self.codes.min() < 0 or self.codes.max() >= tokenizer.num_codes:
            raise ValueError(f"{prefix}codes of the start segments must be in [0, {tokenizer.num_codes})")
        for name, wanted_dtype in (("actions", action.torch_dtype), ("signals", torch.float32)):
            if (dtype := getattr(self, name).dtype) != wanted_dtype:
                raise ValueError(f"{prefix}{name} of the start segments must be {wanted_dtype}, got {dtype}")
        if not self.signals.isfinite().all():
            raise ValueError(f"{prefix}signals of the start segments must be finite")
        action.check(self.actions.flatten(0, 1).cpu().numpy())
        if self.first is not None:
            self.first.check(model, _FIRST)


def default_segment_steps(model: GPTConfig, tokenizer: VQVAEConfig) -> int:
    """Steps of a training segment by default: a clip without its first step; else 16, or what fits the context."""
    if tokenizer.temporal != "step":
        return tokenizer.clip_steps - 1
    return min(16, model.max_steps - model.lead) if model.limited else 16

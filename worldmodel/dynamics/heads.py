"""Heads: predict reward, termination and changes of the game's signals from a step's outputs and sampled codes.

Letters: B batch, T steps, S tokens per step, D features of a token, G signals, A features of an action, K bins.
Source: two-hot targets on symlog-spaced bins, DreamerV3 (arXiv:2301.04104).
"""

import math
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from worldmodel.layers.precision import Linear
from worldmodel.settings import NonNegativeInt, PositiveFloat, PositiveInt, ShareBelowOne, checked_dataclass


@checked_dataclass
class HeadsConfig:
    """Size of the heads and weights of their losses."""

    token_width: PositiveInt = 32  # features kept of each token; kept small because rare events overfit quickly
    width: PositiveInt = 256  # hidden units
    bins: Annotated[int, Field(ge=3)] = 81  # K, odd, so that one of them is zero
    limit: PositiveFloat = 150.0  # largest representable reward or signal change
    dropout: ShareBelowOne = 0.0  # of the token features and the hidden units; 0.5 for trainings of many epochs
    termination_weight: PositiveFloat = 10.0  # of true ends in the termination loss, because ends are rare
    read_signals: bool = True  # let rewards and signal changes depend on the signals before the step
    # Hidden layers of a net that predicts signal changes from signals and action, in addition to the visual prediction;
    # for signals that affect each other, such as positions of a hand and of what it pushes. 0: no such net.
    signal_layers: NonNegativeInt = 0

    def __post_init__(self) -> None:
        if self.bins % 2 == 0:
            raise ValueError(f"bins must be odd, got {self.bins}")


def symlog(x: Tensor) -> Tensor:
    """sign(x) * log(1 + |x|)."""
    return x.sign() * x.abs().log1p()


class TwoHot(nn.Module):
    """A distribution over bins evenly spaced in symlog; its mean is the prediction, in the data's unit."""

    centers: Tensor  # (K,)

    def __init__(self, bins: int, limit: float) -> None:
        super().__init__()
        end = symlog(torch.tensor(limit, device="cpu"))
        half = bins // 2
        centers = torch.arange(-half, half + 1, device="cpu") / half * end
        centers = (centers.sign() * centers.abs().expm1()).to(torch.get_default_device())
        self.register_buffer("centers", centers, persistent=False)

    def mean(self, logits: Tensor) -> Tensor:
        """(..., K) -> (...) expectation."""
        return (logits.float().softmax(-1) * self.centers).sum(-1)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy (...) of logits (..., K) with targets (...), each split between its two nearest bins."""
        last = len(self.centers) - 1
        targets = targets.float().clamp(self.centers[0], self.centers[-1]).contiguous()
        upper = torch.searchsorted(self.centers, targets).clamp_(1, last)
        low, high = self.centers[upper - 1], self.centers[upper]
        share = (targets - low) / (high - low)
        logs = logits.float().log_softmax(-1)
        at = logs.gather(-1, torch.stack((upper - 1, upper), dim=-1))
        return -(at[..., 0] * (1 - share) + at[..., 1] * share)


class HeadsOut(NamedTuple):
    reward: Tensor  # (..., K) logits
    termination: Tensor  # (...) logit
    signals: Tensor  # (..., G, K) logits of the change


class HeadsLoss(NamedTuple):
    reward: Tensor  # (...)
    termination: Tensor  # (...)
    signals: Tensor  # (...)


class Heads(nn.Module):
    """Predicts from all S tokens of a step and the signals before it (for example health 3: nearly dead).

    Values set from data rather than by gradients are buffers, neutral until `train_dynamics` sets them: the calibration
    of the termination probability and its threshold, from validation episodes; and the range of the signals, from
    training episodes, which bounds a dream's running signals and scales the inputs of `laws`.
    """

    threshold: Tensor  # () calibrated probability at which an episode ends
    end_scale: Tensor  # () above 0, scale of the termination logit
    end_shift: Tensor  # () added to the scaled logit
    signal_low: Tensor  # (G,) smallest value of each signal, -inf: unbounded
    signal_high: Tensor  # (G,) largest value, inf: unbounded

    def __init__(
        self, config: HeadsConfig, tokens: int, features: int, num_signals: int, action_features: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        self.num_signals = num_signals
        self.two_hot = TwoHot(config.bins, config.limit)
        self.dropout = nn.Dropout(config.dropout)
        self.squeeze = Linear(features, config.token_width)
        self.trunk = Linear(tokens * config.token_width, config.width)
        reads = config.read_signals and num_signals
        self.before = Linear(2 * num_signals, config.width, bias=False) if reads else None
        inputs, layers = num_signals + action_features, config.signal_layers if num_signals else 0
        self.laws = nn.ModuleList(Linear(config.width if layer else inputs, config.width) for layer in range(layers))
        self.law_out = Linear(config.width, num_signals * config.bins, bias=False) if layers else None
        self.reward = Linear(config.width, config.bins)
        self.signals = Linear(config.width, num_signals * config.bins)
        self.end_in = Linear(config.width + num_signals, config.width)
        self.end_out = Linear(config.width, 1)
        # Start from predicting no reward, no change and no end.
        for layer in (self.reward, self.signals, self.end_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for added in (self.before, self.law_out):
            if added is not None:
                nn.init.zeros_(added.weight)
        self.register_buffer("threshold", torch.tensor(0.5))
        self.register_buffer("end_scale", torch.tensor(1.0))
        self.register_buffer("end_shift", torch.tensor(0.0))
        self.register_buffer("signal_low", torch.full((num_signals,), -torch.inf))
        self.register_buffer("signal_high", torch.full((num_signals,), torch.inf))

    def forward(self, tokens: Tensor, signals: Tensor, action: Tensor | None = None) -> HeadsOut:
        """tokens (..., S, D) of a step, signals (..., G) before it, the action (..., A) that led to it.

        The action may be omitted if `action_features` is 0 or there are no `signal_layers`.
        """
        kept = self.dropout(F.gelu(self.squeeze(tokens))).flatten(-2)
        hidden = self.trunk(kept)
        if self.before is not None:
            hidden = hidden + self.before(self._distances(signals)).to(hidden.dtype)
        hidden = self.dropout(F.gelu(hidden))
        end = F.gelu(self.end_in(torch.cat((hidden.float(), symlog(signals)), dim=-1)))
        changes = self.signals(hidden)
        if self.law_out is not None:
            changes = changes + self._changes_by_law(signals, action)
        changes = changes.unflatten(-1, (self.num_signals, self.config.bins))
        return HeadsOut(self.reward(hidden), self.end_out(end).squeeze(-1).float(), changes)

    def _changes_by_law(self, signals: Tensor, action: Tensor | None) -> Tensor:
        """Predict signal changes from signals (..., G) and action (..., A) alone, (..., G*K) logits."""
        span = self.signal_high - self.signal_low
        known = span.isfinite() & (span > 0)
        middle = (self.signal_high + self.signal_low) / 2
        # Scale to [-1, 1] over the range; signals without a range by symlog.
        scaled = torch.where(known, 2 * (signals - middle) / span, symlog(signals))
        hidden = scaled if action is None else torch.cat((scaled, action), dim=-1)
        for layer in self.laws:
            hidden = F.gelu(layer(hidden))
        assert self.law_out is not None
        return self.law_out(hidden)

    def _distances(self, signals: Tensor) -> Tensor:
        """Symlog distances of signals (..., G) from both ends of their range, (..., 2G); from 0 without a range.

        This separates 100 of at most 100 from 92, which the symlog of the values themselves hardly does.
        """
        low = torch.where(self.signal_low.isfinite(), self.signal_low, 0.0)
        high = torch.where(self.signal_high.isfinite(), self.signal_high, 0.0)
        return symlog(torch.cat((signals - low, high - signals), dim=-1))

    def loss(self, out: HeadsOut, rewards: Tensor, terminated: Tensor, changes: Tensor) -> HeadsLoss:
        """Losses per step (...), for rewards (...), terminated (...) bool and signal changes (..., G)."""
        weight = torch.tensor(self.config.termination_weight, device=rewards.device)
        return HeadsLoss(
            self.two_hot.loss(out.reward, rewards),
            F.binary_cross_entropy_with_logits(
                out.termination, terminated.float(), pos_weight=weight, reduction="none"
            ),
            self.two_hot.loss(out.signals, changes).sum(-1),
        )

    def termination_logit(self, out: HeadsOut) -> Tensor:
        """Termination logit (...) before calibration, corrected for the weight in the loss."""
        return out.termination - math.log(self.config.termination_weight)

    def termination_probability(self, out: HeadsOut) -> Tensor:
        """Calibrated termination probability (...) in (0, 1)."""
        return torch.sigmoid(self.termination_logit(out) * self.end_scale + self.end_shift)

    def signals_after(self, out: HeadsOut, before: Tensor) -> Tensor:
        """Running signals (..., G) after a step: the signals before plus the expected change, within their range."""
        return (before + self.two_hot.mean(out.signals)).clamp(self.signal_low, self.signal_high)

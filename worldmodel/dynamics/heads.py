"""Heads: predict reward, termination and changes of the game's signals from a step's outputs and sampled codes.

Letters: B batch, T steps, S tokens per step, D features of a token, G signals, A features of an action, K bins.
Source: two-hot targets on symlog-spaced bins, DreamerV3 (arXiv:2301.04104).
"""

import math
from typing import Annotated, Literal, NamedTuple

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
    # "read": an end is read from a step that was drawn, and comes where its probability reaches a threshold.
    # "drawn": it is drawn before the step, with the probability that the prediction of the step gives it, and so is as
    # frequent as in the data even where the last picture of an episode does not show why it ended (decision 023).
    ends: Literal["read", "drawn"] = "read"

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
    reward: Tensor  # (..., K) logits; if ends are drawn, of a step that does not end the episode
    termination: Tensor  # (...) logit
    signals: Tensor  # (..., G, K) logits of the change; likewise
    end_reward: Tensor | None = None  # (..., K) logits for a step that ends the episode, if ends are drawn
    end_signals: Tensor | None = None  # (..., G, K) likewise


class HeadsLoss(NamedTuple):
    reward: Tensor  # (...)
    termination: Tensor  # (...)
    signals: Tensor  # (...)


class Heads(nn.Module):
    """Predicts from all S tokens of a step and the signals before it (for example health 3: nearly dead).

    With `ends` "drawn", ends and what an end pays are predicted from the first `predicted` features of the tokens,
    which are known before the step is drawn.

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
        self,
        config: HeadsConfig,
        tokens: int,
        features: int,
        num_signals: int,
        action_features: int = 0,
        predicted: int | None = None,
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
        self.predicted = features if predicted is None else predicted
        self.ahead = Ahead(config, tokens, self.predicted, num_signals) if config.ends == "drawn" else None
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
        changes = self.signals(hidden)
        if self.law_out is not None:
            changes = changes + self._changes_by_law(signals, action)
        shape = self.num_signals, self.config.bins
        changes = changes.unflatten(-1, shape)
        known = hidden if self.ahead is None else self.ahead(tokens[..., : self.predicted], self._distances(signals))
        end = F.gelu(self.end_in(torch.cat((known.float(), symlog(signals)), dim=-1)))
        out = HeadsOut(self.reward(hidden), self.end_out(end).squeeze(-1).float(), changes)
        if self.ahead is None:
            return out
        at_end = self.ahead.signals(known).unflatten(-1, shape)
        return out._replace(end_reward=self.ahead.reward(known), end_signals=at_end)

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
        reward, signals = self.two_hot.loss(out.reward, rewards), self.two_hot.loss(out.signals, changes).sum(-1)
        if out.end_reward is not None and out.end_signals is not None:
            reward = torch.where(terminated, self.two_hot.loss(out.end_reward, rewards), reward)
            signals = torch.where(terminated, self.two_hot.loss(out.end_signals, changes).sum(-1), signals)
        return HeadsLoss(
            reward,
            F.binary_cross_entropy_with_logits(
                out.termination, terminated.float(), pos_weight=weight, reduction="none"
            ),
            signals,
        )

    def termination_logit(self, out: HeadsOut) -> Tensor:
        """Termination logit (...) before calibration, corrected for the weight in the loss."""
        return out.termination - math.log(self.config.termination_weight)

    def termination_probability(self, out: HeadsOut) -> Tensor:
        """Calibrated termination probability (...) in (0, 1)."""
        return torch.sigmoid(self.termination_logit(out) * self.end_scale + self.end_shift)

    def reward_mean(self, out: HeadsOut, ended: Tensor) -> Tensor:
        """Expected reward (...), given whether the step ended the episode (...): bool, or a probability."""
        return self._given(ended, self.two_hot.mean(out.reward), out.end_reward)

    def changes_mean(self, out: HeadsOut, ended: Tensor) -> Tensor:
        """Expected changes of the signals (..., G), given the same."""
        return self._given(ended[..., None], self.two_hot.mean(out.signals), out.end_signals)

    def _given(self, ended: Tensor, otherwise: Tensor, at_end: Tensor | None) -> Tensor:
        if at_end is None:
            return otherwise
        return torch.lerp(otherwise, self.two_hot.mean(at_end), ended.to(otherwise.dtype))

    def signals_after(self, out: HeadsOut, before: Tensor, ended: Tensor | None = None) -> Tensor:
        """Running signals (..., G) after a step: the signals before plus the expected change, within their range.

        Without `ended` (...), no step ended the episode.
        """
        ended = torch.zeros_like(out.termination, dtype=torch.bool) if ended is None else ended
        return (before + self.changes_mean(out, ended)).clamp(self.signal_low, self.signal_high)


class Ahead(nn.Module):
    """What is known of an end before its step is drawn, and what the end pays and changes.

    Its last two layers predict from what `forward` returns.
    """

    def __init__(self, config: HeadsConfig, tokens: int, features: int, num_signals: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.squeeze = Linear(features, config.token_width)
        self.trunk = Linear(tokens * config.token_width, config.width)
        reads = config.read_signals and num_signals
        self.before = Linear(2 * num_signals, config.width, bias=False) if reads else None
        self.reward = Linear(config.width, config.bins)
        self.signals = Linear(config.width, num_signals * config.bins)
        for layer in (self.reward, self.signals):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        if self.before is not None:
            nn.init.zeros_(self.before.weight)

    def forward(self, tokens: Tensor, distances: Tensor) -> Tensor:
        """Hidden units (..., width) from tokens (..., S, D) and the signals' distances (..., 2G) from their range."""
        kept = self.dropout(F.gelu(self.squeeze(tokens))).flatten(-2)
        hidden = self.trunk(kept)
        if self.before is not None:
            hidden = hidden + self.before(distances).to(hidden.dtype)
        return self.dropout(F.gelu(hidden))

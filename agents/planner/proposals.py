"""Proposal distributions of a planner: one over the actions of every step, to sample plans from and to refit.

An action is the value of its step's distribution at a quantile in [0, 1). Repeating quantiles over several steps gives
plans that persist in their actions without changing the distribution of any single step.

Letters: B rows, N plans, H steps of a plan, A dimensions of an action, n discrete actions.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from worldmodel.data import ActionSpec


class Proposals(ABC):
    """Distributions over plans, whose parameters (B, H, …) are held by the caller."""

    def __init__(self, action: ActionSpec, horizon: int) -> None:
        self.action = action
        self.horizon = horizon

    @property
    def quantiles_per_step(self) -> int:
        """Number of quantiles for one action."""
        return 1 if self.action.kind == "discrete" else self.action.n

    @abstractmethod
    def start(self, rows: int, device: torch.device) -> Tensor:
        """Initial parameters of rows."""

    @abstractmethod
    def draw(self, parameters: Tensor, quantiles: Tensor) -> Tensor:
        """Plans (B, N, H) int64 or (B, N, H, A) float32 at quantiles (B, N, H, quantiles_per_step) in [0, 1)."""

    @abstractmethod
    def fit(self, plans: Tensor) -> Tensor:
        """Parameters fitted to plans (B, N, H, …)."""

    @abstractmethod
    def later(self, parameters: Tensor, steps: int) -> Tensor:
        """Parameters shifted by some steps and widened, so that new alternatives are proposed."""


class CategoricalProposals(Proposals):
    """Probabilities of discrete actions, (B, H, n), initially uniform."""

    def start(self, rows: int, device: torch.device) -> Tensor:
        return torch.full((rows, self.horizon, self.action.n), 1 / self.action.n, device=device)

    def draw(self, parameters: Tensor, quantiles: Tensor) -> Tensor:
        mass = parameters.cumsum(-1)
        below = quantiles * mass[:, None, :, -1:] >= mass[:, None]  # (B, N, H, n)
        return below.sum(-1).clamp_(max=self.action.n - 1)

    def fit(self, plans: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(plans, self.action.n).float().mean(1)

    def later(self, parameters: Tensor, steps: int) -> Tensor:
        start = self.start(len(parameters), parameters.device)
        return (torch.cat((parameters[:, steps:], start[:, :steps]), dim=1) + start) / 2


class GaussianProposals(Proposals):
    """Means and standard deviations of continuous actions, (B, H, 2, A); samples are clipped to the bounds."""

    def start(self, rows: int, device: torch.device) -> Tensor:
        low, high = self._bounds(device)
        return torch.stack(((low + high) / 2, (high - low) / 2)).expand(rows, self.horizon, 2, -1).clone()

    def draw(self, parameters: Tensor, quantiles: Tensor) -> Tensor:
        mean, deviation = parameters[:, None].unbind(-2)
        low, high = self._bounds(parameters.device)
        noise = torch.special.ndtri(quantiles.clamp_min(2**-25))  # the quantile 0 would be -inf
        return torch.clamp(mean + deviation * noise, low, high)

    def fit(self, plans: Tensor) -> Tensor:
        return torch.stack((plans.mean(1), plans.std(1, correction=0)), dim=-2)

    def later(self, parameters: Tensor, steps: int) -> Tensor:
        later = self.start(len(parameters), parameters.device)
        later[:, : self.horizon - steps, 0] = parameters[:, steps:, 0]
        return later

    def _bounds(self, device: torch.device) -> tuple[Tensor, Tensor]:
        low, high = torch.tensor((self.action.low, self.action.high), device=device)
        return low, high


def make_proposals(action: ActionSpec, horizon: int) -> Proposals:
    """Proposals for this kind of action."""
    kinds = {"discrete": CategoricalProposals, "box": GaussianProposals}
    return kinds[action.kind](action, horizon)


def hold(quantiles: Tensor, chance: Tensor, repeat: float) -> Tensor:
    """Repeat the quantiles (B, N, H, Q) of the previous step wherever chance (B, N, H) is below `repeat`."""
    steps = torch.arange(quantiles.shape[2], device=quantiles.device)
    drawn_at = torch.where(chance < repeat, 0, steps).cummax(-1).values  # (B, N, H); the first step is always drawn
    return quantiles.gather(2, drawn_at[..., None].expand_as(quantiles))


def later_plan(plans: Tensor, steps: int) -> Tensor:
    """Plans (B, H, …) shifted by some steps and filled up with their last action."""
    return torch.cat((plans[:, steps:], plans[:, -1:].repeat_interleave(steps, dim=1)), dim=1)

"""What decides a planner: how far, how widely and how often it plans, and what its plans are worth.

Letters: B rows, N plans of a row, K futures of a plan, H steps.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from worldmodel.settings import PositiveInt, ShareBelowOne, Temperature, checked_dataclass


@checked_dataclass
class PlannerConfig:
    """How far, how widely and how often is planned."""

    method: Literal["cem", "shooting"] = "cem"  # draw anew around the best plans, or draw once and take the best
    horizon: PositiveInt = 12  # H, steps of a plan
    candidates: PositiveInt = 64  # N, plans of a row that are dreamt in each round
    iterations: PositiveInt = 3  # rounds of "cem"; "shooting" has one
    elites: int = 8  # best plans of a round, from which "cem" learns what to propose; of no account in "shooting"
    repeat: ShareBelowOne = 0.5  # probability that a proposed step goes on with the draw of the one before it
    futures: PositiveInt = 1  # K, dreams of each plan, whose mean counts; all plans of a round share their K seeds
    discount: Annotated[float, Field(gt=0, le=1)] = 0.97  # of the reward, per step
    temperature: Temperature = 1.0  # of the dreams; 0 takes the likeliest codes
    replan_every: PositiveInt = 1  # steps of a plan that are done before another is made
    # What follows a dreamt end does not count ("hard"); nor does, in part, what follows a step that may be the end
    # ("expected": by the probability that it is not). "ignore": everything counts.
    ends: Literal["expected", "hard", "ignore"] = "expected"
    batch: PositiveInt = 512  # dreams side by side at most, for all rows together: bounds the memory

    def __post_init__(self) -> None:
        if self.method == "cem" and not 1 <= self.elites <= self.candidates:
            raise ValueError(f"elites must be from 1 to candidates = {self.candidates}, got {self.elites}")
        if self.batch < self.futures:
            raise ValueError(f"batch must hold the futures of a plan, at least {self.futures}, got {self.batch}")
        if self.replan_every > self.horizon:
            raise ValueError(f"replan_every must be at most horizon = {self.horizon}, got {self.replan_every}")
        if self.futures > 1 and self.temperature == 0:
            raise ValueError(f"at temperature 0 a plan has one future, got futures={self.futures}; use futures=1")

    @property
    def rounds(self) -> int:
        """Times that candidates are drawn for one plan."""
        return self.iterations if self.method == "cem" else 1


def plan_returns(rewards: Tensor, terminated: Tensor, probability: Tensor, config: PlannerConfig) -> Tensor:
    """What plans earn, (…), by their rewards, dreamt ends and the ends' probabilities, each (…, H)."""
    goes_on = {
        "expected": (1 - probability) * ~terminated,
        "hard": (~terminated).float(),
        "ignore": torch.ones_like(rewards),
    }[config.ends]
    weight = torch.cat((torch.ones_like(rewards[..., :1]), config.discount * goes_on[..., :-1]), dim=-1)
    return (rewards * weight.cumprod(-1)).sum(-1)

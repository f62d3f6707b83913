"""Settings of the planner, and the return of a plan.

Letters: B rows, N plans of a row, K futures of a plan, H steps.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from worldmodel.settings import PositiveInt, ShareBelowOne, Temperature, checked_dataclass


@checked_dataclass
class PlannerConfig:
    """Length, number and frequency of plans."""

    method: Literal["cem", "shooting"] = "cem"  # resample around the best plans, or sample once and take the best
    horizon: PositiveInt = 12  # H, steps of a plan
    candidates: PositiveInt = 64  # N, plans per row that are dreamt in each round
    iterations: PositiveInt = 3  # rounds of "cem"; "shooting" has one
    elites: int = 8  # best plans of a round, to which "cem" fits its proposals; unused by "shooting"
    repeat: ShareBelowOne = 0.5  # probability that a proposed step reuses the draw of the previous step
    futures: PositiveInt = 1  # K, dreams per plan, whose returns are averaged; all plans of a round share K seeds
    discount: Annotated[float, Field(gt=0, le=1)] = 0.97  # of the reward, per step
    temperature: Temperature = 1.0  # of the dreams; 0 takes the likeliest codes
    replan_every: PositiveInt = 1  # steps of a plan that are executed before replanning
    # How dreamt ends discount later rewards: "hard" ignores rewards after a sampled end; "expected" also weights them
    # by the probability that no earlier step was the end; "ignore" counts everything. Where the world draws its ends,
    # only "hard" draws them, and "expected" weights by the probability alone.
    ends: Literal["expected", "hard", "ignore"] = "expected"
    batch: PositiveInt = 512  # maximum number of parallel dreams, over all rows; bounds the memory

    def __post_init__(self) -> None:
        if self.method == "cem" and not 1 <= self.elites <= self.candidates:
            raise ValueError(f"elites must be from 1 to candidates = {self.candidates}, got {self.elites}")
        if self.batch < self.futures:
            raise ValueError(f"batch must hold all futures of a plan, at least {self.futures}, got {self.batch}")
        if self.replan_every > self.horizon:
            raise ValueError(f"replan_every must be at most horizon = {self.horizon}, got {self.replan_every}")
        if self.futures > 1 and self.temperature == 0:
            raise ValueError(f"at temperature 0 a plan has one future, got futures={self.futures}; use futures=1")

    @property
    def rounds(self) -> int:
        """Rounds of candidates per plan."""
        return self.iterations if self.method == "cem" else 1


def plan_returns(rewards: Tensor, terminated: Tensor, probability: Tensor, config: PlannerConfig) -> Tensor:
    """Returns of plans, (…), from their rewards, dreamt ends and end probabilities, each (…, H)."""
    continues = {
        "expected": (1 - probability) * ~terminated,
        "hard": (~terminated).float(),
        "ignore": torch.ones_like(rewards),
    }[config.ends]
    weight = torch.cat((torch.ones_like(rewards[..., :1]), config.discount * continues[..., :-1]), dim=-1)
    return (rewards * weight.cumprod(-1)).sum(-1)

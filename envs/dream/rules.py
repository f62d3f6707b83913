"""The rules of a dream: sampling temperature, rewards, and when it ends.

Letters: B steps (rows of a dream env; all steps of all futures in a planner), F frames of a step, H W C pixels, h w
latent grid, M slices, E features of a code vector, A dimensions of an action.
"""

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Real

import torch
from torch import Tensor

from worldmodel.errors import did_you_mean
from worldmodel.settings import check_temperature
from worldmodel.tokenizer import Tokenizer

_AT_ONCE = 512  # steps decoded per batch; a planner requests thousands


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Transition:
    """B dreamt steps, all on the model's device; entry b of every field belongs to step b.

    Latents and frames are computed on first use and cached: a reward that reads only signals decodes no frames.
    """

    actions: Tensor  # (B,) int64 or (B, A) float32, the actions that led to the steps
    reward: Tensor  # (B,) float32, predicted by the model's head, in the unit of the data
    terminated: Tensor  # (B,) bool
    signals: dict[str, Tensor]  # name -> (B,) float32, the game variables after the step
    signals_before: dict[str, Tensor]  # name -> (B,) float32
    codes: Tensor  # (B, h, w, M) int64
    _tokenizer: Tokenizer = field(repr=False)
    _made: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.codes)

    @torch.inference_mode()
    def latents(self) -> Tensor:
        """The code vectors (B, h, w, E) float32."""
        if "latents" not in self._made:
            self._made["latents"] = self._tokenizer.lookup(self.codes)
        return self._made["latents"]

    @torch.inference_mode()
    def frames(self) -> Tensor:
        """The steps' frames (B, F, H, W, C) uint8; an agent observes the last one of each step."""
        if "frames" not in self._made:
            parts = [self._tokenizer.decode(part[:, None])[:, 0] for part in self.codes.split(_AT_ONCE)]
            self._made["frames"] = torch.cat(parts)
        return self._made["frames"]


RewardFunction = Callable[[Transition], Tensor]  # (B,) rewards that replace the model's own
EndCondition = Callable[[Transition], Tensor]  # (B,) bool

_COMPARISONS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}
_RULE = re.compile(r"\s*(\w+)\s*(<=|>=|==|<|>)\s*(-?\d+(?:\.\d+)?)\s*")


def survival(transition: Transition) -> Tensor:
    """Reward function, (B,) float32: 1 for every step in which the model does not terminate, else 0.

    It decodes nothing. Steps that only `terminate_when` ends still get their reward, which is computed before it.
    """
    return (~transition.terminated).float()


@dataclass(frozen=True, kw_only=True, slots=True)
class DreamRules:
    """Everything that decides a dream besides model, start and actions; see `DreamVectorEnv` for the fields."""

    temperature: float = 1.0
    horizon: int | None = None
    reward_fn: RewardFunction | None = None
    terminate_when: EndCondition | str | None = None
    max_uncertainty: float | None = None
    uncertainty_penalty: float = 0.0

    def __post_init__(self) -> None:
        for name in ("temperature", "horizon", "max_uncertainty", "uncertainty_penalty"):
            given, may_be_none = getattr(self, name), name in ("horizon", "max_uncertainty")
            if not isinstance(given, Real) and not (given is None and may_be_none):
                raise TypeError(f"{name} must be a number{' or None' if may_be_none else ''}, got {given!r}")
        check_temperature(self.temperature)
        if self.horizon is not None and (self.horizon < 1 or not float(self.horizon).is_integer()):
            raise ValueError(f"horizon must be at least 1 step, or None for no limit, got {self.horizon}")
        if self.max_uncertainty is not None and not self.max_uncertainty > 0:
            raise ValueError(f"max_uncertainty must be above 0 nats, or None, got {self.max_uncertainty}")
        if not 0 <= self.uncertainty_penalty < math.inf:
            raise ValueError(f"uncertainty_penalty must be at least 0 and finite, got {self.uncertainty_penalty}")
        if self.reward_fn is not None and not callable(self.reward_fn):
            raise TypeError(f"reward_fn must be a function of a Transition, got {self.reward_fn!r}")

    def end_condition(self, signal_names: Sequence[str]) -> EndCondition | None:
        """`terminate_when` as a function; ValueError if it names a game variable that the model does not know."""
        rule = self.terminate_when
        if rule is None or callable(rule):
            return rule
        parts = _RULE.fullmatch(rule) if isinstance(rule, str) else None
        if parts is None:
            raise ValueError(
                'terminate_when must be a function of a Transition or NAME COMPARISON NUMBER, such as "HEALTH <= 0", '
                f"with one of {', '.join(_COMPARISONS)}; got {rule!r}"
            )
        name, comparison, number = parts[1], _COMPARISONS[parts[2]], float(parts[3])
        if name not in signal_names:
            raise ValueError(f"terminate_when names no game variable: {name!r}.{did_you_mean(name, signal_names)}")
        return partial(_compare, name, comparison, number)


def _compare(name: str, comparison: Callable[[Tensor, float], Tensor], number: float, step: Transition) -> Tensor:
    """Whether a game variable compares so with the number, (B,) bool; can be pickled, unlike a lambda."""
    return comparison(step.signals[name], number)


def one_per_row(given: Tensor, rows: int, what: str, dtype: torch.dtype) -> Tensor:
    """The result of a user's function as (B,) of this dtype; ValueError or TypeError that names the function."""
    if not isinstance(given, Tensor):
        raise TypeError(f"{what} must return a torch.Tensor, one entry per row, got {type(given).__name__}")
    if given.shape != (rows,):
        raise ValueError(f"{what} must return shape ({rows},), one entry per row, got {tuple(given.shape)}")
    if dtype == torch.bool and given.dtype != torch.bool:
        raise TypeError(f"{what} must return bools, got {given.dtype}")
    return given.to(dtype)

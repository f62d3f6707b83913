"""Settings that are checked when they are made."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from worldmodel.dynamics import GPTConfig, HeadsConfig
from worldmodel.settings import check_settings, difference
from worldmodel.tokenizer import CodebookConfig, VQVAEConfig
from worldmodel.training.fit import LoopConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    kind: Literal["slow", "fast"] = "slow"
    count: int = 3
    limit: int | None = None
    rate: float = 0.5
    on: bool = True
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, float] | None = None
    word: str = ""

    def __post_init__(self) -> None:
        check_settings(self, least={"count": 1, "limit": 2, "sizes": 1}, above={"rate": 0}, at_most_one=("rate",))


def test_what_fits_passes_as_it_is():
    made = Settings(kind="fast", limit=2, sizes=(), pair=(1, 2), rate=1)
    assert (made.kind, made.limit, made.sizes, made.pair, made.rate) == ("fast", 2, (), (1, 2), 1)


def test_numbers_of_numpy_and_lists_become_plain():
    made = Settings(count=np.int64(4), rate=np.float32(0.25), sizes=[np.int32(7), 8])
    assert made == Settings(count=4, rate=0.25, sizes=(7, 8))
    assert [type(made.count), type(made.rate), *map(type, made.sizes)] == [int, float, int, int]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"kind": "fsat"}, ValueError, "unknown kind 'fsat'. Did you mean 'fast'"),
        ({"kind": ["fast"]}, ValueError, "unknown kind"),
        ({"count": 0}, ValueError, "count must be at least 1, got 0"),
        ({"count": 2.5}, TypeError, "count must be a whole number, got 2.5"),
        ({"count": "3"}, TypeError, "count must be a whole number, got '3'"),
        ({"count": True}, TypeError, "count must be a whole number, got True"),
        ({"count": None}, TypeError, "count must be a whole number, got None"),
        ({"limit": 1}, ValueError, "limit must be at least 2, got 1"),
        ({"rate": 0.0}, ValueError, "rate must be above 0, got 0.0"),
        ({"rate": 1.5}, ValueError, "rate must be in [0, 1], got 1.5"),
        ({"rate": float("nan")}, TypeError, "rate must be a finite number, got nan"),
        ({"on": 1}, TypeError, "on must be True or False, got 1"),
        ({"sizes": (3, 0)}, ValueError, "sizes must be at least 1, got (3, 0)"),
        ({"sizes": 3}, TypeError, "sizes must be a tuple, got 3"),
        ({"pair": (1,)}, ValueError, "pair must have 2 entries, got (1,)"),
    ],
)
def test_what_does_not_fit_is_refused(given, error, message):
    with pytest.raises(error) as raised:
        Settings(**given)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (GPTConfig, {"position": "rotary_time"}),
        (GPTConfig, {"order": "rastr"}),
        (GPTConfig, {"heads": 0}),
        (GPTConfig, {"layers": 0}),
        (GPTConfig, {"window": 2.5}),
        (VQVAEConfig, {"temporal": "stepp"}),
        (VQVAEConfig, {"heads": 0}),
        (VQVAEConfig, {"space_stride": (16,)}),
        (VQVAEConfig, {"data_variance": float("nan")}),
        (VQVAEConfig, {"height": 0}),
        (CodebookConfig, {"num_codes": 0}),
        (HeadsConfig, {"limit": 0}),
        (HeadsConfig, {"termination_weight": 0}),
        (HeadsConfig, {"token_width": 0}),
        (LoopConfig, {"steps": 1, "batch_size": 1, "clip_norm": -1.0}),
        (LoopConfig, {"steps": 1, "batch_size": 1, "warmup": -5}),
        (LoopConfig, {"steps": 1, "batch_size": 1, "seed": 2**32}),
        (LoopConfig, {"steps": 1, "batch_size": 1, "seed": -1}),
    ],
)
def test_settings_that_would_fail_in_training_are_refused_before_it(kind, given):
    with pytest.raises((ValueError, TypeError), match=next(iter(given.keys() - {"steps", "batch_size"}))):
        kind(**given)


def test_the_first_setting_that_differs_is_told_with_both_values():
    one, other = {"loop": {"seed": 0, "steps": 3}, "z": 1}, {"loop": {"seed": 1, "steps": 3}, "z": 2}
    assert difference(one, other) == "loop.seed is 0 there, 1 here"
    assert difference({"a": {}}, {"a": {"fast": True}}) == "a.fast is not set there, True here"
    assert difference({"a": 1}, {"b": 1}) == "a is 1 there, not set here"

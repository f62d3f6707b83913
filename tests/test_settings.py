"""Settings are checked when they are created."""

import copy
import pickle
from dataclasses import asdict, field, replace
from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import Field

from worldmodel.dynamics import GPTConfig, HeadsConfig
from worldmodel.settings import (
    BY_NET,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    ShareBelowOne,
    checked_dataclass,
    difference,
    from_json,
)
from worldmodel.tokenizer import CodebookConfig, VQVAEConfig
from worldmodel.training.fit import LoopConfig


@checked_dataclass
class Inner:
    kind: Literal["slow", "fast"] = "slow"
    sizes: tuple[PositiveInt, ...] = (1, 2)


@checked_dataclass
class Settings:
    kind: Literal["slow", "fast"] = "slow"
    count: PositiveInt = 3
    limit: Annotated[int, Field(ge=2, lt=9)] | None = None
    rate: Probability = 0.5
    speed: PositiveFloat = 1.0
    drop: ShareBelowOne = 0.0
    on: bool = True
    sizes: tuple[PositiveInt, ...] = (1, 2)
    pair: tuple[int, float] | None = None
    word: str = ""
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.count == 13:
            raise ValueError(f"count must not be 13 with sizes {self.sizes}")


@checked_dataclass
class Convolutions:
    net: Literal["convolutions"] = "convolutions"
    kernel: PositiveInt = 3


@checked_dataclass
class Transformer:
    net: Literal["transformer"] = "transformer"
    layers: PositiveInt = 4


AnyModel = Annotated[Convolutions | Transformer, BY_NET]


@checked_dataclass
class Training:
    model: AnyModel = field(default_factory=Convolutions)


@checked_dataclass
class Needy:
    steps: NonNegativeInt


def test_what_fits_passes_as_it_is():
    made = Settings(kind="fast", limit=2, sizes=(), pair=(1, 2), rate=1)
    assert (made.kind, made.limit, made.sizes, made.pair, made.rate) == ("fast", 2, (), (1, 2), 1)


def test_numbers_of_numpy_and_lists_become_plain():
    made = Settings(count=np.int64(4), rate=np.float32(0.25), sizes=[np.int32(7), 8])
    assert made == Settings(count=4, rate=0.25, sizes=(7, 8)) == replace(Settings(), count=4, rate=0.25, sizes=(7, 8))
    assert [type(made.count), type(made.rate), *map(type, made.sizes)] == [int, float, int, int]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"kind": "fsat"}, ValueError, "unknown kind 'fsat'. Did you mean 'fast'"),
        ({"kind": ["fast"]}, ValueError, "unknown kind"),
        ({"count": 0}, ValueError, "count must be at least 1, got 0"),
        ({"count": 2.5}, TypeError, "count must be a valid integer, got 2.5"),
        ({"count": "3"}, TypeError, "count must be a valid integer, got '3'"),
        ({"count": True}, TypeError, "count must be a valid integer, got True"),
        ({"count": None}, TypeError, "count must be a valid integer, got None"),
        ({"limit": 1}, ValueError, "limit must be at least 2, got 1"),
        ({"limit": 9}, ValueError, "limit must be below 9, got 9"),
        ({"rate": 1.5}, ValueError, "rate must be at most 1, got 1.5"),
        ({"rate": float("nan")}, ValueError, "rate must be a finite number, got nan"),
        ({"speed": 0.0}, ValueError, "speed must be above 0, got 0.0"),
        ({"drop": 1.0}, ValueError, "drop must be below 1, got 1.0"),
        ({"on": 1}, TypeError, "on must be a valid boolean, got 1"),
        ({"sizes": (3, 0)}, ValueError, "sizes[1] must be at least 1, got 0"),
        ({"sizes": 3}, TypeError, "sizes must be a valid tuple, got 3"),
        ({"pair": (1,)}, TypeError, "pair[1] is missing"),
        ({"pair": (1, 2.0, 3)}, ValueError, "pair must have at most 2 items, not 3, got (1, 2.0, 3)"),
        ({"word": 3}, TypeError, "word must be a valid string, got 3"),
        ({"inner": {}}, TypeError, "inner must be an instance of Inner, got {}"),
        ({"coutn": 3}, TypeError, "Settings has no option 'coutn'. Did you mean 'count'?"),
        ({"count": 0, "rate": 2.0}, ValueError, "count must be at least 1, got 0; rate must be at most 1, got 2.0"),
        ({"count": 13}, ValueError, "count must not be 13 with sizes (1, 2)"),
    ],
)
def test_what_does_not_fit_is_refused(given, error, message):
    with pytest.raises(error) as raised:
        Settings(**given)
    assert str(raised.value).startswith(message)


def test_a_setting_without_a_default_must_be_given():
    with pytest.raises(TypeError, match="steps is missing"):
        Needy()
    with pytest.raises(TypeError, match="Unexpected positional argument"):
        Needy(3)


def test_checked_settings_are_dataclasses_that_can_be_hashed_copied_and_sent_to_a_process():
    made = Settings(count=5, inner=Inner(sizes=(3,)))
    assert hash(made) == hash(replace(made)) and made == copy.deepcopy(made) == pickle.loads(pickle.dumps(made))
    assert from_json(Settings, asdict(made)) == made
    with pytest.raises(AttributeError):
        made.count = 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"inner": {"sizes": [3, 0]}}, "inner.sizes[1] must be at least 1, got 0"),
        ({"inner": {"kind": "fsat"}}, "unknown inner.kind 'fsat'. Did you mean 'fast'?"),
        ({"inner": {"colour": 1}}, "inner.colour"),
        ({"inner": 3}, "inner must be an object, got 3"),
        ({"count": 3.0}, "count must be a valid integer, got 3.0"),
        ({"count": "3"}, "count must be a valid integer, got '3'"),
        ({"on": 1}, "on must be a valid boolean, got 1"),
        ({"count": 13}, "count must not be 13"),
        ({"coutn": 3}, "Settings has no option 'coutn'. Did you mean 'count'?"),
    ],
)
def test_settings_out_of_a_file_are_refused_with_the_place_of_the_mistake(data, message):
    with pytest.raises(ValueError) as raised:
        from_json(Settings, data)
    assert message in str(raised.value)


def test_of_several_classes_net_names_the_one_that_is_read():
    made = Training(model=Transformer(layers=2))
    assert from_json(Training, asdict(made)) == made
    assert from_json(AnyModel, asdict(made.model)) == made.model


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"net": "transfomer"}, "unknown net 'transfomer'. Did you mean 'transformer'?"),
        ({"net": "transformer", "layers": 0}, "layers must be at least 1, got 0"),
        ({"net": "transformer", "kernel": 3}, "Transformer has no option 'kernel'"),
        ({"net": "convolutions", "kernle": 3}, "Convolutions has no option 'kernle'. Did you mean 'kernel'?"),
    ],
)
def test_a_mistake_in_one_of_several_classes_is_reported_with_its_path(data, message):
    with pytest.raises(ValueError) as alone:
        from_json(AnyModel, data)
    with pytest.raises(ValueError) as inside:
        from_json(Training, {"model": data})
    assert message in str(alone.value)
    place = message.replace("unknown net", "unknown model.net").replace("layers", "model.layers")
    assert place.replace("option '", "option 'model.") in str(inside.value)


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

"""What a reward function gets, and that it is computed only on demand."""

import pytest
import torch

from tests.tiny import tiny_world
from worldmodel.envs.dream import rules as module
from worldmodel.envs.dream.rules import Transition


def make_step(world, rows=5):
    codes = torch.randint(16, (rows, 2, 2, 2), generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(rows)
    return Transition(
        actions=nothing.long(),
        reward=nothing,
        terminated=nothing.bool(),
        signals={},
        signals_before={},
        codes=codes,
        _tokenizer=world.tokenizer,
    )


def test_frames_and_latents_are_those_of_the_codes(monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 2)  # in three parts
    world = tiny_world()
    step = make_step(world)
    assert len(step) == 5
    assert torch.equal(step.latents(), world.tokenizer.lookup(step.codes))
    whole = world.tokenizer.decode(step.codes[:, None])[:, 0]
    assert step.frames().shape == (5, 2, 16, 16, 3) and step.frames().dtype == torch.uint8
    assert (step.frames().int() - whole.int()).abs().max() <= 1  # another batch may round a pixel the other way


def test_frames_are_decoded_once_and_only_on_request(monkeypatch):
    world = tiny_world()
    calls = []
    decode = world.tokenizer.decode
    monkeypatch.setattr(world.tokenizer, "decode", lambda codes: calls.append(len(codes)) or decode(codes))
    step = make_step(world)
    step.latents()
    assert not calls
    assert step.frames() is step.frames() and calls == [5]


def test_a_step_cannot_be_changed():
    with pytest.raises(AttributeError):
        make_step(tiny_world()).reward = torch.ones(5)

import numpy as np
import pytest
import torch

from tests.tiny import tiny_world
from worldmodel.envs.start_states import StartStates


def rngs(*seeds):
    return [np.random.default_rng(seed) for seed in seeds]


def test_a_row_draws_from_its_own_generator_only():
    starts = StartStates(tiny_world())
    together, alone = starts.draw(rngs(1, 2, 3)), starts.draw(rngs(2))
    assert together.seeds[1] == alone.seeds[0]
    assert torch.equal(together.codes[1], alone.codes[0])
    assert torch.equal(together.actions[1], alone.actions[0])
    assert torch.equal(together.signals[1], alone.signals[0])


def test_codes_actions_and_last_signals_belong_to_one_start():
    world = tiny_world()
    context = StartStates(world).draw(rngs(*range(8)))
    for codes, actions, signals in zip(context.codes, context.actions, context.signals, strict=True):
        pick = next(k for k, stored in enumerate(world.starts.codes) if torch.equal(stored, codes))
        assert torch.equal(actions, world.starts.actions[pick])
        assert torch.equal(signals, world.starts.signals[pick, -1])


def test_every_start_is_drawn_and_seeds_differ():
    world = tiny_world()
    rng = np.random.default_rng(0)
    contexts = [StartStates(world).draw([rng]) for _ in range(60)]
    assert len({tuple(c.codes.flatten().tolist()) for c in contexts}) == len(world.starts.codes)
    assert len({c.seeds[0] for c in contexts}) == 60


def test_an_unknown_source_is_told_the_valid_ones():
    with pytest.raises(ValueError, match=r"unknown seed_from 'start'\. Did you mean 'starts'"):
        StartStates(tiny_world(), "start")


def test_a_model_without_starts_is_refused():
    world = tiny_world()
    world.starts = None
    with pytest.raises(ValueError, match=r"lacks starts\.safetensors"):
        StartStates(world)

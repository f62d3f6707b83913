"""The functions that are exported compute what the world's own step computes, and other worlds are refused."""

import dataclasses

import pytest
import torch

from tests.tiny import tiny_config, tiny_world
from tests.training.show.web.dreams import first_context, vector
from worldmodel.data import ActionSpec
from worldmodel.dynamics.sampling import draw as library_draw
from worldmodel.dynamics.sampling import uniforms
from worldmodel.layers.position import rotation
from worldmodel.model import Starts, WorldModel
from worldmodel.training.show.web.graphs import Drawing, Pass, check_exportable, draw
from worldmodel.training.show.web.picture import Picture


def hand_world() -> WorldModel:
    """All options of the exported part of a world: a learned start, echo, laws, continuous actions, patches."""
    config = tiny_config(heads={"signal_layers": 2, "read_signals": True}, learn_start=True, echo=True)
    config = dataclasses.replace(
        config,
        action=ActionSpec(
            kind="box", n=4, names=("x_0", "y_0", "x_1", "y_1"), low=(-2.0,) * 4, high=(1.0,) * 4, frames=2
        ),
        tokenizer=dataclasses.replace(config.tokenizer, stage_widths=(8, 16), patch=2, frames_per_step=3, norm="batch"),
        signal_names=("X", "Y"),
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        world = WorldModel(config)
        for parameter in world.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.3)
        grid = (*world.tokenizer.grid, world.tokenizer.num_slices)
        codes = torch.randint(world.tokenizer.num_codes, (5, 3, *grid))
        world.starts = Starts(codes, torch.rand(5, 2, 4), torch.rand(5, 3, 2))
    world.heads.signal_low.fill_(0.0)
    world.heads.signal_high.fill_(1.0)
    world.heads.end_shift.fill_(-3.0)
    return world.prepare(torch.float32)


def linear_world() -> WorldModel:
    """No hidden units in the code head, no positions."""
    config = tiny_config(code_head_width=16, position="none")
    codebook = dataclasses.replace(config.tokenizer.codebook, num_slices=1)
    config = dataclasses.replace(
        config,
        tokenizer=dataclasses.replace(config.tokenizer, codebook=codebook, attention=False),
        dynamics=dataclasses.replace(config.dynamics, code_head_width=0),
    )
    with torch.random.fork_rng():
        torch.manual_seed(4)
        world = WorldModel(config)
        for parameter in world.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.3)
        codes = torch.randint(world.tokenizer.num_codes, (5, 3, *world.tokenizer.grid, 1))
        world.starts = Starts(codes, torch.randint(3, (5, 2)), torch.rand(5, 3, 1))
    return world.prepare(torch.float32)


def checkerboard_world() -> WorldModel:
    world = tiny_world(checkerboard=True, echo=True)
    torch.nn.init.normal_(
        world.dynamics.code_head.checkerboard.tables.weight, generator=torch.Generator().manual_seed(5)
    )
    return world


def ending_world() -> WorldModel:
    world = tiny_world(heads={"ends": "drawn"})
    world.heads.end_shift.fill_(-1.0)
    return world


WORLDS = {
    "checkerboard": checkerboard_world,
    "drawn ends": ending_world,
    "game": tiny_world,
    "hand": hand_world,
    "no time": lambda: tiny_world(position="space"),
    "one layer of logits": linear_world,
}


@pytest.fixture(params=WORLDS)
def world(request):
    return WORLDS[request.param]()


def test_a_step_equals_the_worlds_own(world):
    context = first_context(world, 0)
    state = world.start_codes(*context)
    tokens, (layers, (heads, window, _, features)) = world.dynamics.tokens_per_step, world.dynamics.cache_shape
    run, drawing, picture = Pass(world), Drawing(world), Picture(world)
    past: list = []
    given = context.codes[0].flatten(1, 2).int()
    codes, signals, zero = given[0], context.signals[0], torch.zeros(())
    actions = [vector(world, action) for action in context.actions[0]]
    inputs = [(given[0], torch.zeros_like(actions[0]), torch.ones(()))] if world.config.dynamics.lead else []
    inputs += [(given[step], action, zero) for step, action in enumerate(actions)]

    def advance(codes, action, first, clock):
        keys = torch.zeros(layers, heads, window - 1, tokens, features)
        values, hidden = torch.zeros_like(keys), torch.full((window - 1,), -torch.inf)
        for slot, (k, v) in enumerate(past):
            keys[:, :, slot], values[:, :, slot], hidden[slot] = k, v, 0.0
        turn = rotation(torch.tensor([clock]), features)
        outputs, *pair = run(codes, action, first, keys, values, hidden, torch.cat((turn.cos, turn.sin)))
        past[:] = [*past, pair][-(window - 1) :]
        return outputs

    with torch.inference_mode():
        for clock, step in enumerate(inputs):
            advance(*step, clock)
        codes = given[-1]
        for counter in range(2 * window):
            action = context.actions[:1, counter % 2]
            numbers = uniforms(context.seeds, torch.tensor([counter]), codes.numel() + 1)[0]
            noise = numbers[:-1].view(codes.shape)
            done = vector(world, action[0])
            outputs = advance(codes, done, zero, len(inputs) + counter)
            drawn, nll, entropy, reward, probability, ended, signals = drawing(
                outputs, codes, zero, noise, torch.ones(()), signals, done, numbers[-1]
            )
            state, out = world.step(state, action)
            torch.testing.assert_close(outputs, out.outputs[0], rtol=1e-4, atol=1e-5)
            assert torch.equal(drawn.flatten(), out.codes.flatten().int())
            mine = torch.stack((nll, entropy, reward, probability))
            theirs = torch.cat((out.nll, out.entropy, out.reward, out.termination_probability))
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(signals, out.signals[0], rtol=1e-4, atol=1e-4)
            assert bool(ended) == bool(out.terminated)
            assert torch.equal(picture(drawn), out.frames()[0])
            codes = drawn


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
def test_draws_are_the_librarys_at_any_temperature(temperature):
    generator = torch.Generator().manual_seed(0)
    logits, noise = torch.randn(50, 64, generator=generator) * 3, torch.rand(50, generator=generator)
    codes, nll, entropy = draw(logits, noise, torch.tensor(temperature))
    wanted = library_draw(logits, noise, temperature)
    assert torch.equal(codes, wanted.codes)
    torch.testing.assert_close(nll, wanted.nll, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(entropy, wanted.entropy, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"net": "subscale"}, "SubscaleTransformer"),
        ({"order": "raster"}, "raster"),
        ({"attention": "axial"}, "axial"),
        ({"refine": 1}, "2 passes"),
        ({"position": "time", "max_steps": 4}, "limited"),
        ({"frame_condition": 1}, "first frames"),
    ],
)
def test_other_worlds_are_refused_with_the_reason(changes, reason):
    with pytest.raises(ValueError, match=f"cannot be exported for the browser: .*{reason}"):
        check_exportable(tiny_world(**changes))

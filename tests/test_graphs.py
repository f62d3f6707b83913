"""Recorded steps on a processor: `tests.tape` stands in for the GPU's recorder."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from tests.tape import taped
from tests.tiny import tiny_world
from worldmodel.dreaming import StepOut
from worldmodel.envs.dream_vector_env import DreamVectorEnv
from worldmodel.graphs import GraphedSteps

ROWS, STEPS = 3, 11  # the tiny world's window is 4 steps
KINDS = {
    "block": {},
    "raster": {"order": "raster"},
    "axial": {"attention": "axial"},
    "from nothing": {"learn_start": True},
    "in groups": {"refine": 2},
    "no positions": {"position": "none"},
}


def begin(world, rows=ROWS, seed=0, clock=None, steps=3):
    codes, actions, _ = world.starts.codes, world.starts.actions, None
    picks = torch.arange(rows) % len(codes)
    seeds = range(seed, seed + rows)
    return world.start_codes(codes[picks, :steps], actions[picks, : steps - 1], seeds=seeds, clock=clock)


def actions_of(step, rows=ROWS):
    return (torch.arange(rows) + step) % 3


def assert_same(one: StepOut, other: StepOut) -> None:
    for field in fields(StepOut):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, torch.Tensor):
            assert torch.equal(mine, theirs), field.name


def dream(step, state, actions=range(STEPS), **options):
    outs = []
    for number in actions:
        state, out = step(state, actions_of(number, len(state)), **options)
        outs.append(out)
    return state, outs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [1, 3])
def test_recorded_steps_are_the_steps(kind, given):
    world = tiny_world(**KINDS[kind])
    graphed = GraphedSteps(world, taped)
    state, outs = dream(graphed.step, begin(world, steps=given))
    same, wanted = dream(world.step, begin(world, steps=given))
    for one, other in zip(outs, wanted, strict=True):
        assert_same(one, other)
    assert state.clock == same.clock and torch.equal(world.features(state), world.features(same))


def test_a_recording_serves_every_time_the_ring_comes_round():
    world, made = tiny_world(), []
    graphed = GraphedSteps(world, lambda step: made.append(1) or taped(step))
    state, _ = dream(graphed.step, begin(world))
    so_far = len(made)
    state, _ = dream(graphed.step, state)
    assert len(made) == so_far <= 2 * world.config.dynamics.window
    dream(graphed.step, state, range(1), temperature=0.5)
    assert len(made) == so_far + 1


def test_rows_may_begin_anew_between_recorded_steps():
    world = tiny_world()
    graphed = GraphedSteps(world, taped)
    ends = {2: ([1], 3), 6: ([0, 2], 1)}  # after which step, which rows, with how many given steps
    runs = []
    for step in (graphed.step, world.step):
        state, outs = begin(world), []
        for number in range(STEPS):
            state, out = step(state, actions_of(number))
            outs.append(out)
            if number in ends:
                rows, given = ends[number]
                state.put(rows, begin(world, len(rows), 50 + number, state.clock, given))
        runs.append(outs)
    for one, other in zip(*runs, strict=True):
        assert_same(one, other)


def test_results_stay_when_the_dream_goes_on():
    world = tiny_world()
    graphed = GraphedSteps(world, taped)
    state, out = graphed.step(begin(world), actions_of(0))
    kept = {name: getattr(out, name).clone() for name in ("codes", "reward", "outputs")}
    signals, counter = state.signals.clone(), state.counter.clone()
    dream(graphed.step, state)
    assert all(torch.equal(getattr(out, name), values) for name, values in kept.items())
    assert torch.equal(state.signals, signals) and torch.equal(state.counter, counter)


def test_a_copy_goes_on_as_the_dream_did_and_what_it_wrote_over_is_refused():
    world = tiny_world()
    graphed = GraphedSteps(world, taped)
    state, _ = dream(graphed.step, begin(world), range(5))
    copy = state.clone()
    spent = state
    left, wanted = dream(graphed.step, state)
    _, outs = dream(graphed.step, copy)
    for one, other in zip(outs, wanted, strict=True):
        assert_same(one, other)
    for old in (spent, left):
        with pytest.raises(ValueError, match="has been stepped"):
            graphed.step(old, actions_of(0))


def test_other_rows_and_changed_weights_are_recorded_anew():
    world = tiny_world()
    graphed = GraphedSteps(world, taped)
    dream(graphed.step, begin(world), range(2))
    for rows in (1, ROWS):
        _, outs = dream(graphed.step, begin(world, rows), range(3))
        _, wanted = dream(world.step, begin(world, rows), range(3))
        assert_same(outs[-1], wanted[-1])
    with torch.no_grad():
        world.dynamics.blocks[0].norm_forward.modulation.bias.add_(1.0)  # told by a product of all norms' weights
        world.dynamics.token_in.weight.mul_(2.0)  # looked up in a table
    _, outs = dream(graphed.step, begin(world), range(3))
    _, changed = dream(world.step, begin(world), range(3))
    assert_same(outs[-1], changed[-1])
    assert not torch.equal(changed[-1].outputs, wanted[-1].outputs)


def test_first_frames_are_read_from_the_state():
    world = tiny_world(frame_condition=1)
    graphed = GraphedSteps(world, taped)
    runs = []
    for step in (graphed.step, world.step):
        first = dream(step, begin(world, seed=0), range(4))[1]
        codes = (world.starts.codes[:ROWS, :3] + 1) % world.tokenizer.num_codes  # other first frames
        other = world.start_codes(codes, world.starts.actions[:ROWS, :2], seeds=range(ROWS))
        runs.append((first[-1], dream(step, other, range(4))[1][-1]))
    for one, other in zip(*runs, strict=True):
        assert_same(one, other)


def test_a_limited_context_is_refused():
    with pytest.raises(ValueError, match="context is limited"):
        GraphedSteps(tiny_world(position="time", max_steps=4), taped)


def test_an_env_on_a_processor_has_no_graphs():
    with pytest.raises(ValueError, match="graphs=True needs a GPU"):
        DreamVectorEnv(2, tiny_world(), graphs=True)


@pytest.mark.parametrize("mode", ["same_step", "next_step"])
def test_an_env_dreams_the_same_from_recorded_steps(mode):
    world = tiny_world()
    envs, graphed = (DreamVectorEnv(4, world, "latent", horizon=5, autoreset_mode=mode) for _ in range(2))
    graphed._dreams.model_step = GraphedSteps(world, taped).step
    rng = np.random.default_rng(0)
    plays = []
    actions = rng.integers(3, size=(17, 4))
    for one in (envs, graphed):
        play = [one.reset(seed=3)[0]]
        for number, action in enumerate(actions):
            if number == 7:
                kept = one.state
            if number == 12:
                one.state = kept
            if number == 14:
                play.append(one.reset(seed=9)[0])
            play.extend(one.step(action)[:4])
        plays.append(play)
    for one, other in zip(*plays, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.gpu
def test_a_graph_on_a_gpu_dreams_what_steps_dream():
    plays = []
    for graphs in (False, True):
        envs = DreamVectorEnv(64, "doom-hg", "codes", device="cuda", horizon=32, graphs=graphs)
        envs.reset(seed=0)
        actions = torch.zeros(64, dtype=torch.int64, device="cuda")
        plays.append([envs.step_torch(actions).observations.cpu() for _ in range(20)])
    assert torch.equal(torch.stack(plays[0]), torch.stack(plays[1]))

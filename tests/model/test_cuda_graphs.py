"""Recorded steps on a processor: `tests.tape` stands in for the GPU's recorder."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from tests.tape import Tapes
from tests.tiny import tiny_world
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.model import WorldModel
from worldmodel.model.cuda_graphs import GraphedSteps
from worldmodel.model.outputs import StepOut

ROWS, STEPS = 3, 11  # the tiny world's window is 4 steps
KINDS = {
    "block": {},
    "raster": {"order": "raster"},
    "axial": {"attention": "axial"},
    "from nothing": {"learn_start": True},
    "in groups": {"refine": 2},
    "no positions": {"position": "none"},
    "drawn ends": {"heads": {"ends": "drawn"}},
}


def begin(world, rows=ROWS, seed=0, clock=None, steps=3):
    codes, actions = world.starts.codes, world.starts.actions
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


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        *((kind, 3) for kind in KINDS),
        ("block", 1),
        *(pytest.param(kind, 1, marks=pytest.mark.slow) for kind in KINDS if kind != "block"),
    ],
)
def test_recorded_steps_are_the_steps(kind, given):
    world = tiny_world(**KINDS[kind])
    graphed = GraphedSteps(world, Tapes)
    state, outs = dream(graphed.step, begin(world, steps=given))
    same, wanted = dream(world.step, begin(world, steps=given))
    for one, other in zip(outs, wanted, strict=True):
        assert_same(one, other)
    assert state.clock == same.clock and torch.equal(world.features(state), world.features(same))


class Counting(Tapes):
    """Counted tapes; `fails` aborts after a recording was begun."""

    made = 0
    fails = False

    def __call__(self, once, step):
        Counting.made += 1
        recorded = super().__call__(once, step)
        if Counting.fails:
            raise MemoryError
        return recorded


def test_a_recording_serves_every_time_the_ring_comes_round(monkeypatch):
    monkeypatch.setattr(Counting, "made", 0)
    world = tiny_world()
    graphed, window = GraphedSteps(world, Counting), world.config.dynamics.window
    state, _ = dream(graphed.step, begin(world))
    so_far = Counting.made
    assert window <= so_far <= 2 * window
    state, _ = dream(graphed.step, state)
    assert Counting.made == so_far
    for row in range(ROWS):  # rows that see less, whatever they see, ask for one kind of recording more
        state.put([row], begin(world, 1, 9 + row, state.clock, 1 + row % 2))
        state, _ = dream(graphed.step, state, range(2 * window))
    assert Counting.made <= so_far + window
    dream(graphed.step, state, range(1), temperature=0.5)
    dream(graphed.step, begin(world), range(1))
    assert Counting.made <= so_far + window + 2


def test_a_recording_that_fails_costs_no_step(monkeypatch):
    world = tiny_world()
    graphed, state = GraphedSteps(world, Counting), begin(world)
    monkeypatch.setattr(Counting, "fails", True)
    with pytest.raises(MemoryError):
        graphed.step(state, actions_of(0))
    monkeypatch.setattr(Counting, "fails", False)
    _, outs = dream(graphed.step, state)
    _, wanted = dream(world.step, begin(world))
    for one, other in zip(outs, wanted, strict=True):
        assert_same(one, other)


def test_tables_dropped_in_between_are_recorded_again(monkeypatch):
    """A graph would read freed memory."""
    monkeypatch.setattr(Counting, "made", 0)
    world = tiny_world()
    graphed, vectors = GraphedSteps(world, Counting), torch.randn(1, 2, 4, 8)
    state, _ = dream(graphed.step, begin(world), range(9))
    so_far = Counting.made
    with torch.enable_grad():
        world.dynamics(vectors, torch.zeros(1, 1, dtype=torch.int64))  # may be the first of a training
    dream(graphed.step, state, range(1))
    assert Counting.made == so_far + 1


def test_rows_may_restart_between_recorded_steps():
    world = tiny_world()
    graphed = GraphedSteps(world, Tapes)
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


def test_results_stay_while_the_dream_continues():
    world = tiny_world()
    graphed = GraphedSteps(world, Tapes)
    state, out = graphed.step(begin(world), actions_of(0))
    kept = {name: getattr(out, name).clone() for name in ("codes", "reward", "outputs")}
    signals, counter = state.signals.clone(), state.counter.clone()
    dream(graphed.step, state)
    assert all(torch.equal(getattr(out, name), values) for name, values in kept.items())
    assert torch.equal(state.signals, signals) and torch.equal(state.counter, counter)


def test_a_copy_continues_as_the_dream_did_and_the_state_it_overwrote_is_refused():
    world = tiny_world()
    graphed = GraphedSteps(world, Tapes)
    state, _ = dream(graphed.step, begin(world), range(5))
    copy = state.clone()
    spent = state
    left, wanted = dream(graphed.step, state)
    _, outs = dream(graphed.step, copy)
    for one, other in zip(outs, wanted, strict=True):
        assert_same(one, other)
    for old in (spent, left):
        with pytest.raises(ValueError, match="another dream has reused the memory"):
            graphed.step(old, actions_of(0))


def test_other_rows_and_changed_weights_are_recorded_again():
    world = tiny_world()
    graphed = GraphedSteps(world, Tapes)
    dream(graphed.step, begin(world), range(2))
    for rows in (1, ROWS):
        _, outs = dream(graphed.step, begin(world, rows), range(3))
        _, wanted = dream(world.step, begin(world, rows), range(3))
        assert_same(outs[-1], wanted[-1])
    with torch.no_grad():
        world.dynamics.blocks[0].norm_forward.modulation.bias.add_(1.0)  # enters through one matmul of all norms
        world.dynamics.token_in.weight.mul_(2.0)  # looked up in a table
    _, outs = dream(graphed.step, begin(world), range(3))
    _, changed = dream(world.step, begin(world), range(3))
    assert_same(outs[-1], changed[-1])
    assert not torch.equal(changed[-1].outputs, wanted[-1].outputs)


def test_weights_and_temperatures_may_change_during_a_dream():
    runs = []
    for graphed in (False, True):
        world = tiny_world()
        step = GraphedSteps(world, Tapes).step if graphed else world.step
        state, first = dream(step, begin(world))
        with torch.no_grad():
            world.dynamics.token_in.weight.mul_(2.0)  # looked up in a table
        state, second = dream(step, state)
        state, third = dream(step, state, temperature=0.5)
        runs.append((*first, *second, *third))
    for one, other in zip(*runs, strict=True):
        assert_same(one, other)


def test_a_state_of_other_products_and_one_of_another_model_are_treated_as_by_a_step():
    world = tiny_world().prepare(torch.bfloat16)
    graphed = GraphedSteps(world, Tapes)
    wide = begin(tiny_world())
    _, outs = dream(graphed.step, wide.clone())
    _, wanted = dream(world.step, wide)
    for one, other in zip(outs, wanted, strict=True):
        assert_same(one, other)
    with pytest.raises(ValueError, match="this state is another model's"):
        graphed.step(begin(tiny_world(layers=1)), actions_of(0))


def test_without_rows_no_dream_begins():
    envs = DreamVectorEnv(3, tiny_world(), "codes")
    envs.reset(seed=0)
    assert len(envs.reset_torch(torch.zeros(3, dtype=torch.bool))) == 0


def test_first_frames_are_read_from_the_state():
    world = tiny_world(frame_condition=1)
    graphed = GraphedSteps(world, Tapes)
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
        GraphedSteps(tiny_world(position="time", max_steps=4), Tapes)


def test_an_env_on_a_processor_has_no_graphs():
    with pytest.raises(ValueError, match="graphs need a GPU"):
        DreamVectorEnv(2, tiny_world(), graphs=True)


@pytest.mark.parametrize("mode", ["same_step", "next_step"])
def test_an_env_dreams_the_same_from_recorded_steps(mode):
    world = tiny_world()
    envs, graphed = (DreamVectorEnv(4, world, "latent", horizon=5, autoreset_mode=mode) for _ in range(2))
    graphed._dreams.model_step = GraphedSteps(world, Tapes).step
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
def test_graphs_on_a_gpu_dream_what_steps_dream():
    """Two envs with separate recordings, rows that restart, rules that change, and a deleted env."""
    model = WorldModel.from_pretrained("doom-hg", device="cuda")
    plain = DreamVectorEnv(64, model, "codes", horizon=32)
    graphed, other = (DreamVectorEnv(64, model, "codes", horizon=32, graphs=True) for _ in range(2))
    actions = torch.zeros(64, dtype=torch.int64, device="cuda")
    for envs in (plain, graphed, other):
        envs.reset(seed=0)
    for step in range(60):
        if step == 20:
            model.heads.threshold.add_(0.0)  # a weight that counts as changed
        if step == 30:
            del other
            other = None
        if step == 40:
            for envs in (plain, graphed):
                envs.rules = replace(envs.rules, temperature=0.7)
        dreamt = [envs.step_torch(actions) for envs in (plain, graphed, other) if envs is not None]
        assert all(torch.equal(dreamt[0].observations, one.observations) for one in dreamt[1:])
        ended = dreamt[0].terminations | dreamt[0].truncations
        if ended.any():
            for envs in (plain, graphed, other):
                if envs is not None:
                    envs.reset_torch(ended)

import pytest
import torch

from tests.dynamics.worlds import future, make_world
from tests.tiny import tiny_world
from worldmodel.dynamics import DreamState

KINDS = (
    {"learn_start": False},
    {"position": "learned", "max_steps": 5, "learn_start": False},  # full after a few steps
    {"position": "sine", "max_steps": 4, "condition": "frames-and-step"},
    {"attention": "axial", "layers": 3},
)


def make_state(world, rows: int = 3, steps: int = 2) -> DreamState:
    starts = world.starts
    state = world.start_codes(starts.codes[:rows], starts.actions[:rows], starts.signals[:rows, -1], seeds=range(rows))
    for _ in range(steps):
        state, _ = world.step(state, torch.zeros(rows, dtype=torch.int64))
    return state


def test_a_clone_has_the_same_future_and_is_independent():
    world = tiny_world()
    state = make_state(world)
    twin = state.clone()
    assert torch.equal(future(world, state), future(world, twin))
    world.step(twin, torch.ones(3, dtype=torch.int64))
    state.check_fresh()


def test_stepping_an_already_stepped_state_is_refused():
    world = tiny_world()
    state = make_state(world)
    world.step(state, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="clone"):
        world.step(state, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="clone"):
        state.clone()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_selected_rows_keep_their_future(kind):
    world = make_world("block", **kind)
    state = make_state(world)
    assert torch.equal(future(world, state)[[2, 0]], future(world, state.select([2, 0])))


def test_repeated_rows_are_side_by_side():
    world = tiny_world()
    state = make_state(world)
    again = future(world, state.repeat(2))
    assert torch.equal(again[0::2], future(world, state)) and torch.equal(again[1::2], again[0::2])


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_saved_and_loaded_state_continues_identically(tmp_path, kind):
    world = make_world("block", **kind)
    state = make_state(world)
    state.save(tmp_path / "dream.safetensors")
    loaded = DreamState.load(tmp_path / "dream.safetensors")
    assert torch.equal(future(world, state), future(world, loaded))


def test_a_file_that_is_not_a_state_is_refused_by_name(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"x\.safetensors is not a saved dream state"):
        DreamState.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("order", ["block", "raster"])
def test_rows_that_join_late_dream_as_if_alone(order, kind):
    """A row added to a batch that is 13 steps old dreams the same as from clock 0."""
    world = make_world(order, **kind)
    starts = world.starts
    alone = world.start_codes(starts.codes[4:5], starts.actions[4:5], starts.signals[4:5, -1], seeds=[77])
    state = make_state(world, rows=3, steps=13)
    others = future(world, state)
    late = world.start_codes(
        starts.codes[4:5], starts.actions[4:5], starts.signals[4:5, -1], seeds=[77], clock=state.clock
    )
    state = state.put([1], late)
    joined = future(world, state, steps=9)
    assert torch.equal(joined[1], future(world, alone, steps=9)[0])
    assert torch.equal(joined[[0, 2], :6], others[[0, 2]])


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("order", ["block", "raster"])
def test_a_state_moved_in_time_dreams_the_same_and_does_not_change_the_old_one(order, kind):
    """Also to a time that puts some of its steps before time 0."""
    world = make_world(order, **kind)
    state = make_state(world, steps=3)
    wanted = future(world, state)
    for clock in (0, 1, 3, 18):
        moved = world.at_clock(state, clock)
        assert moved.clock == clock and moved.cache.values[0].data_ptr() != state.cache.values[0].data_ptr()
        assert torch.equal(future(world, moved), wanted), clock
        world.step(moved, torch.ones(len(moved), dtype=torch.int64))  # in its own memory
    assert torch.equal(future(world, state), wanted)


def test_rows_of_another_clock_are_refused():
    world = tiny_world()
    with pytest.raises(ValueError, match="clock"):
        make_state(world).put([0], make_state(world, rows=1, steps=5))


def test_reseeded_copies_have_different_futures():
    world = tiny_world()
    copies = make_state(world).select([0]).repeat(3)
    same = future(world, copies)
    assert torch.equal(same[0], same[1])
    own = future(world, copies.reseed([7, 8, 9]))
    assert not torch.equal(own[0], own[1])
    with pytest.raises(ValueError, match="each of the 3 rows"):
        copies.reseed([1])


@pytest.mark.parametrize("mask", [torch.tensor([False, True, True]), [False, True, True]])
def test_a_mask_selects_and_replaces_its_rows(mask):
    world = tiny_world()
    state = make_state(world)
    assert state.select(mask).seeds.tolist() == [1, 2]
    fresh = make_state(world).select([0, 0]).reseed([7, 8])
    assert state.put(mask, fresh).seeds.tolist() == [0, 7, 8]
    with pytest.raises(ValueError, match="one bool for each of the 3 rows"):
        state.select([True, False])
    assert len(state.select([])) == 0


def test_outputs_of_a_step_are_not_changed_by_replacing_a_row():
    world = tiny_world()
    fresh = make_state(world, steps=4)
    state, out = world.step(make_state(world, steps=3), torch.tensor([0, 1, 2]))
    returned = [out.codes.clone(), out.signals.clone(), out.outputs.clone()]
    state.put([0, 2], fresh.select([2, 1]))
    assert all(torch.equal(a, b) for a, b in zip(returned, (out.codes, out.signals, out.outputs), strict=True))
    assert not torch.equal(state.signals, out.signals)


def test_rows_without_the_extras_of_the_others_are_refused():
    world = tiny_world()
    state, fresh = make_state(world), make_state(world)
    state.extras["env.return"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"have the extras env\.return, which the new rows lack"):
        state.put([0], fresh.select([0]))


@pytest.mark.parametrize("loaded", [False, True])
def test_rows_of_another_world_of_the_same_sizes_are_refused(tmp_path, loaded):
    world = tiny_world()
    state, others = make_state(world), make_state(tiny_world(1), rows=1)
    dreamt = future(world, state)
    if loaded:
        others.save(tmp_path / "state.safetensors")
        others = DreamState.load(tmp_path / "state.safetensors")
    with pytest.raises(ValueError, match="belong to another world"):
        state.put([0], others)
    assert torch.equal(future(world, state), dreamt)


def test_rows_from_a_file_join_a_state_and_are_checked_there(tmp_path):
    world = tiny_world()
    state = make_state(world)
    make_state(world).select([2]).save(tmp_path / "state.safetensors")
    row = DreamState.load(tmp_path / "state.safetensors")
    assert torch.equal(future(world, make_state(world).put([0], row)), future(world, state)[[2, 1, 2]])
    row.codes[:] = 16
    with pytest.raises(ValueError, match=r"codes outside \[0, 15\]"):
        world.step(state.put([0], row), torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("change", [{"layers": 1}, {"window": 8}, {"width": 32}], ids=str)
def test_a_state_of_another_model_is_refused(change):
    world, other = tiny_world(), tiny_world(**change)
    with pytest.raises(ValueError, match="this state is another model's: it has"):
        other.step(make_state(world), torch.zeros(3, dtype=torch.int64))
    state = make_state(other)
    before = state.codes.clone()
    with pytest.raises(ValueError, match="belong to another model"):
        state.put([0], make_state(world, 1))
    assert torch.equal(state.codes, before)


def test_a_state_continues_with_matmuls_of_another_dtype():
    world, narrow = tiny_world(), tiny_world().prepare(torch.bfloat16)
    state = make_state(world)
    cast = state.with_cache(state.cache.map(lambda t: t.bfloat16() if t.is_floating_point() else t))
    assert torch.equal(future(narrow, state), future(narrow, cast))
    running = make_state(world)
    rows = narrow.start_codes(world.starts.codes[:1, :2], world.starts.actions[:1, :1], clock=running.clock)
    joined = running.put([0], rows)
    assert joined.cache.keys[0].dtype == torch.float32


@pytest.mark.parametrize("clock", [-1, 2.5])
def test_a_clock_is_an_integer(clock):
    world = tiny_world()
    with pytest.raises(ValueError, match="clock must be an integer of at least 0"):
        world.at_clock(make_state(world), clock)


def test_a_state_prints_on_one_line():
    assert (
        repr(make_state(tiny_world()))
        == f"DreamState(3 rows of 2x2x2 codes, clock {make_state(tiny_world()).clock}, cpu)"
    )

import numpy as np
import pytest
import torch

from tests.tiny import tiny_world
from worldmodel.dynamics import FrameEncoderConfig
from worldmodel.envs.dream.start_pool import Beginnings, begin
from worldmodel.envs.dream.start_states import RecordedStarts, make_source
from worldmodel.envs.dream.vector_env import DreamVectorEnv

KEYS = np.array([11, 22, 33, 44], np.int64)
NUMBERS = np.array([0, 3, 1, 2], np.int64)
CONDITIONED = {"frame_condition": 2, "frame_encoder": FrameEncoderConfig(width=4, depths=(1, 1))}
LIMITED = {"position": "time", "window": 6, "max_steps": 6}


class Counting(RecordedStarts):
    """Remembers which dreams were requested together."""

    def __init__(self, model):
        super().__init__(model)
        self.asked = []

    def draw(self, keys, numbers):
        self.asked.append(list(zip(keys.tolist(), numbers.tolist(), strict=True)))
        return super().draw(keys, numbers)


def make(rows=4):
    world = tiny_world()
    source = Counting(world)
    return world, source, Beginnings(world, source, rows)


def assert_equal_states(one, other):
    """Equal except for the last bit of sums: how float32 matmuls round depends on the number of rows."""
    for name in ("codes", "signals", "seeds", "counter"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    ours, theirs = ((state.outputs, *state.cache.keys, *state.cache.values) for state in (one, other))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_the_first_row_to_end_prepares_the_next_dreams_of_all_rows():
    world, source, beginnings = make()
    first = beginnings.take(np.array([2]), KEYS, NUMBERS)
    assert source.asked == [[(11, 0), (22, 3), (33, 1), (44, 2)]]
    found = beginnings.take(np.array([3, 0]), KEYS, NUMBERS)
    assert len(source.asked) == 1  # nothing was prepared again
    for state, rows in ((first, [2]), (found, [3, 0])):
        chosen = torch.from_numpy(np.stack((KEYS[rows], NUMBERS[rows])))
        assert_equal_states(state, world.start_codes(*RecordedStarts(world).draw(*chosen)))


def test_a_row_whose_dream_was_taken_gets_another_prepared():
    _, source, beginnings = make()
    beginnings.take(np.array([2]), KEYS, NUMBERS)
    beginnings.take(np.array([2]), KEYS, NUMBERS + 1)
    assert source.asked[1:] == [[(33, 2)]]


def test_forgotten_rows_are_prepared_again_with_their_new_keys():
    _, source, beginnings = make()
    beginnings.take(np.array([2]), KEYS, NUMBERS)
    beginnings.forget(1)
    beginnings.take(np.array([1]), KEYS + 5, NUMBERS)
    assert source.asked[1:] == [[(27, 3), (38, 1)]]  # and row 2, whose dream was taken


def test_rows_that_all_end_together_are_prepared_alone():
    _, source, beginnings = make()
    beginnings.take(np.arange(4), KEYS, NUMBERS)
    beginnings.take(np.arange(4), KEYS, NUMBERS + 1)
    assert [len(asked) for asked in source.asked] == [4, 4]


@pytest.mark.parametrize(("rows", "made"), [(1, 1), (50, 32), (128, 32), (129, 2)])
def test_the_number_of_rows_prepared_at_once_is_limited(rows, made):
    _, source, beginnings = make(rows)
    beginnings.take(np.arange(min(rows, 2)), np.arange(rows), np.zeros(rows, np.int64))
    assert len(source.asked[0]) == made


def test_a_taken_dream_does_not_change_when_others_are_prepared():
    world, _, beginnings = make()
    state = beginnings.take(np.array([0]), KEYS, NUMBERS)
    before = state.clone()
    beginnings.take(np.array([0]), KEYS, NUMBERS + 1)
    assert_equal_states(state, before)
    world.step(state, torch.zeros(1, dtype=torch.int64))


def test_rows_with_both_kinds_of_starts_have_one_burn_in_for_each(monkeypatch):
    world = tiny_world(first=4)
    asked, start_codes = [], world.start_codes
    monkeypatch.setattr(
        world, "start_codes", lambda codes, *rest: asked.append(codes.shape[:2]) or start_codes(codes, *rest)
    )
    keys = np.arange(10)
    state = begin(world, make_source(world, "starts"), keys, np.zeros(10, np.int64))
    assert sorted(asked) == [(5, 1), (5, 3)]
    assert state.cache.lengths.tolist() == [2, 0] * 5  # the odd ones know nothing but their first step


@pytest.mark.parametrize("model", [{}, {"learn_start": True}, CONDITIONED, LIMITED], ids=repr)
def test_a_row_begins_the_same_alone_and_beside_rows_with_other_starts(model):
    world = tiny_world(first=4, **model)
    source = make_source(world, "starts")
    together = begin(world, source, KEYS, NUMBERS)
    for row in range(4):
        alone = begin(world, source, KEYS[[row]], NUMBERS[[row]])
        assert alone.clock == together.clock
        assert_equal_states(together.select([row]), alone)
        for name, tensor in alone.extras.items():
            torch.testing.assert_close(together.extras[name][[row]], tensor, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model", [{}, {"learn_start": True}, CONDITIONED], ids=repr)
def test_a_dream_from_a_first_step_does_not_depend_on_the_other_starts(model):
    """Other starts in the middle of play change the rows that begin there, and no other."""

    def play(change):
        world = tiny_world(first=4, **model)
        starts = world.starts
        codes, signals = (starts.codes + change) % 16, starts.signals + change
        world.starts = starts._replace(codes=codes, actions=(starts.actions + change) % 3, signals=signals)
        envs = DreamVectorEnv(8, world, "features", horizon=3)
        seen = [envs.reset(seed=3)[0]]
        seen += [envs.step(np.arange(8) % 3)[0] for _ in range(2)]
        return np.stack(seen, axis=1), envs

    before, envs = play(0)
    after, _ = play(5)
    first = (envs._keys & 1).astype(bool)  # of the first dream, whose number is 0
    assert 0 < first.sum() < 8
    np.testing.assert_array_equal(after[first], before[first])
    assert all((after[row] != before[row]).any() for row in np.flatnonzero(~first))


@pytest.mark.parametrize("first", [0, 4])
def test_an_env_dreams_the_same_with_and_without_prepared_dreams(monkeypatch, first):
    """Also after resets that make rows begin elsewhere."""
    only = np.eye(5, dtype=bool)
    picture = np.random.default_rng(0).integers(256, size=(16, 16, 3), dtype=np.uint8)
    resets = {
        2: {"options": {"reset_mask": only[0]}},
        3: {"options": {"reset_mask": only[1]}, "seed": [None, 8, None, None, None]},
        4: {"options": {"reset_mask": only[2], "frames": picture}},
        5: {"options": {"reset_mask": only[2]}},
    }

    def play():
        world = tiny_world(first=first)
        envs = DreamVectorEnv(5, world, "codes", horizon=9, terminate_when="HEALTH <= 40")
        seen = [envs.reset(seed=3)[0]]
        for step in range(24):
            if step in resets:
                seen.append(envs.reset(**resets[step])[0])
            seen.append(envs.step(np.arange(5) % 3)[0])
        return np.stack(seen)

    ahead = play()
    monkeypatch.setattr("worldmodel.envs.dream.start_pool._MOST_ROWS", 0)
    np.testing.assert_array_equal(play(), ahead)


def test_a_row_begins_as_it_does_alone_beside_rows_that_began_with_one_image():
    """The others hold fewer steps than it does."""
    picture = np.zeros((16, 16, 3), np.uint8)

    def play(rows, **options):
        envs = DreamVectorEnv(rows, tiny_world(), "features")
        envs.reset(seed=1, **options)
        begun = envs.reset(options={"reset_mask": np.arange(rows) == 0})[0]
        return np.stack([begun[0], *(envs.step(np.full(rows, 1))[0][0] for _ in range(6))])

    np.testing.assert_allclose(play(3, options={"frames": picture}), play(1), atol=1e-4)


@pytest.mark.parametrize("change", ["weights", "dtype"])
def test_dreams_prepared_with_other_weights_are_not_used(change):
    world, first, second = tiny_world(), *({"reset_mask": np.arange(3) == row} for row in (0, 1))
    envs = DreamVectorEnv(3, world, "features")
    envs.reset(seed=4)
    envs.reset(options=first)  # makes the next dreams of all rows
    if change == "weights":
        world.load_state_dict(tiny_world(seed=1).state_dict())
    else:
        world.prepare(torch.bfloat16)
        envs.reset(seed=4)  # running dreams cannot continue in another dtype
    seen = envs.reset(options=second)[0][1]
    other = DreamVectorEnv(3, world, "features")
    other.reset(seed=4)
    np.testing.assert_allclose(seen, other.reset(options=second)[0][1], atol=1e-4)


def test_an_env_whose_state_was_copied_begins_its_next_dream_like_one_resumed_from_it():
    """Next to the same rows, since rounding of float32 matmuls may depend on their number."""

    def asked_by_the_next_reset(envs):
        envs._beginnings._source.asked.clear()
        envs.reset(options={"reset_mask": np.eye(4, dtype=bool)[1]})
        return envs._beginnings._source.asked

    one, other = (DreamVectorEnv(4, tiny_world(), "codes") for _ in range(2))
    for envs in (one, other):
        envs._beginnings._source = Counting(envs.model)
        envs.reset(seed=1)
        envs.reset(options={"reset_mask": np.eye(4, dtype=bool)[0]})  # makes the next dreams of all rows
    other.state = one.state
    one_asked, other_asked = asked_by_the_next_reset(one), asked_by_the_next_reset(other)
    assert len(one_asked[0]) == 4
    assert one_asked == other_asked

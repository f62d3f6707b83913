from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.makers import make_episode, make_store
from tests.tiny import tiny_world
from tests.training.recorded import game
from worldmodel.data import EpisodeStorage, SegmentId
from worldmodel.dynamics import FrameEncoderConfig
from worldmodel.envs.dream.start_states import BothStarts, PriorStarts, RecordedStarts, StoreStarts, make_source

SOURCES = ("starts", "first starts", "store", "first of a store", "prior")


def numbers_of(*values):
    return torch.tensor(values, dtype=torch.int64)


def draw(source, *keys, number=0):
    return source.draw(numbers_of(*keys), torch.full((len(keys),), number))


def sources(tmp_path):
    """All sources of one tiny world that can make video from nothing."""
    world, store = tiny_world(first=8, learn_start=True), play_store(tmp_path)
    recorded = [RecordedStarts(world), RecordedStarts(world, first=True)]
    return [*recorded, StoreStarts(world, store), StoreStarts(world, store, first=True), PriorStarts(world)]


def play_store(tmp_path):
    """Play of the tiny world's game: ten episodes of random frames."""
    return make_store(tmp_path / "play", lengths=(12,) * 10, info=game()).root


@pytest.mark.parametrize("kind", range(5), ids=SOURCES)
def test_a_rows_start_depends_on_its_key_and_number_only(tmp_path, kind):
    source = sources(tmp_path)[kind]
    together, alone = draw(source, 1, 2, 3), draw(source, 2)
    for a, b in zip(together, alone, strict=True):
        assert torch.equal(a[1], b[0])
    assert not torch.equal(draw(source, 2, number=1).seeds, alone.seeds)


@pytest.mark.parametrize("kind", range(5), ids=SOURCES)
def test_starts_fit_the_model_and_differ(tmp_path, kind):
    world, source = tiny_world(), sources(tmp_path)[kind]
    context = draw(source, *range(40))
    steps = 1 if "first" in SOURCES[kind] else 3
    assert context.codes.shape == (40, steps, *world.tokenizer.grid, 2) and context.codes.dtype == torch.int64
    assert context.actions.shape == (40, steps - 1) and context.actions.dtype == torch.int64
    assert context.signals.shape == (40, 1)
    assert len(set(context.seeds.tolist())) == 40
    assert len({tuple(codes.flatten().tolist()) for codes in context.codes}) >= 5


def test_codes_actions_and_last_signals_belong_to_one_start():
    world = tiny_world()
    context = draw(RecordedStarts(world), *range(8))
    for codes, actions, signals in zip(context.codes, context.actions, context.signals, strict=True):
        pick = next(k for k, stored in enumerate(world.starts.codes) if torch.equal(stored, codes))
        assert torch.equal(actions, world.starts.actions[pick])
        assert torch.equal(signals, world.starts.signals[pick, -1])


def test_every_start_is_drawn_about_equally_often():
    world = tiny_world()
    context = draw(RecordedStarts(world), *range(1000))
    picks = [next(k for k, s in enumerate(world.starts.codes) if torch.equal(s, codes)) for codes in context.codes]
    assert min(np.bincount(picks, minlength=5)) > 150


def test_a_start_from_a_store_is_a_segment_of_the_split_as_the_tokenizer_sees_it(tmp_path):
    world, root = tiny_world(), play_store(tmp_path)
    store = EpisodeStorage.open(root)
    context = draw(StoreStarts(world, root, "validation"), 0, 1, 2)
    possible = [store.batch([SegmentId(int(e), int(s), int(s) + 2)]) for e, s in store.starts(2, "validation")]
    codes = [world.tokenizer.encode(batch.frames)[0] for batch in possible]
    for row in range(3):
        match = next(i for i, segment in enumerate(codes) if torch.equal(segment, context.codes[row]))
        assert torch.equal(possible[match].actions[0], context.actions[row])
        assert torch.equal(possible[match].signals[0, -1], context.signals[row])


def test_a_first_start_from_a_store_is_the_first_step_of_an_episode(tmp_path):
    world, root = tiny_world(), play_store(tmp_path)
    store = EpisodeStorage.open(root)
    context = draw(StoreStarts(world, root, "train", first=True), *range(60))
    begun = [store.batch([SegmentId(int(e), 0, 1)]) for e in store.split("train")]
    beginnings = {batch.signals[0, 0].item(): world.tokenizer.encode(batch.frames)[0, :1] for batch in begun}
    for codes, signals in zip(context.codes, context.signals, strict=True):
        assert torch.equal(codes, beginnings[signals.item()])
    assert set(context.signals.flatten().tolist()) == set(beginnings)  # every episode


def short_episodes(root, **ends):
    """Ten episodes of three steps, whose last states have HEALTH 0 and the others 50."""
    signals = np.array([[50.0], [50.0], [50.0], [0.0]], np.float32)
    with EpisodeStorage.create(root, game()) as store:
        for seed in range(10):
            store.append(make_episode(3, seed, game(), signals=signals, **ends))
    return root


@pytest.mark.parametrize("ends", [{"terminated": True, "truncated": False}, {"terminated": False, "truncated": True}])
def test_a_start_from_a_store_is_never_the_state_in_which_the_game_has_ended(tmp_path, ends):
    starts = StoreStarts(tiny_world(), short_episodes(tmp_path / "play", **ends))  # three steps, of states 0 to 3
    healths = set(draw(starts, *range(60)).signals.flatten().tolist())
    assert healths == ({50.0} if ends["terminated"] else {0.0, 50.0})  # after a time limit the game could continue


def test_a_store_whose_games_end_before_a_dream_can_begin_is_refused(tmp_path):
    with EpisodeStorage.create(tmp_path / "play", game()) as store:
        for seed in range(10):
            store.append(make_episode(2, seed, game(), terminated=True, truncated=False))
    with pytest.raises(ValueError, match="no 3 steps after which the game continues"):
        StoreStarts(tiny_world(), tmp_path / "play")


def test_the_kind_of_starts_alternates_in_each_row_and_half_of_the_rows_begin_with_a_first_step():
    keys = np.random.default_rng(0).integers(2**62, size=1000)
    both = make_source(tiny_world(first=4), "starts")
    turns = []
    for number in range(3):
        (source, first), (other, middle) = both.parts(keys, np.full(1000, number))
        assert source is both.first and other is both.middle
        assert sorted([*first, *middle]) == list(range(1000))
        turns.append(set(first.tolist()))
    assert 450 < len(turns[0]) < 550
    assert turns[0] == turns[2] == set(range(1000)) - turns[1]


def test_starts_can_be_restricted_to_one_kind(tmp_path):
    world, root = tiny_world(first=4), play_store(tmp_path)
    for place in ("starts", root):
        assert isinstance(make_source(world, place), BothStarts)
        steps = {kind: draw(make_source(world, place, starts=kind), 1).codes.shape[1] for kind in ("first", "middle")}
        assert steps == {"first": 1, "middle": 3}


def test_a_model_that_sees_two_first_frames_is_given_two(tmp_path):
    encoder = FrameEncoderConfig(width=4, depths=(1, 1))
    world = tiny_world(frame_condition=2, frame_encoder=encoder)
    context = draw(make_source(world, play_store(tmp_path), starts="first"), 1, 2)
    assert context.codes.shape[:2] == (2, 2) and context.actions.shape == (2, 1)
    world.start_codes(*context)


def test_all_starts_of_an_older_model_are_from_mid_episode():
    world = tiny_world()
    source = make_source(world, "starts")
    assert isinstance(source, RecordedStarts)
    for ours, theirs in zip(draw(source, 1, 2), draw(make_source(world, "starts", starts="middle"), 1, 2), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("place", "starts", "words"),
    [
        ("starts", "fisrt", r"unknown starts 'fisrt'\. Did you mean 'first'"),
        ("starts", "first", "has no first steps of episodes"),
        ("prior", "middle", "has only one kind of starts: omit starts='middle'"),
    ],
)
def test_a_missing_kind_of_starts_is_refused(place, starts, words):
    with pytest.raises(ValueError, match=words):
        make_source(tiny_world(learn_start=True), place, starts=starts)


def test_a_store_of_another_game_is_refused(tmp_path):
    world = tiny_world()
    world.config = replace(world.config, signal_names=("AMMO2",))
    with pytest.raises(ValueError, match="is of another game"):
        StoreStarts(world, play_store(tmp_path))


def test_a_model_that_cannot_generate_from_nothing_says_what_it_lacks():
    with pytest.raises(ValueError, match="learn_start=True"):
        make_source(tiny_world(), "prior")


def test_a_dream_does_not_repeat_the_noise_of_a_context_made_from_nothing():
    world = tiny_world(learn_start=True)
    context = draw(PriorStarts(world), *range(200))
    state, same = world.start_codes(*context), []
    for step in context.codes.unbind(1):
        state, out = world.step(state, torch.ones(200, dtype=torch.int64))
        same.append((out.codes == step).float().mean().item())
    assert max(same) < 0.2  # of 16 codes; with the same noise about every second one is drawn again


def test_an_unknown_source_is_refused_with_a_suggestion():
    with pytest.raises(ValueError, match=r"nor a known source: 'start'\. Did you mean 'starts'"):
        make_source(tiny_world(), "start")


def test_a_model_without_starts_is_refused():
    world = tiny_world()
    world.starts = None
    with pytest.raises(ValueError, match=r"lacks starts\.safetensors"):
        make_source(world, "starts")

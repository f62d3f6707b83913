"""Observing real steps, branching futures, and what the model reports of a step; on every kind of dynamics."""

import pytest
import torch

from tests.tiny import tiny_world
from worldmodel.dynamics import DreamState
from worldmodel.model import WorldModel

KINDS = [
    {"order": "block"},
    {"order": "raster"},
    {"order": "block", "refine": 1},
    {"order": "block", "position": "time", "max_steps": 6, "window": 6},
    {"net": "subscale"},
    {"net": "subscale", "learn_start": True, "attention": "relative"},
]


def start(world: WorldModel, rows: int = 2) -> DreamState:
    starts = world.starts
    return world.start_codes(starts.codes[:rows], starts.actions[:rows], starts.signals[:rows, -1], range(rows))


def actions_of(rows: int, steps: int) -> torch.Tensor:
    return torch.randint(3, (rows, steps), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_following_a_dream_gives_all_that_the_dream_gave(kind):
    world = tiny_world(**kind)
    dreamer, follower = start(world), start(world)
    for action in actions_of(2, 9).T:
        dreamer, dreamt = world.step(dreamer, action)
        follower, seen = world.observe(follower, action, dreamt.codes)
        assert torch.equal(seen.codes, dreamt.codes)
        for name in ("reward", "termination_probability", "signals", "outputs"):
            assert torch.equal(getattr(seen, name), getattr(dreamt, name)), name
        for name in ("nll", "entropy"):  # the likelihood of what came is taken another way: it may round to 0
            assert torch.allclose(getattr(seen, name), getattr(dreamt, name), rtol=1e-5), name
        assert torch.equal(world.features(follower), world.features(dreamer))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_signals_that_are_not_finite_are_refused(value):
    world = tiny_world()
    message = r"signals must be finite; give None for the world's usual ones, got \[\[50.0\], \[(nan|inf)\]\]"
    signals = torch.tensor([[50.0], [value]])
    with pytest.raises(ValueError, match=message):
        world.start_codes(world.starts.codes[:2], world.starts.actions[:2], signals)
    frames = torch.zeros(2, 1, 2, 16, 16, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match=message):
        world.start(frames, torch.zeros(2, 0, dtype=torch.int64), signals.numpy())


def test_a_step_does_not_walk_through_the_modules(monkeypatch):
    world = tiny_world()
    state = start(world)

    def walk(self, *args, **kwargs):
        raise AssertionError("named_modules takes half a millisecond in every step")

    monkeypatch.setattr(torch.nn.Module, "named_modules", walk)
    world.step(state, torch.tensor([0, 1]))


def test_an_unlikely_step_surprises_more_than_the_likeliest():
    world = tiny_world()
    action = torch.tensor([1, 2])
    _, likely = world.step(start(world), action, temperature=0)
    nlls = [world.observe(start(world), action, (likely.codes + shift) % 16)[1].nll for shift in range(16)]
    # Codes of a position are drawn one after the other, so the greedy step is the likeliest of few, not of all.
    assert (torch.stack(nlls[1:]).mean(0) > nlls[0] + 1).all()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_first_branch_is_the_dreams_own_future_and_the_others_are_not(kind):
    world = tiny_world(**kind)
    actions = actions_of(2, 7)
    state = start(world)
    branches = world.branch(state, actions[:, None].expand(-1, 3, -1))
    codes = []
    for action in actions.T:  # the state is as it was: it can still be stepped
        state, out = world.step(state, action)
        codes.append(out.codes)
    assert torch.equal(branches.codes[:, 0], torch.stack(codes, dim=1))
    assert torch.allclose(branches.signals[:, 0, -1], state.signals, rtol=1e-4)  # sums of another batch
    assert not torch.equal(branches.codes[:, 0], branches.codes[:, 1])
    assert not torch.equal(branches.codes[:, 1], branches.codes[:, 2])
    assert branches.rewards.shape == branches.terminated.shape == branches.nll.shape == (2, 3, 7)


def test_a_branch_depends_on_its_seed_and_actions_alone():
    world = tiny_world()
    actions = torch.stack([actions_of(2, 5)] * 4, dim=1)
    seeds = torch.tensor([[5, 6, 5, 7], [5, 8, 9, 5]])
    branches = world.branch(start(world), actions, seeds=seeds)
    assert torch.equal(branches.codes[0, 0], branches.codes[0, 2])
    assert torch.equal(branches.codes[1, 0], branches.codes[1, 3])
    alone = world.branch(start(world).select([1]), actions[1:, 1:2], seeds=[[8]])
    assert torch.equal(branches.codes[1, 1], alone.codes[0, 0])


def test_features_are_what_the_heads_read():
    world = tiny_world()
    state, out = world.step(start(world), torch.tensor([0, 1]))
    features = world.features(state)
    width = world.config.dynamics.width
    assert features.shape == (2, 2, 2, width + world.tokenizer.code_dim) and features.dtype == torch.float32
    assert torch.equal(features[..., width:], out.latents())
    assert torch.equal(features[..., :width].flatten(1, 2), out.outputs)


def test_features_know_the_past_that_the_codes_do_not_show():
    world = tiny_world()
    starts = world.starts
    codes = starts.codes[:2].clone()
    codes[1, 1:] = codes[0, 1:]  # the two rows differ in their first step alone
    actions = starts.actions[:1].expand(2, -1)
    latents, outputs = [], []
    state = world.start_codes(codes, actions, seeds=[0, 0])
    width = world.config.dynamics.width
    features = world.features(state)
    latents, outputs = features[..., width:], features[..., :width]
    assert torch.equal(latents[0], latents[1]) and not torch.allclose(outputs[0], outputs[1])


def test_nothing_came_before_a_first_step_so_its_outputs_are_zero():
    world = tiny_world()
    state = world.start_codes(world.starts.codes[:1, :1], torch.zeros(1, 0, dtype=torch.int64))
    assert not state.outputs.any()


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(2, 2, 2, 1, dtype=torch.int64), r"codes must be of shape \(2, 2, 2, 2\)"),
        (torch.zeros(2, 2, 2, 2), "got torch.float32"),
    ],
)
def test_a_step_of_another_kind_cannot_have_come(codes, message):
    with pytest.raises(ValueError, match=message):
        tiny_world().observe(start(tiny_world()), torch.tensor([0, 0]), codes)


@pytest.mark.parametrize("shape", [(2, 3), (2, 0, 3), (2, 3, 0), (3, 1, 4)])
def test_branches_need_actions_for_every_row_future_and_step(shape):
    world = tiny_world()
    with pytest.raises(ValueError, match="actions must be"):
        world.branch(start(world), torch.zeros(shape, dtype=torch.int64))


def test_branches_need_a_seed_each():
    world = tiny_world()
    with pytest.raises(ValueError, match=r"seeds must be \(2, 3\)"):
        world.branch(start(world), torch.zeros(2, 3, 4, dtype=torch.int64), seeds=[[1, 2, 3]])


def test_the_reward_of_a_dream_depends_on_its_running_signals():
    world = tiny_world(heads={"read_signals": True})
    low, high = start(world), start(world)
    low.signals, high.signals = torch.full((2, 1), 5.0), torch.full((2, 1), 100.0)
    (_, poor), (_, rich) = (world.step(state, torch.tensor([1, 2])) for state in (low, high))
    assert torch.equal(poor.codes, rich.codes) and not torch.equal(poor.reward, rich.reward)


def test_the_signals_of_a_dream_stay_in_the_range_of_play():
    world = tiny_world()
    free, bound = start(world, 5), start(world, 5)
    limit = torch.tensor([40.0])
    ranges = {}
    for name, state in (("free", free), ("bound", bound)):
        if name == "bound":
            world.heads.signal_low.copy_(limit)
            world.heads.signal_high.copy_(limit + 1)
        seen = []
        for action in actions_of(5, 6).T:
            state, out = world.step(state, action)
            assert torch.equal(state.signals, out.signals)
            seen.append(out.signals)
        ranges[name] = torch.stack(seen)
    assert not ((ranges["free"] >= 40) & (ranges["free"] <= 41)).all()
    assert ((ranges["bound"] >= 40) & (ranges["bound"] <= 41)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda codes: codes.float(), "must be integers"),
        (lambda codes: codes[..., :1], r"\(h, w, M\) = \(2, 2, 2\)"),
        (lambda codes: codes.clone().fill_(16), r"in \[0, 16\), got 16 to 16"),
        (lambda codes: codes - 99, r"in \[0, 16\)"),
    ],
)
def test_codes_of_another_tokenizer_are_refused(change, message):
    world = tiny_world()
    starts = world.starts
    with pytest.raises(ValueError, match=message):
        world.start_codes(change(starts.codes[:2]), starts.actions[:2])
    with pytest.raises(ValueError, match=r"of shape|must be integers|in \["):
        world.observe(start(world), torch.tensor([0, 0]), change(starts.codes[:2, 0]))


@pytest.mark.parametrize("max_steps", [2, 3])
def test_the_shortest_limited_contexts_dream(max_steps):
    world = tiny_world(position="sine", max_steps=max_steps, window=max_steps, learn_start=True)
    state = world.start_codes(world.starts.codes[:2], world.starts.actions[:2])  # three given steps
    for _ in range(5):
        state, out = world.step(state, torch.tensor([1, 2]))
    assert out.codes.shape == (2, 2, 2, 2)


def ending_world(**config) -> WorldModel:
    world = tiny_world(heads={"ends": "drawn"}, **config)
    world.heads.end_shift.fill_(-1.0)
    return world


def test_ends_are_drawn_as_often_as_their_probability_says():
    world, rows = ending_world(), 4000
    starts = world.starts
    state = world.start_codes(
        starts.codes[:1].expand(rows, *starts.codes.shape[1:]),
        starts.actions[:1].expand(rows, -1),
        starts.signals[:1, -1].expand(rows, -1),
        range(rows),
    )
    _, out = world.step(state, torch.ones(rows, dtype=torch.int64))
    probability = float(out.termination_probability[0])
    assert torch.equal(out.termination_probability, out.termination_probability[:1].expand(rows))  # before any draw
    assert 0.05 < probability < 0.95
    deviation = (probability * (1 - probability) / rows) ** 0.5
    assert float(out.terminated.float().mean()) == pytest.approx(probability, abs=4 * deviation)
    ended = out.terminated
    assert out.codes[ended].unique(dim=0).shape[0] > 1  # the draw of an end is not that of the codes
    assert out.reward[ended].unique().numel() == 1 < out.reward[~ended].unique().numel()


def test_drawn_ends_leave_the_codes_as_they_are():
    drawn, read = ending_world(), tiny_world()
    weights = {name: weight for name, weight in drawn.state_dict().items() if "ahead" not in name}
    read.load_state_dict(weights)
    read.starts = drawn.starts
    one, other = start(drawn), start(read)
    for action in actions_of(2, 5).T:
        one, mine = drawn.step(one, action)
        other, theirs = read.step(other, action)
        assert torch.equal(mine.codes, theirs.codes)


def test_at_temperature_0_an_end_comes_where_its_probability_reaches_the_threshold():
    world = ending_world()
    for threshold in (0.0, 1.0):
        world.heads.threshold.fill_(threshold)
        state = start(world)
        for action in actions_of(2, 5).T:
            state, out = world.step(state, action, temperature=0.0)
            assert torch.equal(out.terminated, torch.full((2,), not threshold))


def test_a_row_of_a_batch_draws_the_ends_that_it_draws_alone():
    world = ending_world()
    together, alone = start(world, 5), [start(world, 5).select([row]) for row in range(5)]
    ends = []
    for action in actions_of(5, 12).T:
        together, out = world.step(together, action)
        ends.append(out.terminated)
        for row in range(5):
            alone[row], own = world.step(alone[row], action[row : row + 1])
            assert torch.equal(own.terminated, out.terminated[row : row + 1])
    assert torch.stack(ends).any() and not torch.stack(ends).all()


def test_futures_without_drawn_ends_earn_what_is_expected():
    """The mean over many futures in which ends are drawn is that of one in which they are weighed."""
    world, rows = ending_world(), 3000
    state = start(world, 1)
    actions = torch.ones(1, rows, 1, dtype=torch.int64)
    drawn = world.branch(state, actions)
    weighed = world.branch(state, actions, draw_ends=False)
    assert not weighed.terminated.any() and drawn.terminated.any()
    assert torch.equal(weighed.codes, drawn.codes)
    assert float(weighed.rewards.mean()) == pytest.approx(
        float(drawn.rewards.mean()), abs=4 * float(drawn.rewards.std()) / rows**0.5
    )
    goes_on = ~drawn.terminated
    assert torch.equal(weighed.signals[goes_on], drawn.signals[goes_on])


def test_a_real_step_goes_on_even_where_its_end_was_likely():
    world = ending_world()
    world.heads.end_shift.fill_(9.0)
    state = start(world)
    before = state.signals.clone()
    heads = world.heads
    state, out = world.observe(state, torch.tensor([1, 2]), state.codes.clone())
    assert out.terminated.all()
    read = heads(world.head_inputs(out.outputs, out.codes), before)
    assert torch.equal(out.signals, heads.signals_after(read, before))
    torch.testing.assert_close(out.reward, heads.reward_mean(read, out.termination_probability))

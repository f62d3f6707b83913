import pytest
import torch

from tests.tiny import tiny_config, tiny_world
from worldmodel.model import CodeBatch, network


def make_batch(seed: int = 0, rows: int = 2, steps: int = 5) -> CodeBatch:
    g = torch.Generator().manual_seed(seed)
    return CodeBatch(
        torch.randint(16, (rows, steps + 1, 2, 2, 2), generator=g),
        torch.randint(3, (rows, steps), generator=g),
        torch.randn(rows, steps, generator=g),
        torch.zeros(rows, steps, dtype=torch.bool),
        torch.rand(rows, steps + 1, 1, generator=g) * 100,
        torch.ones(rows, steps, dtype=torch.bool),
    )


@pytest.mark.parametrize("order", ["block", "raster"])
def test_a_reward_is_predicted_from_the_sampled_step(order):
    world, batch = tiny_world(order=order), make_batch()
    before = world.predict(batch)
    batch.codes[:, 3] = (batch.codes[:, 3] + 1) % 16  # entry 2 predicts step 3
    for a, b in zip(before, world.predict(batch), strict=True):
        assert torch.equal(a[:, :2], b[:, :2])
        assert not torch.isclose(a[:, 2], b[:, 2]).any()


def test_padding_does_not_count():
    world = tiny_world()
    batch = make_batch()
    batch.padding_mask[:, 3:] = False
    base = world.loss(batch)
    batch.codes[:, 4:] = 0
    batch.rewards[:, 3:] = 99.0
    batch.terminated[:, 3:] = True
    batch.signals[:, 4:] = 0
    assert all(torch.equal(a, b) for a, b in zip(base, world.loss(batch), strict=True))


@pytest.mark.parametrize("order", ["block", "raster"])
def test_losses_of_processes_average_to_that_of_the_whole_batch(order, monkeypatch):
    """One process has a batch's whole segments, the other those that end with their episode."""
    world, batch = tiny_world(order=order, context_noise=0.0).train(), make_batch(rows=4)
    batch.padding_mask[2:, 1:] = False
    whole, shares = world.loss(batch), batch.split(2)
    assert not torch.allclose(torch.stack([world.loss(share).codes for share in shares]).mean(), whole.codes, rtol=1e-3)
    counts: list[list[int]] = []  # what each process adds to the totals, in turn
    monkeypatch.setattr(network.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(network.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(network.distributed, "all_reduce", lambda count: counts[-1].append(int(count)))
    for share in shares:
        counts.append([])
        world.loss(share)
    totals = [sum(each) for each in zip(*counts, strict=True)]
    losses = []
    for share in shares:
        left = iter(totals)
        monkeypatch.setattr(network.distributed, "all_reduce", lambda count, left=left: count.fill_(next(left)))
        losses.append(world.loss(share))
    for name, value in whole._asdict().items():
        of_shares = torch.stack([getattr(loss, name) for loss in losses]).mean()
        assert torch.allclose(of_shares, value, rtol=1e-4), name
    world.eval()  # one process evaluates, while the others wait
    monkeypatch.setattr(network.distributed, "all_reduce", None)
    world.loss(batch)


def test_heads_learn_from_the_steps_that_training_predicts_and_not_from_zeros_in_place_of_others():
    world, batch = tiny_world(net="subscale", training_slices=2).train(), make_batch(rows=3)
    lookup = world.tokenizer.lookup

    def seeded(function, *args):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return function(*args)

    outputs = seeded(world.dynamics.code_loss, batch.codes.flatten(2, 3), batch.actions, None, lookup)[1]
    predicted = outputs.flatten(2).any(-1)
    assert (predicted.sum(1) == 2).all()
    base = seeded(world.loss, batch)
    batch.rewards[~predicted], batch.terminated[~predicted] = 99.0, True
    assert all(torch.equal(a, b) for a, b in zip(base, seeded(world.loss, batch), strict=True))
    batch.rewards[predicted] = 99.0
    assert not torch.equal(seeded(world.loss, batch).reward, base.reward)


def test_context_noise_is_for_training_only():
    world = tiny_world(context_noise=0.5)
    torch.manual_seed(0)
    assert torch.equal(world.loss(make_batch()).codes, world.loss(make_batch()).codes)
    world.train()
    assert not torch.equal(world.loss(make_batch()).codes, world.loss(make_batch()).codes)


def test_training_the_dynamics_leaves_the_tokenizer_as_it_is():
    world = tiny_world().train()
    world.requires_grad_(True)
    world.tokenizer.requires_grad_(False)
    before = {name: t.clone() for name, t in world.tokenizer.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in world.parameters() if p.requires_grad], lr=1e-2)
    first = world.loss(make_batch()).total
    for _ in range(5):
        optimizer.zero_grad()
        world.loss(make_batch()).total.backward()
        optimizer.step()
    assert world.loss(make_batch()).total < first
    assert all(torch.equal(before[name], t) for name, t in world.tokenizer.state_dict().items())


def test_products_are_taken_in_floats_that_models_have():
    with pytest.raises(ValueError, match=r"dtype must be 'auto', torch.float32, .* got torch.float64"):
        tiny_world().prepare(torch.float64)


@pytest.mark.parametrize("actions", [3, 6])
def test_actions_are_as_many_as_the_steps_between(actions):
    world = tiny_world()
    vectors = world.tokenizer.lookup(make_batch(steps=5).codes.flatten(2, 3))
    with pytest.raises(ValueError, match=f"5 inputs need as many actions, or one fewer, got {actions}"):
        world.dynamics(vectors, torch.zeros(2, actions, dtype=torch.int64))


def test_the_codes_of_a_step_with_a_drawn_end_do_not_count():
    world, batch = tiny_world(heads={"ends": "drawn"}), make_batch()
    batch.terminated[:, 4] = True
    base = world.loss(batch)
    batch.codes[:, 5] = (batch.codes[:, 5] + 1) % 16
    changed = world.loss(batch)
    for name in ("codes", "reward", "termination", "signals"):  # nor do the heads read them
        assert torch.equal(getattr(changed, name), getattr(base, name)), name
    read = tiny_world()
    assert not torch.isclose(read.loss(batch).codes, read.loss(make_batch()).codes)


def test_the_expected_reward_of_a_real_step_weighs_that_of_an_end_by_its_probability():
    world, batch = tiny_world(heads={"ends": "drawn"}), make_batch()
    rewards, probabilities, _ = world.predict(batch)
    out = world._read_heads(world.dynamics.outputs(*world._steps(batch)), batch)
    mean = world.heads.two_hot.mean
    wanted = (1 - probabilities) * mean(out.reward) + probabilities * mean(out.end_reward)
    torch.testing.assert_close(rewards, wanted)


@pytest.mark.parametrize(
    "dynamics", [{"order": "raster"}, {"refine": 1}, {"attention": "axial"}, {"net": "subscale"}], ids=str
)
def test_ends_cannot_be_drawn_where_a_step_is_predicted_in_parts(dynamics):
    with pytest.raises(ValueError, match="needs dynamics that predict a whole step before they draw any of it"):
        tiny_config(heads={"ends": "drawn"}, **dynamics)

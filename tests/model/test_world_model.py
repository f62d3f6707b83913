import pytest
import torch

from tests.tiny import tiny_world
from worldmodel.model import CodeBatch, WorldModel


def make_frames(rows: int = 2, steps: int = 3) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randint(256, (rows, steps, 2, 16, 16, 3), generator=g, dtype=torch.uint8)


def dream(world: WorldModel, seeds: list[int], steps: int = 8):
    starts = world.starts
    rows = len(seeds)
    first = starts.codes[:1].expand(rows, -1, -1, -1, -1), starts.actions[:1].expand(rows, -1)
    state = world.start_codes(*first, starts.signals[:1, -1].expand(rows, -1), seeds)
    outs = []
    for t in range(steps):
        state, out = world.step(state, torch.full((rows,), t % 3))
        outs.append(out)
    return outs


@pytest.mark.parametrize("order", ["block", "raster"])
def test_a_row_depends_on_its_seed_and_not_on_the_batch(order):
    world = tiny_world(order=order)
    together, alone = dream(world, [3, 4, 5]), dream(world, [4])
    for a, b in zip(together, alone, strict=True):
        assert torch.equal(a.codes[1], b.codes[0])
        assert torch.allclose(a.reward[1], b.reward[0], atol=1e-4)
    assert not torch.equal(together[-1].codes[0], together[-1].codes[1])


def test_same_seed_gives_the_same_dream_bit_for_bit():
    world = tiny_world()
    for a, b in zip(dream(world, [1, 2]), dream(world, [1, 2]), strict=True):
        assert torch.equal(a.codes, b.codes) and torch.equal(a.reward, b.reward) and torch.equal(a.nll, b.nll)


def test_actions_change_the_dream():
    world = tiny_world()
    starts = world.starts
    rows = [world.start_codes(starts.codes[:1], starts.actions[:1], starts.signals[:1, -1], [0]) for _ in range(2)]
    outs = [world.step(state, torch.tensor([action]), temperature=0)[1] for action, state in enumerate(rows)]
    assert not torch.equal(outs[0].reward, outs[1].reward)


def as_play(world, outs):
    """A dream of row 0 after its start, four steps of `dream`, as if it had been recorded; rewards and ends unknown."""
    starts = world.starts
    codes, signals = (
        torch.cat((getattr(starts, name)[:1], torch.stack([getattr(out, name) for out in outs], dim=1)), dim=1)
        for name in ("codes", "signals")
    )
    actions = torch.cat((starts.actions[:1], torch.tensor([[0, 1, 2, 0]])), dim=1)
    no = torch.zeros(actions.shape, dtype=torch.bool)
    return CodeBatch(codes, actions, no.float(), no, signals, ~no)


@pytest.mark.parametrize("heads", [{"read_signals": True}, {"signal_layers": 2}])
def test_signals_accumulate_from_the_start(heads):
    """What a dream counts is what the heads predict for the same steps and actions."""
    world = tiny_world(heads=heads)
    start = world.starts.signals[:1, -1]
    outs = dream(world, [0], steps=4)
    _, _, changes = world.predict(as_play(world, outs))
    expected = start + changes[:, -4:].cumsum(1)
    assert torch.allclose(torch.stack([out.signals for out in outs], dim=1), expected, atol=1e-4)
    assert changes[:, -4:].abs().min() > 1e-3  # each step has its say


def test_step_outputs_have_the_documented_shapes():
    world = tiny_world()
    out = dream(world, [0, 1], steps=1)[0]
    assert out.codes.shape == (2, 2, 2, 2) and out.reward.shape == (2,) and out.signals.shape == (2, 1)
    assert out.terminated.dtype == torch.bool and (out.nll > 0).all() and (out.entropy > 0).all()
    assert out.frames().shape == (2, 2, 16, 16, 3) and out.frames().dtype == torch.uint8
    assert out.frames() is out.frames()  # decoded once
    assert torch.equal(out.latents(), world.tokenizer.lookup(out.codes))


def test_the_threshold_decides_the_end():
    world = tiny_world()
    world.heads.threshold.fill_(0.0)
    assert dream(world, [0], steps=1)[0].terminated.all()
    world.heads.threshold.fill_(1.1)
    assert not dream(world, [0], steps=1)[0].terminated.any()


def test_imagined_steps_equal_single_steps():
    world = tiny_world()
    frames, actions = make_frames(), torch.tensor([[0, 1, 2, 0, 1], [2, 1, 0, 2, 1]])
    rollout = world.imagine(frames, actions[:, 2:], context_actions=actions[:, :2], seeds=[5, 6])
    state = world.start(frames.numpy(), actions[:, :2].numpy(), seeds=[5, 6])
    for t in range(3):
        state, out = world.step(state, actions[:, 2 + t].numpy())
        assert torch.equal(rollout.codes[:, t], out.codes)
        assert torch.equal(rollout.frames[:, t], out.frames())
        assert torch.equal(rollout.rewards[:, t], out.reward)


def test_a_context_without_its_actions_is_refused():
    with pytest.raises(ValueError, match="context_actions"):
        tiny_world().imagine(make_frames(), torch.zeros(2, 3, dtype=torch.int64))


def test_starts_without_steps_and_rollouts_without_actions_are_refused():
    world = tiny_world()
    with pytest.raises(ValueError, match="at least one given step"):
        world.start_codes(torch.zeros(2, 0, 2, 2, 2, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least one action"):
        world.imagine(make_frames(steps=1), torch.zeros(2, 0, dtype=torch.int64))


@pytest.mark.parametrize("order", ["block", "raster"])
def test_dreamt_rewards_are_those_predicted_for_the_same_steps(order):
    world = tiny_world(order=order, heads={"read_signals": True})
    outs = dream(world, [0], steps=4)
    rewards, _, _ = world.predict(as_play(world, outs))
    assert torch.allclose(rewards[:, -4:], torch.stack([out.reward for out in outs], dim=1), atol=1e-4)


def test_bf16_dreams_go_where_float32_dreams_go():
    slow, fast = tiny_world(), tiny_world().prepare(torch.bfloat16)
    a, b = dream(slow, [0], steps=1)[0], dream(fast, [0], steps=1)[0]
    assert torch.allclose(a.reward, b.reward, atol=0.1) and torch.allclose(a.nll, b.nll, atol=1.0)


# What is kept of weights


def surprise(world: WorldModel) -> torch.Tensor:
    starts = world.starts
    state = world.start_codes(starts.codes[:2], starts.actions[:2])
    return world.observe(state, torch.tensor([0, 2]), starts.codes[2:4, 0])[1].nll


@pytest.mark.parametrize("change", ["load", "load in inference mode", "data", "tokenizer"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_change_after_a_dream_are_those_of_the_next(tmp_path, change, dtype):
    first, second = (tiny_world(seed=seed, width=64) for seed in (0, 1))  # wide enough for oneDNN's order
    with torch.inference_mode(change == "load in inference mode"):
        world = WorldModel.from_pretrained(first.save_pretrained(tmp_path / "first"), dtype=dtype)
        second.starts = world.starts
        before = surprise(world)
        if change == "tokenizer":
            second.dynamics.load_state_dict(first.dynamics.state_dict())
            world.tokenizer.load_state_dict(second.tokenizer.state_dict())
        elif change == "data":
            for mine, other in zip(world.parameters(), second.parameters(), strict=True):
                mine.data.copy_(other)
            world.tokenizer.load_state_dict(second.tokenizer.state_dict())
            world.prepare(dtype)
        else:
            world.load_state_dict(second.state_dict())
    assert torch.equal(surprise(world), surprise(second.prepare(dtype))) and not torch.equal(surprise(world), before)


def test_weights_made_in_inference_mode_are_reloaded_too():
    first, second = (tiny_world(seed=seed, width=64) for seed in (0, 1))
    with torch.inference_mode():  # such tensors count no changes
        world = WorldModel(first.config).prepare(torch.float32)
        world.load_state_dict(first.state_dict())
        second.starts = world.starts = first.starts
        surprise(world)
        world.load_state_dict(second.state_dict())
        assert torch.equal(surprise(world), surprise(second))


def test_a_checkpoint_loaded_in_inference_mode_can_be_trained(tmp_path):
    with torch.inference_mode():
        world = WorldModel.from_pretrained(tiny_world().save_pretrained(tmp_path / "world"))
    assert not any(parameter.is_inference() for parameter in world.parameters())


def test_codes_of_any_whole_numbers_are_read():
    world = tiny_world()
    starts, action = world.starts, torch.tensor([0, 2])
    wide = world.start_codes(starts.codes[:2], starts.actions[:2])
    narrow = world.start_codes(starts.codes[:2].short(), starts.actions[:2])
    came = starts.codes[2:4, 0]
    assert torch.equal(world.observe(narrow, action, came.byte())[1].nll, world.observe(wide, action, came)[1].nll)
    for bad, message in ((came > 0, "must be integers .* got torch.bool"), (came + 16, r"codes must be in \[0, 16\)")):
        with pytest.raises(ValueError, match=message):
            world.tokenizer.decode(bad[:, None])

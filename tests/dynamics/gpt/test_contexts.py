"""Letters: B rows, T steps, S tokens per step, M slices."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.dynamics.worlds import make_frames, make_world
from tests.model.test_network import make_batch
from tests.tiny import tiny_config, tiny_world
from worldmodel.data import ActionSpec
from worldmodel.dynamics import GPTConfig
from worldmodel.dynamics.gpt import contexts
from worldmodel.model import CodeBatch, WorldModel

KINDS = [
    {},
    {"order": "raster"},
    {"learn_start": True, "echo": True},
    {"refine": 2},
    {"refine": 1, "learn_start": True},
]


def in_training(world: WorldModel) -> WorldModel:
    world.train().requires_grad_(True).tokenizer.requires_grad_(False)
    return world


def encoded(world: WorldModel, batch: CodeBatch) -> contexts.EncodedSteps:
    return contexts.EncodedSteps(batch.codes.flatten(2, 3), batch.actions, batch.frames, world.tokenizer.lookup)


def given(world: WorldModel, batch: CodeBatch, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return contexts.given_codes(world.dynamics, encoded(world, batch))[0]


@pytest.mark.parametrize("order", ["block", "raster"])
def test_without_these_options_training_is_what_it_was(order):
    """Loss, gradients and random numbers, bit for bit."""
    world, batch = in_training(tiny_world(order=order)), make_batch()
    lead = world.config.dynamics.lead

    def as_it_was() -> torch.Tensor:
        real = batch.codes.flatten(2, 3)
        wrong = torch.rand(real.shape) < 0.03
        codes = torch.where(wrong, torch.randint_like(real, 16), real)
        outputs = world.dynamics(world.tokenizer.lookup(codes), batch.actions, first=True)
        before = F.pad(codes[:, :-1], (0, 0, 0, 0, lead, 0), value=-1)
        return world.dynamics.code_head.loss(outputs, real[:, 1 - lead :], before).mean(-1).mean()

    found = []
    for loss in (as_it_was, lambda: world.loss(batch).codes):
        torch.manual_seed(0)
        world.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        found.append([value, torch.rand(1), *(p.grad for p in world.dynamics.parameters())])
    for then, now in zip(*found, strict=True):
        assert then is now is None or torch.equal(then, now)


def test_outside_of_training_all_that_is_given_is_real():
    world, batch = tiny_world(own_draws=1.0, token_noise=0.9), make_batch()
    assert torch.equal(given(world, batch), batch.codes.flatten(2, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_about_the_requested_share_of_whole_steps_is_drawn_by_the_model(kind):
    world = in_training(tiny_world(own_draws=0.3, context_noise=0.0, **kind))
    batch = make_batch(rows=64, steps=20)
    replaced = (given(world, batch) != batch.codes.flatten(2, 3)).any((2, 3))  # 8 codes of 16: equal ones are rare
    lead = world.config.dynamics.lead
    assert replaced[:, 1 - lead :].float().mean() == pytest.approx(0.3, abs=0.04)
    assert lead or not replaced[:, 0].any()
    assert not torch.equal(given(world, batch, seed=1), given(world, batch))
    assert torch.equal(given(world, batch), given(world, batch))


@pytest.mark.parametrize(("passes", "refine"), [(1, 0), (3, 0), (5, 0), (1, 2)])
def test_as_many_steps_as_passes_are_a_dream(passes, refine):
    """Given the first step, and drawn with the same noise step after step."""
    kind = {"own_draws": 1.0, "context_noise": 0.0, "refine": refine}
    world, batch = in_training(tiny_world(own_draws_passes=passes, **kind)), make_batch()
    gpt, lookup = world.dynamics, world.tokenizer.lookup
    found = given(world, batch)
    torch.manual_seed(0)
    noise, codes = torch.rand(2, 5, gpt.noise_per_step), batch.codes[:, :1].flatten(2, 3)
    world.prepare(torch.float32)
    with torch.inference_mode():
        cache, _ = gpt.burn_in(codes, gpt.condition(2, 0, batch.actions[:, :0]), lookup)
        for step in range(5):
            condition = gpt.condition(2, 1, batch.actions[:, step : step + 1])
            drawn, _ = gpt.step(codes[:, -1], condition, cache, noise[:, step], lookup)
            codes = torch.cat((codes, drawn.codes[:, None]), dim=1)
    assert torch.equal(found[:, : passes + 1], codes[:, : passes + 1])
    assert passes == 5 or not torch.equal(found, codes)


def test_token_noise_puts_whole_tokens_of_the_batch_in_place_of_others():
    world = in_training(tiny_world(token_noise=0.25, context_noise=0.0))
    batch = make_batch(rows=32, steps=20)
    batch.codes[..., 1] = (batch.codes[..., 0] * 5 + 3) % 16  # the slices of a real token determine each other
    real, noisy = batch.codes.flatten(2, 3), given(world, batch)
    assert torch.equal(noisy[..., 1], (noisy[..., 0] * 5 + 3) % 16)
    moved = (noisy != real).any(-1)
    assert moved.float().mean() == pytest.approx(0.25 * 15 / 16, abs=0.02)
    assert moved.float().mean(0).min() > 0.0


@pytest.mark.parametrize(("order", "together"), [("block", 4), ("raster", 1)])
def test_token_noise_leaks_no_later_token(order, together):
    """Nor in block order of one of a later step."""
    world = in_training(tiny_world(order=order, token_noise=0.9, context_noise=0.0))
    batch = make_batch(rows=64, steps=3)
    places = torch.arange(16).view(1, 4, 2, 2, 1).expand(64, -1, -1, -1, 2)
    source = given(world, replace(batch, codes=places)).flatten(1, 2)[..., 0] // together  # (B, 16)
    assert (source <= torch.arange(16) // together).all()
    assert (source.amax(0) == torch.arange(16) // together).all()
    assert (source.amin(0) == 0).sum() > 12


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_does_not_know_what_comes_after_its_step(kind):
    options = {"own_draws": 0.5, "own_draws_passes": 2, "token_noise": 0.3, "context_noise": 0.2}
    world, batch = in_training(tiny_world(**options, **kind)), make_batch(rows=3, steps=6)

    def losses(steps: int, changed: int | None) -> list[torch.Tensor]:
        """Of the first steps alone, with other codes in a step."""
        codes, mask = batch.codes.clone(), batch.padding_mask.clone()
        mask[:, steps:] = False
        if changed is not None:
            codes[:, changed] = (codes[:, changed] + 1) % 16
        torch.manual_seed(0)
        return [part.detach() for part in world.loss(replace(batch, codes=codes, padding_mask=mask))]

    for steps in range(1, 6):
        plain = losses(steps, None)
        for changed in range(steps + 1, 7):
            assert all(torch.equal(a, b) for a, b in zip(plain, losses(steps, changed), strict=True))
        assert not torch.equal(plain[1], losses(steps, steps)[1])
        if steps > 1:  # the given steps before it count
            assert not torch.equal(plain[1], losses(steps, steps - 1)[1])


@pytest.mark.parametrize("kind", KINDS[:3])
def test_codes_and_heads_learn_the_real_step_from_a_drawn_past(kind, monkeypatch):
    world, batch = in_training(tiny_world(own_draws=1.0, context_noise=0.0, **kind)), make_batch()
    lead, real = world.config.dynamics.lead, batch.codes.flatten(2, 3)
    past = real.clone()
    past[:, 1 - lead :] = 7
    sevens = lambda dynamics, given, noise: torch.full_like(given.codes[:, 1 - lead :], 7)  # noqa: E731
    monkeypatch.setattr(contexts, "_draw", sevens)
    found = world.loss(batch)
    outputs = world.dynamics(world.tokenizer.lookup(past), batch.actions, first=True)
    before = F.pad(past[:, :-1], (0, 0, 0, 0, lead, 0), value=-1)
    codes = world.dynamics.code_head.loss(outputs, real[:, 1 - lead :], before)
    tokens = world.head_inputs(outputs[:, lead:], batch.codes[:, 1:])
    out = world.heads(tokens, batch.signals[:, :-1], None)
    heads = world.heads.loss(out, batch.rewards, batch.terminated, batch.signals.diff(dim=1))
    for loss, expected in zip(found[1:], (codes, *heads), strict=True):
        assert torch.allclose(loss, expected.mean())


def test_the_known_tokens_of_a_step_are_real_ones(monkeypatch):
    """Codes given to `refine` are hidden together with the rest of their step."""
    world, batch = in_training(tiny_world(own_draws=1.0, context_noise=0.0, refine=1)), make_batch()
    given, hinted = contexts.given_codes(world.dynamics, encoded(world, batch))
    assert torch.equal(hinted, batch.codes.flatten(2, 3)[:, 1:]) and not torch.equal(given[:, 1:], hinted)
    read = []
    world.dynamics.hints.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    world.loss(batch)
    assert torch.equal(read[-1], world.tokenizer.lookup(hinted))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("order", ["block", "raster"])
def test_every_weight_learns_also_where_products_are_cast(order, dtype):
    worlds = [in_training(tiny_world(order=order, context_noise=0.0, own_draws=share)) for share in (0.0, 1.0)]
    learn = []
    for world in worlds:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            total = world.loss(make_batch()).total
        total.backward()
        learn.append({name for name, p in world.named_parameters() if p.grad is not None and p.grad.any()})
    assert learn[0] == learn[1] and len(learn[0]) > 40
    assert all(module.training for module in worlds[1].dynamics.modules())


@pytest.mark.parametrize("order", ["block", "raster"])
@pytest.mark.parametrize("condition", ["frames-and-step", "clip"])
def test_given_frames_and_hidden_conditions_go_with_own_draws(order, condition):
    world = in_training(make_world(order, condition=condition, own_draws=0.5, own_draws_passes=2, dropout=0.1))
    batch = make_batch()
    batch.frames = make_frames(2)
    assert (given(world, batch) != batch.codes.flatten(2, 3)).any()
    torch.manual_seed(0)
    first, again = (world.loss(batch).total, world.loss(batch).total)
    torch.manual_seed(0)
    assert first.isfinite() and torch.equal(first, world.loss(batch).total) and not torch.equal(first, again)


@pytest.mark.parametrize("order", ["block", "raster"])
def test_actions_that_are_numbers_lead_to_own_draws(order):
    action = ActionSpec(kind="box", n=2, low=(-1.0, -1.0), high=(1.0, 1.0))
    config = replace(tiny_config(order=order, own_draws=1.0, context_noise=0.0), action=action)
    torch.manual_seed(0)
    world, batch = WorldModel(config), make_batch(rows=16)
    for parameter in world.dynamics.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    drawn = []
    for sign in (-1.0, 1.0):
        batch.actions = torch.full((16, 5, 2), sign)
        drawn.append(given(in_training(world), batch))
    assert not torch.equal(*drawn)


@pytest.mark.parametrize("bad", [{"own_draws": 1.1}, {"own_draws_passes": 0}, {"token_noise": 1.0}])
def test_impossible_shares_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        GPTConfig(**bad)


def test_passes_of_nothing_are_refused():
    with pytest.raises(ValueError, match="own_draws_passes 2 needs own_draws above 0"):
        GPTConfig(own_draws_passes=2)

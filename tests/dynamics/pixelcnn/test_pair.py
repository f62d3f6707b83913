"""Letters: B batch, n videos, T steps of a clip, h w grid of tokens, S = h*w tokens, M = 9 codes of a token."""

import math

import pytest
import torch

from tests.dynamics.pixelcnn.pairs import ACTION, SMALL, draw_naively, make_codes, make_pair
from worldmodel.dynamics.base import VideoRequest
from worldmodel.dynamics.pixelcnn.config import PixelCNNConfig
from worldmodel.dynamics.pixelcnn.layout import HALVES, Levels, join, split
from worldmodel.dynamics.pixelcnn.pair import PixelCNNPair
from worldmodel.dynamics.sampling import Sampling, uniforms

T, GRID = 4, (2, 2)
LOOKUP = None  # the priors do not read the tokenizer's vectors


def make_clip(rows: int = 3, steps: int = T) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (B, T, S, 9) and actions (B, T-1)."""
    return make_codes((rows, steps, 4, 9)), make_codes((rows, steps - 1), 3, seed=1)


def nats_of(pair: PixelCNNPair, codes: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    return pair.code_loss(codes, actions, None, LOOKUP)[0]


@torch.inference_mode()
def test_the_loss_is_the_mean_over_the_nine_codes_of_a_token():
    pair = make_pair()
    codes, actions = make_clip()
    nats, outputs = pair.code_loss(codes, actions, None, LOOKUP)
    assert nats.shape == (3, 3) and outputs.shape == (3, 3, 4, 12)
    assert torch.equal(pair.outputs(codes, actions, None, LOOKUP), outputs)
    top, bottom = split(codes.unflatten(2, GRID))
    action_vectors = pair.condition(3, 3, actions).steps
    of_top, _ = pair.top.prior.nats(top[:, 1:], pair.top.condition(Levels(top[:, :1], bottom[:, :2]), action_vectors))
    raised, total = pair.bottom.around.top.raised(top), of_top.sum((2, 3))
    for half in range(2, 8):
        now = torch.full((3,), half)
        condition = pair.bottom.condition(raised, bottom, now, action_vectors[:, half // 2 - 1])
        total[:, half // 2 - 1] += pair.bottom.prior.nats(bottom[:, half : half + 1], condition)[0].sum((1, 2, 3))
    assert torch.allclose(nats, total / 36, atol=1e-5)


def test_an_untrained_pair_gives_all_codes_equal_chances():
    torch.manual_seed(0)
    pair = PixelCNNPair(PixelCNNConfig(**SMALL), GRID, 4, 9, 36, ACTION)
    pair.requires_grad_(False)
    for mode in (True, False):
        assert float(nats_of(pair.train(mode), *make_clip()).mean()) == pytest.approx(math.log(4), rel=1e-5)


@torch.no_grad()
def test_random_half_steps_stand_for_all():
    codes, actions = make_clip(rows=1)
    whole = nats_of(make_pair(), codes, actions)
    torch.manual_seed(0)
    for count in (1, 4):
        pair = make_pair(bottom_slices=count).train()
        many = nats_of(pair, codes.repeat(300, 1, 1, 1), actions.repeat(300, 1))
        error = many.std(0) / 300**0.5
        assert ((many.mean(0) - whole[0]).abs() < 4 * error).all() and error.max() < 0.1 * whole.min()
    assert torch.allclose(nats_of(make_pair(bottom_slices=99).train(), codes, actions), whole, atol=1e-5)


@pytest.mark.parametrize("attention", [0, 1])
@pytest.mark.parametrize("past", ["full", "raster"])
@pytest.mark.parametrize("window", [2, 4])
@torch.inference_mode()
def test_no_code_moves_the_chances_of_what_is_drawn_before_it(past, attention, window):
    """The top of all steps is drawn first, then half-step after half-step."""
    pair = make_pair(past=past, attention_every=attention, bottom_window=window)
    codes, actions = make_clip(rows=1)
    top, bottom = split(codes.unflatten(2, GRID))

    def chances(top, bottom) -> tuple[torch.Tensor, list[torch.Tensor]]:
        action_vectors = pair.condition(len(top), 3, actions.repeat(len(top), 1)).steps
        of_top = pair.top.prior(top[:, 1:], pair._top_condition(Levels(top, bottom), action_vectors)).flatten(1, 3)
        raised, of_bottom = pair.bottom.around.top.raised(top), []
        for half in range(2, 8):
            now = torch.full((len(top),), half)
            condition = pair.bottom.condition(raised, bottom, now, action_vectors[:, half // 2 - 1])
            of_bottom.append(pair.bottom.prior(bottom[:, half : half + 1], condition).flatten(1, 3))
        return of_top, of_bottom

    size = 6 * 16  # the bottom codes of the predicted half-steps
    versions = bottom.repeat(size + 1, 1, 1, 1).flatten(1)
    versions[range(size), range(32, 32 + size)] += 1
    of_top, of_bottom = chances(top.repeat(size + 1, 1, 1, 1), (versions % 4).view(-1, 8, 4, 4))
    assert not (of_top[:-1] != of_top[-1]).any()  # the top is drawn without the bottom of the predicted steps
    moves = (torch.cat([(part[:-1] != part[-1]).any(-1) for part in of_bottom], dim=1)).view(6, 16, 6, 16)
    for half in range(6):
        for now in range(6):
            if half == now:
                assert not moves[half, :, now].tril().any() and moves[half, :, now].any()
            else:
                assert moves[half, :, now].any() == (now - window <= half < now)


@torch.inference_mode()
def draw_all(pair: PixelCNNPair, given: torch.Tensor, actions: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
    """A clip from codes (n, 1, h, w, 9), with a pass of a whole network for every code."""
    rows, action_vectors = len(given), pair.condition(len(given), T - 1, actions).steps
    noises = [uniforms(seeds, torch.full_like(seeds, t), 36) for t in range(T - 1)]
    noise = split(torch.stack(noises, dim=1).unflatten(2, (*GRID, 9)))
    levels = split(given)
    condition = pair.top.condition(levels, action_vectors)
    drawn = draw_naively(pair.top.prior, condition, noise.top.flatten(2), Sampling())
    top, bottom = torch.cat((levels.top, drawn), dim=1), levels.bottom
    raised = pair.bottom.around.top.raised(top)
    for half in range(HALVES, HALVES * T):
        now = torch.full((rows,), half)
        condition = pair.bottom.condition(raised, bottom, now, action_vectors[:, half // HALVES - 1])
        part = noise.bottom[:, half - HALVES : half - HALVES + 1].flatten(2)
        bottom = torch.cat((bottom, draw_naively(pair.bottom.prior, condition, part, Sampling())), dim=1)
    return join(Levels(top, bottom))


def generate(pair: PixelCNNPair, given: torch.Tensor, actions, seeds: torch.Tensor, **options) -> torch.Tensor:
    return pair.generate(None, given, VideoRequest(T, seeds, actions=actions, options=Sampling(**options)))


@pytest.mark.parametrize("changes", [{}, {"past": "raster", "bottom_window": 2, "attention_every": 0}], ids=str)
def test_a_clip_has_the_codes_of_whole_passes_and_a_row_those_of_the_row_alone(changes):
    pair = make_pair(**changes)
    given, (_, actions), seeds = make_codes((2, 1, *GRID, 9)), make_clip(rows=2), torch.tensor([5, 6])
    clip = generate(pair, given, actions, seeds)
    assert clip.shape == (2, T, *GRID, 9) and torch.equal(clip[:, :1], given)
    assert torch.equal(clip, draw_all(pair, given, actions, seeds))
    for row in range(2):
        one = slice(row, row + 1)
        assert torch.equal(generate(pair, given[one], actions[one], seeds[one]), clip[one])


def test_given_step_actions_and_seed_change_the_clips():
    pair = make_pair(num_codes=64)
    given, (_, actions), seeds = make_codes((6, 1, *GRID, 9), 64), make_clip(rows=6), torch.arange(6)
    clips = [
        generate(pair, given, actions, seeds),
        generate(pair, (given + 1) % 64, actions, seeds),
        generate(pair, given, (actions + 1) % 3, seeds),
        generate(pair, given, actions, seeds + 6),
    ]
    assert len({tuple(clip[:, 1:].flatten().tolist()) for clip in clips}) == 4


def test_guidance_and_hidden_actions_work_where_actions_may_be_missing():
    pair = make_pair(drop_actions=0.5, num_codes=32)
    given, (_, actions), seeds = make_codes((1, 1, *GRID, 9), 32), make_clip(rows=1), torch.tensor([5])
    plain, free = generate(pair, given, actions, seeds), generate(pair, given, None, seeds)
    assert torch.equal(generate(pair, given, actions, seeds, guidance=0.0), free)
    assert not torch.equal(plain, free)
    assert not torch.equal(generate(pair, given, actions, seeds, guidance=5.0), plain)
    hidden = make_pair(drop_actions=0.999999, bottom_slices=6).train()
    codes, actions = make_clip()
    with torch.no_grad():
        assert torch.equal(nats_of(hidden, codes, actions), nats_of(hidden, codes, (actions + 1) % 3))


def test_without_action_condition_actions_are_not_read_and_refused_in_sampling():
    pair = make_pair(action_condition="none")
    codes, actions = make_clip()
    assert torch.equal(nats_of(pair, codes, actions), nats_of(pair, codes, (actions + 1) % 3))
    with pytest.raises(ValueError, match="ignores actions"):
        generate(pair, make_codes((3, 1, *GRID, 9)), actions, torch.arange(3))


@pytest.mark.slow
def test_the_pair_learns_to_follow_the_given_step_and_the_actions():
    """The next step's codes are all the given step's first code plus the action."""
    torch.manual_seed(0)
    config = PixelCNNConfig(layers=1, width=16, heads=2, condition_layers=0, condition_width=8, max_steps=2)
    pair = PixelCNNPair(config, (1, 1), 6, 9, 72, ACTION)
    optimizer = torch.optim.Adam(pair.parameters(), lr=1e-2)

    def batch(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        first, actions = torch.randint(4, (rows, 1)), torch.randint(3, (rows, 1))
        return torch.cat((first, first + actions), dim=1)[:, :, None, None].expand(-1, -1, 1, 9), actions

    for _ in range(300):
        optimizer.zero_grad()
        nats_of(pair, *batch(32)).mean().backward()
        optimizer.step()
    pair.eval().requires_grad_(False)
    codes, actions = batch(32)
    made = pair.generate(None, codes[:, :1].unflatten(2, (1, 1)), VideoRequest(2, torch.arange(32), actions=actions))
    assert (made[:, 1, 0] == codes[:, 1]).float().mean() > 0.95


def test_only_kernels_and_matrices_between_hidden_layers_are_hidden():
    hidden = {id(p) for p in make_pair().hidden_matrices()}
    names = [name for name, p in make_pair(seed=1).named_parameters()]
    pair = make_pair(seed=1)
    chosen = [name for name, p in pair.named_parameters() if any(p is q for q in pair.hidden_matrices())]
    assert hidden and all(("layers" in name or "attention" in name or "blocks" in name) for name in chosen)
    assert not any("codes" in name or "head" in name or name.endswith("bias") for name in chosen)
    assert len(chosen) < len(names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bottom_window": 0}, "bottom_window must be at least 1, got 0"),
        ({"kernel": 4}, "kernel must be odd"),
        ({"width": 13}, "width must be even"),
        ({"max_steps": 1}, "max_steps must be at least 2"),
        ({"past": "all"}, "past"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        PixelCNNConfig(**changes)


def test_a_tokenizer_of_one_level_is_refused():
    with pytest.raises(ValueError, match="9 codes, got 2"):
        PixelCNNPair(PixelCNNConfig(), GRID, 4, 2, 8, ACTION)


def test_clips_of_another_length_are_refused():
    pair, seeds = make_pair(), torch.arange(3)
    codes, actions = make_clip(steps=5)
    with pytest.raises(ValueError, match="from 2 to max_steps = 4 steps, got 5"):
        nats_of(pair, codes, actions)
    grids = codes.unflatten(2, GRID)
    with pytest.raises(ValueError, match="from 2 to max_steps = 4 steps, got steps 5"):
        pair.generate(None, grids[:, :1], VideoRequest(5, seeds, actions=actions))
    with pytest.raises(ValueError, match="one given step, coded alone; got 2"):
        pair.generate(None, grids[:, :2], VideoRequest(4, seeds, actions=actions[:, :3]))


def test_it_does_not_draw_single_steps_and_says_why():
    pair = make_pair()
    with pytest.raises(ValueError, match="before its clip is complete"):
        pair.burn_in(make_clip()[0], pair.condition(3, 3), LOOKUP)

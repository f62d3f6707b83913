"""Letters: B batch, T steps, S tokens per step, M slices."""

import math

import pytest
import torch

from tests.dynamics.test_every_kind import B, make_sequence
from tests.dynamics.worlds import make_frames, make_world, train_on
from worldmodel.dynamics import GPTConfig
from worldmodel.dynamics.checkerboard import Checkerboard
from worldmodel.dynamics.code_head import CodeHead
from worldmodel.dynamics.sampling import Sampling, draw, uniforms

GRID, M, V = (3, 4), 2, 5
S = GRID[0] * GRID[1]


def make_head(seed=0):
    """A head whose halves depend on each other, with outputs (B, S, D), codes (B, S, M) and noise."""
    torch.manual_seed(seed)
    head = CodeHead(8, 6, M, V, checkerboard=GRID)
    for weight in (head.checkerboard.tables.weight, *head.to_logits.parameters()):
        torch.nn.init.normal_(weight)
    return head.requires_grad_(False), torch.randn(2, S, 8), torch.randint(V, (2, S, M)), torch.rand(2, S, M)


def test_the_two_halves_are_the_colours_of_a_checkerboard():
    board = Checkerboard(GRID, M, V, 6)
    assert board.black.tolist() == [0, 2, 5, 7, 8, 10] and board.white.tolist() == [1, 3, 4, 6, 9, 11]
    assert board.around.tolist()[0] == [S, 5, 0, 2] and board.around.tolist()[3] == [2, 10, 5, 7]


def test_white_tokens_read_the_codes_around_them_and_no_others():
    head, _, codes, _ = make_head()
    hints = head.checkerboard(codes)
    for token in range(S):
        changed = codes.clone()
        changed[:, token] = (changed[:, token] + 1) % V
        moved = (head.checkerboard(changed) - hints).abs().amax((0, 2)) > 0
        assert moved.tolist() == (head.checkerboard.around == token).any(-1).tolist(), token
        assert not moved.any() or token in head.checkerboard.black


def test_the_loss_of_a_black_token_reads_no_code_of_its_step_but_its_own():
    head, outputs, codes, _ = make_head()
    loss, board = head.loss(outputs, codes), head.checkerboard
    for token in range(S):
        changed = codes.clone()
        changed[:, token] = (changed[:, token] + 1) % V
        moved = (head.loss(outputs, changed) - loss).abs().amax(0) > 0
        reads = board.white[(board.around == token).any(-1)].tolist()
        assert moved.nonzero().flatten().tolist() == sorted([token, *reads])


@pytest.mark.parametrize("options", [Sampling(), Sampling(temperature=0.5, top_k=3)])
def test_white_tokens_are_drawn_given_the_drawn_black_ones(options):
    head, outputs, _, noise = make_head()
    board, plain = head.checkerboard, CodeHead(8, 6, M, V)
    plain.load_state_dict(head.state_dict(), strict=False)
    codes = head.sample(outputs, noise, options).codes
    alone = plain.sample(outputs, noise, options).codes
    assert torch.equal(codes[:, board.black], alone[:, board.black])
    hints, expected = board(codes), torch.zeros(2, S // 2, M, dtype=torch.int64)
    for m in range(M):
        logits = head.logits(outputs[:, board.white], expected, m, hints=hints)
        expected[..., m] = draw(logits, noise[:, board.white, m], options.temperature, options.top_k).codes
    assert torch.equal(codes[:, board.white], expected)
    assert not torch.equal(codes[:, board.white], alone[:, board.white])


def test_scored_codes_have_the_nats_of_the_loss():
    head, outputs, codes, noise = make_head()
    scored = head.sample(outputs, noise, Sampling(), given=codes)
    assert torch.equal(scored.codes, codes)
    torch.testing.assert_close(scored.nll, head.loss(outputs, codes) * M)


def test_a_new_checkerboard_changes_no_draw():
    torch.manual_seed(0)
    head, outputs, noise = CodeHead(8, 6, M, V, checkerboard=GRID), torch.randn(2, S, 8), torch.rand(2, S, M)
    for weight in head.to_logits.parameters():
        torch.nn.init.normal_(weight)
    plain = CodeHead(8, 6, M, V)
    plain.load_state_dict(head.state_dict(), strict=False)
    got, wanted = (each.sample(outputs, noise, Sampling()) for each in (head, plain))
    assert torch.equal(got.codes, wanted.codes)
    torch.testing.assert_close((got.nll, got.entropy), (wanted.nll, wanted.entropy))


def test_the_probabilities_of_all_steps_add_up_to_one():
    torch.manual_seed(0)
    head = CodeHead(8, 6, 1, 2, checkerboard=(2, 2)).requires_grad_(False)
    for weight in (head.checkerboard.tables.weight, *head.to_logits.parameters()):
        torch.nn.init.normal_(weight)
    steps = torch.cartesian_prod(*[torch.arange(2)] * 4)[..., None]  # (16, 4, 1)
    nats = head.loss(torch.randn(4, 8).expand(16, -1, -1), steps).sum(-1)
    assert nats.neg().exp().sum().item() == pytest.approx(1.0, abs=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("position", ["rotary-time", "learned"])
def test_videos_equal_the_uncached_model(position):
    world = make_world("block", position, "frames-and-step", checkerboard=True)
    torch.nn.init.normal_(world.dynamics.code_head.checkerboard.tables.weight)
    gpt, lookup = world.dynamics, world.tokenizer.lookup
    frames, actions = make_frames(B), make_sequence()[1][:, :8]
    video = world.sample(B, 9, frames, actions).codes.flatten(2, 3)
    codes = video[:, :2]
    for step in range(2, 9):
        noise = uniforms(torch.arange(B), torch.full((B,), step - 2), gpt.noise_per_step).unflatten(1, (4, 2))
        given = torch.cat((codes, torch.zeros(B, 1, 4, 2, dtype=torch.int64)), dim=1)
        out = gpt(lookup(given), actions[:, :step], frames, first=True)[:, -1]
        codes = torch.cat((codes, gpt.code_head.sample(out, noise, Sampling()).codes[:, None]), dim=1)
    assert torch.equal(video, codes)
    world.sample(B, 4, actions=actions[:, :3], guidance=2.0)


def test_neighbours_that_move_together_are_drawn_together():
    """The white tokens of a 2 x 2 grid repeat the first; without a checkerboard they agree by chance alone."""

    def repeating():
        black = torch.randint(3, 5, (32, 3, 2, 1))
        return black[:, :, [0, 0, 0, 1]].unflatten(2, (2, 2)).expand(-1, -1, -1, -1, 2)

    shares, losses = [], []
    for checkerboard in (False, True):
        world = make_world("block", layers=1, checkerboard=checkerboard, condition="none").train().requires_grad_(True)
        losses.append(train_on(world, repeating))
        codes = world.sample(64, 3).codes.flatten(2, 3)[:, 1:]
        shares.append((codes[:, :, 1:3] == codes[:, :, :1]).float().mean())
    assert shares[0] < 0.7 and shares[1] > 0.95
    assert losses[0] == pytest.approx(math.log(2) / 2, rel=0.1)  # the second slice is conditioned on the first
    assert losses[1] == pytest.approx(losses[0] / 2, rel=0.15)


@pytest.mark.parametrize("bad", [{"order": "raster"}, {"refine": 1}, {"code_head_width": 0}])
def test_a_checkerboard_is_refused_where_steps_are_not_drawn_at_once(bad):
    with pytest.raises(ValueError, match="checkerboard needs order 'block'"):
        GPTConfig(checkerboard=True, **bad)

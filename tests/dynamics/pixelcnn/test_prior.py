"""What each prior sees, exactly, and that its probabilities sum to one.

Letters: B batch, t slices, h w rows and columns, L = t*h*w positions.
"""

from itertools import product

import pytest
import torch

from tests.dynamics.pixelcnn.pairs import condition_of, influence, make_codes, make_prior
from worldmodel.dynamics.pixelcnn.prior import Prior

KINDS = [("top", 2, past) for past in ("full", "raster")] + [("bottom", 1, "full")]

# Slice by slice: "o" is predicted, "#" is seen, with a kernel of 3 and two layers. After its first layer the top's
# vertical stack is one column wide, so that what lies further up and to the right is seen by attention alone. The
# features of a position hold codes before it: attention misses the code at the end of the row above, and the last one
# of the slice before.
DRAWN = {
    ("top", "full", False): """
..#####  ..####.
..#####  ..####.
.#####.  .###o..
..####.  .......
.......  .......""",
    ("top", "full", True): """
#######  #######
#######  ######.
#######  ####o..
#######  .......
######.  .......""",
    ("top", "raster", False): """
..####.  ..####.
..####.  ..####.
.####..  .###o..
.......  .......
.......  .......""",
    ("top", "raster", True): """
#######  #######
#######  ######.
#####..  ####o..
.......  .......
.......  .......""",
    ("bottom", "full", False): """
.######
.######
.###o..
.......
.......""",
    ("bottom", "full", True): """
#######
#######
####o..
.......
.......""",
}


def seen(prior: Prior, slices: int, at: tuple[int, int, int]) -> str:
    """A drawing of the codes that change the output at one position."""
    rows, columns = prior.grid
    moves = influence(prior, slices)[:, (at[0] * rows + at[1]) * columns + at[2]].view(slices, rows, columns)

    def sign(t: int, y: int, x: int) -> str:
        return "o" if (t, y, x) == at else "#" if moves[t, y, x] else "."

    lines = ["  ".join("".join(sign(t, y, x) for x in range(columns)) for t in range(slices)) for y in range(rows)]
    return "\n" + "\n".join(lines)


@pytest.mark.parametrize(("level", "past", "attention"), DRAWN)
def test_a_prior_sees_what_is_drawn(level, past, attention):
    slices = 2 if level == "top" else 1
    prior = make_prior(level, slices, (5, 7), past=past, attention_every=2 if attention else 0)
    assert seen(prior, slices, (slices - 1, 2, 4)) == DRAWN[level, past, attention]


def allowed(slices: int, positions: int, past: str) -> torch.Tensor:
    """(L, L): whether the code at the first position may change the output at the second."""
    time, place = torch.arange(slices).repeat_interleave(positions), torch.arange(positions).repeat(slices)
    earlier, before = time[:, None] < time[None, :], place[:, None] < place[None, :]
    same = place[:, None] == place[None, :]
    if past == "full":
        return earlier | ((time[:, None] == time[None, :]) & before)
    return (earlier & (before | same)) | ((time[:, None] == time[None, :]) & before)


@pytest.mark.parametrize("attention", [0, 1])
@pytest.mark.parametrize(("level", "slices", "past"), KINDS)
def test_no_code_moves_the_outputs_up_to_its_own(level, slices, past, attention):
    slices = 3 if level == "top" else 1
    prior = make_prior(level, slices, (4, 5), past=past, attention_every=attention, layers=3)
    moves, may = influence(prior, slices), allowed(slices, 20, past)
    assert not (moves & ~may).any()
    left = may & (torch.arange(len(may))[:, None] == torch.arange(len(may))[None, :] - 1)
    same_row = torch.arange(len(may)) % 5 > 0
    assert moves[left & same_row[None, :]].all()  # the code to the left is always seen


class _FedToBoth(Prior):
    """Attention joins the vertical stack, too."""

    def _attend(self, attention, v, h):
        added = attention(h)
        return v + added, h + added


@pytest.mark.parametrize(("level", "slices", "past"), KINDS)
def test_attention_in_the_vertical_stack_would_leak_where_that_sees_other_columns(level, slices, past):
    """The vertical stack of the top is one column wide: there it would not leak."""
    prior = make_prior(level, slices, (4, 5), past=past)
    prior.__class__ = _FedToBoth
    leaks = influence(prior, slices) & ~allowed(slices, 20, past)
    assert leaks.any() == (level == "bottom")


@pytest.mark.parametrize("past", ["full", "raster"])
@pytest.mark.parametrize("attention", [0, 1])
@torch.inference_mode()
def test_probabilities_of_all_tops_sum_to_one(past, attention):
    prior = make_prior("top", 2, (2, 2), num_codes=2, past=past, attention_every=attention)
    every = torch.tensor(list(product((0, 1), repeat=8))).view(256, 2, 2, 2)
    nats, _ = prior.nats(every, condition_of(prior, 256, 2))
    likelihoods = (-nats.double().sum((1, 2, 3))).exp()
    assert likelihoods.sum() == pytest.approx(1.0, abs=1e-4)
    assert likelihoods.std() > 1e-4  # they differ


@torch.inference_mode()
def test_probabilities_of_all_bottom_half_steps_sum_to_one():
    prior = make_prior("bottom", 1, (4, 4), num_codes=2, width=6, heads=1, layers=1)
    bits = torch.arange(2**16)[:, None] >> torch.arange(16) & 1
    total = 0.0
    for part in bits.view(16, -1, 1, 4, 4):
        nats, _ = prior.nats(part, condition_of(prior, len(part), 1))
        total += float((-nats.double().sum((1, 2, 3))).exp().sum())
    assert total == pytest.approx(1.0, abs=1e-4)


def test_the_first_loss_is_that_of_equal_chances():
    torch.manual_seed(0)
    prior = Prior(*_arguments())
    nats, _ = prior.nats(make_codes((2, 2, 4, 4), 8), condition_of(prior, 2, 2))
    assert torch.allclose(nats, torch.tensor(8.0).log())


def _arguments():
    made = make_prior("top", 2, (4, 4), num_codes=8)
    return made.config, made.shape, 2, made.grid, 8, 4


def test_checkpointing_does_not_change_gradients():
    gradients = []
    for checkpointing in (False, True):
        prior = make_prior("top", 2, (3, 3), checkpointing=checkpointing).train().requires_grad_(True)
        prior.nats(make_codes((2, 2, 3, 3)), condition_of(prior, 2, 2))[0].sum().backward()
        gradients.append([p.grad for p in prior.parameters()])
    for plain, again in zip(*gradients, strict=True):
        assert torch.allclose(plain, again, atol=1e-5)

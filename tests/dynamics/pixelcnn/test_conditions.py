"""The conditions of the priors, exactly: each code that may matter does, and no other.

Letters: B batch, T steps of a clip, h w grid of tokens, n a half-step.
"""

import pytest
import torch

from tests.dynamics.pixelcnn.pairs import make_codes, make_pair
from worldmodel.dynamics.pixelcnn.layout import Levels

T, HALVES = 4, 8


@torch.inference_mode()
def moved_by_halves(pair, half: int) -> list[bool]:
    """Whether changing each half-step of the bottom changes the condition of half-step n."""
    bottom = make_codes((1, HALVES, 4, 4)).repeat(HALVES + 1, 1, 1, 1)
    bottom[range(HALVES), range(HALVES), 1, 2] += 1
    now = torch.full((HALVES + 1,), half)
    raised = pair.bottom.around.top.raised(make_codes((1, T, 2, 2))).expand(HALVES + 1, -1, -1, -1, -1)
    condition = pair.bottom.around(raised, bottom % 4, now)
    return (condition[:-1] != condition[-1]).flatten(1).any(1).tolist()


@pytest.mark.parametrize("window", [1, 2, 4, 6])
def test_the_bottom_prior_reads_the_half_steps_of_its_window(window):
    pair = make_pair(bottom_window=window)
    for half in (2, 5, 7):
        assert moved_by_halves(pair, half) == [half - window <= n < half for n in range(HALVES)]


@torch.inference_mode()
def test_the_bottom_prior_reads_the_top_around_its_half_step_and_after_it():
    """Kernels of 4 (stride 2), 3 and 3 in time: a half-step reads two or three steps to each side, at most."""
    pair = make_pair()
    top = make_codes((1, T, 2, 2)).repeat(T + 1, 1, 1, 1)
    top[range(T), range(T)] = (top[range(T), range(T)] + 1) % 4
    raised = pair.bottom.around.top.raised(top)
    for half in range(HALVES):
        condition = pair.bottom.around.top.at(raised, torch.full((T + 1,), half))
        moved = (condition[:-1] != condition[-1]).flatten(1).any(1).tolist()
        assert moved == [abs(2 * t + 0.5 - half) <= 3.5 for t in range(T)]


@torch.inference_mode()
def test_rows_of_different_half_steps_equal_the_same_alone():
    pair = make_pair()
    raised = pair.bottom.around.top.raised(make_codes((3, T, 2, 2)))
    bottom, half = make_codes((3, HALVES, 4, 4)), torch.tensor([7, 2, 4])
    together = pair.bottom.around(raised, bottom, half)
    for row in range(3):
        one = slice(row, row + 1)
        assert torch.allclose(pair.bottom.around(raised[one], bottom[one], half[one]), together[one], atol=1e-6)


@torch.inference_mode()
def test_the_top_prior_reads_every_code_of_the_given_step():
    pair = make_pair()
    top, bottom = make_codes((1, 2, 2)), make_codes((1, 2, 4, 4), seed=1)
    condition = pair.top.given(top, bottom, 3)
    assert condition.shape == (1, 12, 3, 2, 2)
    for level, codes in (("top", top), ("bottom", bottom)):
        for place in range(codes.numel()):
            other = codes.flatten().clone()
            other[place] = (other[place] + 1) % 4
            changed = {"top": top, "bottom": bottom} | {level: other.view_as(codes)}
            assert not torch.equal(pair.top.given(changed["top"], changed["bottom"], 3), condition)


@torch.inference_mode()
def test_an_action_conditions_its_step_alone():
    pair = make_pair()
    given = Levels(make_codes((1, 1, 2, 2)), make_codes((1, 2, 4, 4)))
    actions = torch.tensor([[0, 1, 2]])
    vectors = pair.condition(1, 3, actions).steps
    for step in range(3):
        other = actions.clone()
        other[0, step] = (other[0, step] + 1) % 3
        moved = pair.top.condition(given, pair.condition(1, 3, other).steps) != pair.top.condition(given, vectors)
        assert moved.flatten(3).any(3).any(1).tolist() == [[t == step for t in range(3)]]

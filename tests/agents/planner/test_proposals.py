"""Proposals: what is drawn follows the distribution, and the distribution follows the plans it is fitted to."""

import pytest
import torch

from worldmodel.agents.planner.proposals import hold, later_plan, make_proposals
from worldmodel.data import ActionSpec

BUTTONS = ActionSpec(kind="discrete", n=4)
BOX = ActionSpec(kind="box", n=2, low=(-1.0, 5.0), high=(1.0, 9.0))


def numbers(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def cpu_start(proposals, rows=1):
    return proposals.start(rows, torch.device("cpu"))


def test_initially_every_action_is_equally_likely():
    proposals = make_proposals(BUTTONS, 3)
    plans = proposals.draw(cpu_start(proposals), numbers(1, 4000, 3, 1))
    assert plans.shape == (1, 4000, 3) and plans.dtype == torch.int64
    shares = proposals.fit(plans)
    assert shares.shape == (1, 3, 4)
    torch.testing.assert_close(shares, torch.full((1, 3, 4), 0.25), atol=0.03, rtol=0)


def test_initially_continuous_actions_are_around_the_middle_of_the_bounds():
    proposals = make_proposals(BOX, 3)
    plans = proposals.draw(cpu_start(proposals), numbers(1, 4000, 3, 2))
    assert plans.shape == (1, 4000, 3, 2) and plans.dtype == torch.float32
    BOX.check(plans.flatten(0, 2).numpy())
    torch.testing.assert_close(plans.mean((0, 1, 2)), torch.tensor([0.0, 7.0]), atol=0.06, rtol=0)
    on_a_bound = (plans == torch.tensor(BOX.high)).float().mean()
    assert on_a_bound == pytest.approx(0.16, abs=0.02)  # one deviation above the mean


@pytest.mark.parametrize("quantile", [0.0, 1 - 2**-24])
def test_the_outermost_quantiles_are_valid_actions(quantile):
    for action in (BUTTONS, BOX):
        proposals = make_proposals(action, 2)
        shape = (1, 1, 2, proposals.quantiles_per_step)
        plans = proposals.draw(cpu_start(proposals), torch.full(shape, quantile))
        action.check(plans.flatten(0, 2).numpy())


def test_a_refit_proposes_the_actions_of_the_best_plans():
    proposals = make_proposals(BUTTONS, 2)
    odds = proposals.fit(torch.tensor([[[0, 3], [0, 1], [2, 3], [0, 3]]]))
    assert odds.tolist() == [[[0.75, 0, 0.25, 0], [0, 0.25, 0, 0.75]]]
    plans = proposals.draw(odds, numbers(1, 4000, 2, 1))
    torch.testing.assert_close(proposals.fit(plans), odds, atol=0.03, rtol=0)


def test_a_refit_uses_mean_and_deviation_of_continuous_actions():
    proposals = make_proposals(BOX, 1)
    fitted = proposals.fit(torch.tensor([[[[0.0, 6.0]], [[0.5, 6.0]], [[1.0, 6.0]]]]))
    torch.testing.assert_close(fitted, torch.tensor([[[[0.5, 6.0], [(1 / 6) ** 0.5, 0.0]]]]))
    plans = proposals.draw(fitted, numbers(1, 500, 1, 2))
    assert (plans[..., 1] == 6).all() and plans[..., 0].mean() == pytest.approx(0.5, abs=0.06)


def test_later_proposals_are_shifted_and_widened():
    buttons = make_proposals(BUTTONS, 3)
    sure = torch.eye(4)[None, :3]  # action t at step t
    later = buttons.later(sure, 1)
    torch.testing.assert_close(later[0, :2], torch.eye(4)[1:3] / 2 + 1 / 8)
    torch.testing.assert_close(later[0, 2], torch.full((4,), 0.25))
    box = make_proposals(BOX, 3)
    known = cpu_start(box)
    known[0, :, 0, 0], known[0, :, 1] = torch.tensor([0.1, 0.2, 0.3]), 0.0
    later = box.later(known, 2)
    torch.testing.assert_close(later[0, :, 0, 0], torch.tensor([0.3, 0.0, 0.0]))
    assert torch.equal(later[:, :, 1], cpu_start(box)[:, :, 1])


@pytest.mark.parametrize("action", [BUTTONS, BOX], ids=["discrete", "box"])
def test_initial_proposals_stay_the_same_when_shifted(action):
    proposals = make_proposals(action, 5)
    start = cpu_start(proposals, 2)
    assert torch.equal(proposals.later(start, 2), start)


def test_held_quantiles_repeat_with_the_given_probability_and_stay_uniform():
    held = hold(numbers(2, 2000, 6, 2), numbers(2, 2000, 6, seed=1), 0.7)
    same = held[:, :, 1:] == held[:, :, :-1]
    assert torch.equal(same[..., 0], same[..., 1])  # the numbers of an action together
    assert same.float().mean() == pytest.approx(0.7, abs=0.01)
    deciles = torch.histc(held[:, :, -1], 10, 0, 1) / held[:, :, -1].numel()
    torch.testing.assert_close(deciles, torch.full((10,), 0.1), atol=0.015, rtol=0)


def test_nothing_is_held_without_repeats():
    quantiles = numbers(1, 10, 6, 1)
    assert torch.equal(hold(quantiles, numbers(1, 10, 6, seed=1), 0.0), quantiles)


def test_a_certain_plan_is_drawn_however_long_quantiles_are_held():
    proposals = make_proposals(BUTTONS, 4)
    sure = torch.eye(4)[None]
    plans = proposals.draw(sure, hold(numbers(1, 50, 4, 1), numbers(1, 50, 4, seed=1), 0.9))
    assert (plans == torch.arange(4)).all()


def test_a_shifted_plan_is_filled_up_with_its_last_action():
    assert later_plan(torch.tensor([[1, 2, 3, 4]]), 3).tolist() == [[4, 4, 4, 4]]
    assert later_plan(torch.tensor([[1, 2, 3, 4]]), 1).tolist() == [[2, 3, 4, 4]]
    assert later_plan(torch.tensor([[[1.0], [2.0]]]), 2).tolist() == [[[2.0], [2.0]]]

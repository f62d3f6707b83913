import pytest
import torch

from worldmodel.agents.planner.config import PlannerConfig, plan_returns


def test_returns_are_discounted_and_stop_at_an_end():
    rewards = torch.tensor([[1.0, 1.0, 1.0, 8.0]] * 2)
    terminated = torch.tensor([[False, True, False, False], [False] * 4])
    probability = torch.tensor([[0.0, 0.75, 0.0, 0.0], [0.5, 0.0, 0.25, 0.0]])
    for ends, wanted in (
        ("expected", [1.5, 1 + 0.5 * (0.5 + 0.25 + 0.75 * 1)]),
        ("hard", [1.5, 2.75]),
        ("ignore", [2.75, 2.75]),
    ):
        returns = plan_returns(rewards, terminated, probability, PlannerConfig(discount=0.5, ends=ends))
        assert returns.tolist() == pytest.approx(wanted), ends


def test_shooting_has_no_elites_to_check():
    config = PlannerConfig(method="shooting", candidates=6)
    assert config.candidates == 6 and config.rounds == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "cma"}, "unknown method 'cma'. Did you mean 'cem'"),
        ({"ends": "soft"}, "unknown ends 'soft'"),
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"elites": 65}, "elites must be from 1 to candidates = 64, got 65"),
        ({"futures": 4, "batch": 3}, "batch must hold all futures of a plan, at least 4, got 3"),
        ({"replan_every": 13}, "replan_every must be at most horizon = 12, got 13"),
        ({"repeat": 1.0}, "repeat must be below 1, got 1.0"),
        ({"discount": 0.0}, "discount must be above 0, got 0.0"),
        ({"temperature": -1.0}, "temperature must be 0, or from 1e-6 to 1e6, got -1.0"),
        ({"temperature": 0.0, "futures": 2}, "at temperature 0 a plan has one future"),
    ],
)
def test_invalid_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PlannerConfig(**options)

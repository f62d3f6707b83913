import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.tiny import tiny_world
from worldmodel.envs import DreamVectorEnv
from worldmodel.envs.dream.rules import DreamRules, Transition, survival


def step(**signals):
    """Three dreamt steps with these game variables."""
    tensors = {name: torch.tensor(values) for name, values in signals.items()}
    nothing = torch.zeros(3)
    return Transition(
        actions=nothing.long(),
        reward=nothing,
        terminated=nothing.bool(),
        signals=tensors,
        signals_before=tensors,
        codes=torch.zeros(3, 1, 1, 1, dtype=torch.int64),
        _tokenizer=None,
    )


@pytest.mark.parametrize(
    ("rule", "ends"),
    [
        ("HEALTH <= 0", [True, True, False]),
        ("HEALTH<0", [True, False, False]),
        (" HEALTH >= -1.5 ", [False, True, True]),
        ("HEALTH > 0", [False, False, True]),
        ("AMMO2 == 5", [False, True, False]),
    ],
)
def test_a_comparison_ends_the_rows_for_which_it_holds(rule, ends):
    condition = DreamRules(terminate_when=rule).end_condition(("HEALTH", "AMMO2"))
    assert condition(step(HEALTH=[-2.0, 0.0, 3.0], AMMO2=[4.0, 5.0, 6.0])).tolist() == ends


def test_a_dream_that_a_comparison_ends_can_be_sent_to_another_process():
    envs = DreamVectorEnv(2, tiny_world(), "codes", terminate_when="HEALTH <= 40")
    envs.reset(seed=3)
    copy = pickle.loads(pickle.dumps(envs))
    for _ in range(6):
        for mine, theirs in zip(envs.step(np.array([1, 2]))[:4], copy.step(np.array([1, 2]))[:4], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_survival_rewards_every_step_but_the_last():
    steps = replace(step(), terminated=torch.tensor([False, True, False]))
    assert survival(steps).tolist() == [1.0, 0.0, 1.0] and survival(steps).dtype == torch.float32


def test_without_a_rule_only_the_model_ends_dreams():
    assert DreamRules().end_condition(("HEALTH",)) is None

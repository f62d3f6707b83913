"""Scripted policies: seeded, vectorised, and with the habits they claim."""

import numpy as np
import pytest

from worldmodel.agents.policy import Policy
from worldmodel.agents.scripted import EpsilonPolicy, RandomPolicy, StickyPolicy
from worldmodel.data import ActionSpec

BUTTONS = ActionSpec(kind="discrete", n=4, names=("noop", "turn_left", "turn_right", "move_forward"))
UNNAMED = ActionSpec(kind="discrete", n=4)
BOX = ActionSpec(kind="box", n=2, low=(-1.0, 5.0), high=(1.0, 6.0))


def play(policy, steps: int = 1000, rows: int = 3) -> np.ndarray:
    """(steps, rows, ...) actions."""
    observations = np.zeros((rows, 8, 8, 3), np.uint8)
    return np.stack([policy.act(observations) for _ in range(steps)])


class Always(Policy):
    """Plays one action; remembers its resets and seeds."""

    def __init__(self, action: int) -> None:
        self.action = action
        self.resets, self.seeds = [], []

    def act(self, observations: np.ndarray) -> np.ndarray:
        return np.full(len(observations), self.action)

    def reset(self, rows=None) -> None:
        self.resets.append(rows)

    def seed_rows(self, rows, seeds) -> None:
        self.seeds.append((list(rows), list(seeds)))


@pytest.mark.parametrize("spec", [BUTTONS, BOX], ids=["discrete", "box"])
@pytest.mark.parametrize("policy_class", [RandomPolicy, StickyPolicy])
def test_actions_belong_to_the_action_space(policy_class, spec):
    actions = play(policy_class(spec, seed=1))
    assert actions.dtype == spec.dtype
    assert actions.shape == (1000, 3, *spec.shape)
    spec.check(actions.reshape(-1, *spec.shape))


@pytest.mark.parametrize("policy_class", [RandomPolicy, StickyPolicy])
def test_a_seed_decides_all_actions(policy_class):
    first, again, other = (play(policy_class(BUTTONS, seed=seed), 100) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("policy_class", [RandomPolicy, StickyPolicy])
def test_envs_are_played_independently(policy_class):
    actions = play(policy_class(BUTTONS), rows=2)
    assert (actions[:, 0] != actions[:, 1]).mean() > 0.3


def test_random_play_uses_all_actions_equally():
    shares = np.bincount(play(RandomPolicy(BUTTONS)).ravel(), minlength=4) / 3000
    assert shares == pytest.approx(np.full(4, 0.25), abs=0.03)


def test_random_play_covers_the_whole_box():
    actions = play(RandomPolicy(BOX)).reshape(-1, 2)
    assert actions.min(0) == pytest.approx([-1.0, 5.0], abs=0.02)
    assert actions.max(0) == pytest.approx([1.0, 6.0], abs=0.02)


@pytest.mark.parametrize("repeat", [0.0, 0.5, 0.9])
def test_sticky_play_repeats_with_the_given_probability(repeat):
    actions = play(StickyPolicy(UNNAMED, repeat=repeat), 4000)
    same = (actions[1:] == actions[:-1]).mean()
    assert same == pytest.approx(repeat + (1 - repeat) / 4, abs=0.02)  # a new draw is the same in one case of four


def test_sticky_play_repeats_box_actions_whole():
    actions = play(StickyPolicy(BOX, repeat=0.9))
    kept = actions[1:] == actions[:-1]
    assert (kept[..., 0] == kept[..., 1]).all()
    assert kept.mean() == pytest.approx(0.9, abs=0.03)


def test_a_new_episode_begins_with_a_new_draw_in_its_row_only():
    policy = StickyPolicy(UNNAMED, repeat=0.999)
    before, after = [], []
    for _ in range(200):
        before.append(play(policy, 1, 2)[0])
        policy.reset(np.array([1]))
        after.append(play(policy, 1, 2)[0])
    changed = np.array(before) != np.array(after)
    assert changed[:, 0].mean() < 0.05
    assert changed[:, 1].mean() == pytest.approx(0.75, abs=0.1)


def test_default_weights_favour_walking_over_standing_still_by_the_names():
    shares = np.bincount(play(StickyPolicy(BUTTONS), 6000).ravel(), minlength=4) / 18000
    assert shares == pytest.approx(np.array([0.25, 1, 1, 3]) / 5.25, abs=0.04)
    shares = np.bincount(play(StickyPolicy(UNNAMED), 6000).ravel(), minlength=4) / 18000
    assert shares == pytest.approx(np.full(4, 0.25), abs=0.04)


def test_given_weights_decide_the_odds():
    actions = play(StickyPolicy(BUTTONS, repeat=0.0, weights=[1, 0, 0, 3]))
    assert np.bincount(actions.ravel(), minlength=4) / 3000 == pytest.approx([0.25, 0, 0, 0.75], abs=0.03)


@pytest.mark.parametrize("weights", [[1, 1], [1, 1, -1, 1], [0, 0, 0, 0]])
def test_invalid_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights must be 4 numbers"):
        StickyPolicy(BUTTONS, weights=weights)


@pytest.mark.parametrize("repeat", [-0.1, 1.0])
def test_a_repeat_probability_outside_its_range_is_refused(repeat):
    with pytest.raises(ValueError, match=r"repeat must be in \[0, 1\)"):
        StickyPolicy(BUTTONS, repeat=repeat)


def test_epsilon_replaces_its_share_of_the_actions():
    actions = play(EpsilonPolicy(Always(3), 0.4, BUTTONS), 3000)
    shares = np.bincount(actions.ravel(), minlength=4) / 9000
    assert shares == pytest.approx([0.1, 0.1, 0.1, 0.7], abs=0.02)


def test_epsilon_of_zero_and_one_are_the_policy_and_pure_chance():
    assert (play(EpsilonPolicy(Always(3), 0.0, BUTTONS)) == 3).all()
    assert np.bincount(play(EpsilonPolicy(Always(3), 1.0, BUTTONS)).ravel(), minlength=4).min() > 600


def test_epsilon_noise_does_not_change_the_policys_own_array():
    own = np.full(3, 2)
    policy = Always(2)
    policy.act = lambda observations: own
    play(EpsilonPolicy(policy, 1.0, BUTTONS), 50)
    assert (own == 2).all()


def test_the_policy_under_the_noise_is_reset_and_seeded():
    inner = Always(0)
    noisy = EpsilonPolicy(inner, 0.5, BUTTONS)
    noisy.reset(np.array([1]))
    noisy.seed_rows([1], [9])
    assert inner.resets == [np.array([1])] and inner.seeds == [([1], [9])]


@pytest.mark.parametrize("by_row", [False, True])
def test_noise_is_independent_of_the_policys_draws_from_the_same_seed(by_row):
    unit = ActionSpec(kind="box", n=1, low=(0.0,), high=(1.0,))
    policy, noisy = RandomPolicy(unit, seed=5), EpsilonPolicy(RandomPolicy(unit, seed=5), 0.5, unit, seed=5)
    if by_row:
        policy.seed_rows([0], [6])
        noisy.seed_rows([0], [6])
    own, played = play(policy, 400, rows=1).ravel(), play(noisy, 400, rows=1).ravel()
    struck = own != played
    for lag in (0, 1, 2):
        assert abs(np.corrcoef(struck[: 400 - lag], own[lag:])[0, 1]) < 0.2


def test_noise_in_a_row_does_not_depend_on_other_rows():
    alone, among = EpsilonPolicy(Always(0), 0.7, BUTTONS), EpsilonPolicy(Always(0), 0.7, BUTTONS, seed=3)
    play(among, 17)
    alone.seed_rows([0], [5])
    among.seed_rows([0, 1, 2], [4, 5, 6])
    one, three = play(alone, 40, rows=1), play(among, 40)
    assert one[:, 0].tolist() == three[:, 1].tolist() != three[:, 0].tolist()


def test_an_epsilon_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"epsilon must be in \[0, 1\], got 1.5"):
        EpsilonPolicy(Always(0), 1.5, BUTTONS)

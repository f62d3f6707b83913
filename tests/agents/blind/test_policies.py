"""Blind policies: their names say what they do, seeds decide what they draw, and diverse play goes everywhere."""

from itertools import groupby

import numpy as np
import pytest

from worldmodel.agents.blind.policies import is_scripted, scripted_policy
from worldmodel.agents.scripted import RandomPolicy, ScriptedPolicy, StickyPolicy
from worldmodel.data import ActionSpec

NAMES = ("noop", "turn_left", "turn_right", "move_forward")
BUTTONS = ActionSpec(kind="discrete", n=4, names=NAMES)
UNNAMED = ActionSpec(kind="discrete", n=4)
BOX = ActionSpec(kind="box", n=2, low=(-1.0, 5.0), high=(1.0, 6.0))
ALL = [
    "constant:1",
    "cycle:0*2,3*3",
    "hold:0.9",
    "hold:0.5,1*3,2",
    "odds:1*3,2",
    "diverse",
    "diverse:0,0.4",
    "random",
    "sticky",
]


def play(policy, steps: int, rows: int = 1) -> np.ndarray:
    """(steps, rows, ...) actions."""
    observations = np.zeros((rows, 8, 8, 3), np.uint8)
    return np.stack([policy.act(observations) for _ in range(steps)])


def episode(name: str, seed: int, steps: int = 300, spec: ActionSpec = BUTTONS) -> np.ndarray:
    return play(scripted_policy(name, spec, seed=seed), steps)[:, 0]


def strides(actions: np.ndarray) -> list[tuple[int, int]]:
    """(action, how long it lasts), one after the other."""
    return [(int(action), len(list(same))) for action, same in groupby(actions.tolist())]


# What the names say


@pytest.mark.parametrize("name", ["constant:turn_right", "constant:2"])
def test_a_constant_policy_repeats_one_action(name):
    assert (episode(name, seed=3) == 2).all()


@pytest.mark.parametrize("name", ["cycle:turn_left*2,move_forward*3,noop", "cycle: 1*2, 3*3, 0"])
def test_a_cycle_repeats_each_action_for_its_number_of_steps(name):
    assert episode(name, seed=0, steps=14).tolist() == [1, 1, 3, 3, 3, 0, 1, 1, 3, 3, 3, 0, 1, 1]


@pytest.mark.parametrize("probability", [0.0, 0.5, 0.95])
def test_held_actions_repeat_with_the_given_probability(probability):
    actions = episode(f"hold:{probability}", seed=0, steps=6000)
    same = (actions[1:] == actions[:-1]).mean()
    assert same == pytest.approx(probability + (1 - probability) / 4, abs=0.03)  # a draw is the same in a quarter


def test_held_actions_are_drawn_with_the_given_odds():
    actions = episode("hold:0.5,move_forward*3,turn_left", seed=0, steps=6000)
    assert np.bincount(actions, minlength=4) / 6000 == pytest.approx([0, 0.25, 0, 0.75], abs=0.04)


def test_odds_draw_a_new_action_at_every_step():
    actions = episode("odds:turn_left*2,turn_right*1,turn_left", seed=0, steps=6000)
    assert np.bincount(actions, minlength=4) / 6000 == pytest.approx([0, 0.75, 0.25, 0], abs=0.03)
    assert (actions[1:] == actions[:-1]).mean() == pytest.approx(0.75**2 + 0.25**2, abs=0.03)


def test_held_box_actions_are_repeated_whole_and_cover_the_box():
    actions = episode("hold:0.9", seed=0, steps=4000, spec=BOX)
    kept = actions[1:] == actions[:-1]
    assert (kept[:, 0] == kept[:, 1]).all() and kept.mean() == pytest.approx(0.9, abs=0.02)
    assert actions.min(0) == pytest.approx([-1.0, 5.0], abs=0.05)
    assert actions.max(0) == pytest.approx([1.0, 6.0], abs=0.05)


@pytest.mark.parametrize(("name", "kind"), [("random", RandomPolicy), ("sticky", StickyPolicy)])
def test_random_and_sticky_policies_have_not_changed(name, kind):
    assert (play(scripted_policy(name, BUTTONS, seed=7), 50, 3) == play(kind(BUTTONS, seed=7), 50, 3)).all()


@pytest.mark.parametrize("name", ALL)
def test_names_of_policies_are_recognised(name):
    assert is_scripted(name)


@pytest.mark.parametrize("name", ["runs/agent", "sticky2", "Diverse", "diverse2:0,0.4", "cycle", "C:\\runs\\agent", ""])
def test_other_names_are_taken_for_folders(name):
    assert not is_scripted(name)


# Seeds and episodes


@pytest.mark.parametrize(
    ("spec", "name"),
    [(spec, name) for spec in (BUTTONS, UNNAMED) for name in ALL]
    + [(BOX, name) for name in ("hold:0.9", "diverse", "diverse:0,0.4", "random", "sticky")],
)
def test_actions_belong_to_the_action_space_and_a_seed_decides_them(spec, name):
    first, again = (play(scripted_policy(name, spec, seed=5), 200, 3) for _ in range(2))
    assert first.dtype == spec.dtype and first.shape == (200, 3, *spec.shape)
    spec.check(first.reshape(-1, *spec.shape))
    assert (first == again).all()


@pytest.mark.parametrize("name", ["hold:0.9", "odds:1*3,2", "diverse"])
def test_envs_and_seeds_give_different_episodes(name):
    first, second = play(scripted_policy(name, BUTTONS), 400, 2).T
    assert (first != second).mean() > 0.2
    assert (first != episode(name, seed=1, steps=400)).mean() > 0.2


@pytest.mark.parametrize("name", ["random", "sticky", "cycle:0*2,3*3", "hold:0.9", "diverse"])
def test_an_episode_does_not_depend_on_parallel_ones(name):
    lone = scripted_policy(name, BUTTONS)
    lone.seed_rows([0], [42])
    alone = play(lone, 120)[:, 0]
    three = scripted_policy(name, BUTTONS, seed=9)
    play(three, 17, 3)
    three.seed_rows([1], [42])
    beside = []
    for step in range(120):
        beside.append(play(three, 1, 3)[0, 1])
        if step % 10 == 0:
            three.reset(np.array([0, 2]))
    assert np.array(beside).tolist() == alone.tolist()


def test_a_new_episode_restarts_the_cycle_in_its_row_only():
    policy = scripted_policy("cycle:0*2,3*2", BUTTONS)
    play(policy, 1, 2)
    policy.reset(np.array([1]))
    assert play(policy, 4, 2).T.tolist() == [[0, 3, 3, 0], [0, 0, 3, 3]]
    policy.reset()
    assert play(policy, 2, 2).T.tolist() == [[0, 0], [0, 0]]


# Diverse play


@pytest.fixture(scope="module")
def many() -> list[np.ndarray]:
    """The first 300 steps of 300 episodes, each with its own seed."""
    return [episode("diverse", seed, 300) for seed in range(300)]


def test_a_tenth_of_diverse_episodes_are_constant_and_a_fifth_are_cycles(many):
    constant = sum(len(set(actions.tolist())) == 1 for actions in many)
    cycles = 0
    for actions in many:
        seen = strides(actions)
        turns = [seen[i : i + k] for k in (2, 3, 4) for i in (0, k) if len(seen) > 2 * k]
        cycles += any(first == second for first, second in zip(turns[::2], turns[1::2], strict=True))
    assert constant / 300 == pytest.approx(0.1, abs=0.05)
    assert 0.1 < cycles / 300 < 0.27


def test_diverse_play_with_other_shares_changes_its_actions_more_often(many):
    usual = [episode("diverse:0.5,0.2", seed, 300) for seed in range(20)]
    assert all((a == b).all() for a, b in zip(usual, many, strict=False))

    def quick(episodes):
        return np.mean([np.mean([n for _, n in strides(actions)]) < 3 for actions in episodes])

    restless = [episode("diverse:0,0.4", seed, 300) for seed in range(300)]
    assert quick(restless) > 3 * quick(many)
    assert np.mean([len(set(a.tolist())) == 1 for a in restless]) == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("name", ["diverse:0.5", "diverse:1,0.2", "diverse:-0.1,0.2", "diverse:0,0.95", "diverse:a,b"])
def test_shares_of_diverse_play_that_cannot_be_are_refused(name):
    with pytest.raises(ValueError, match=f"policy '{name}'"):
        scripted_policy(name, BUTTONS)


def test_diverse_episodes_hold_every_action_for_long(many):
    longest = {action: max(n for actions in many for a, n in strides(actions) if a == action) for action in range(4)}
    assert min(longest.values()) == 300  # some whole episode each
    still = np.mean([max((n for a, n in strides(actions) if a == 0), default=0) >= 32 for actions in many])
    assert still > 0.2  # sticky play does so in less than one of a hundred


def test_diverse_episodes_differ_in_their_odds_and_in_how_long_they_hold(many):
    shares = np.array([np.bincount(actions, minlength=4) / 300 for actions in many])
    assert shares.mean(0) == pytest.approx(np.full(4, 0.25), abs=0.04)
    assert shares.std(0).min() > 0.2
    lengths = np.array([np.mean([n for _, n in strides(actions)]) for actions in many])
    assert np.quantile(lengths, 0.1) < 5 and np.quantile(lengths, 0.8) > 15


def test_diverse_episodes_of_one_policy_object_differ():
    policy, heads = scripted_policy("diverse", BUTTONS), set()
    for _ in range(40):
        policy.reset()
        heads.add(tuple(play(policy, 12)[:, 0].tolist()))
    assert len(heads) > 20


def test_diverse_works_for_a_single_action_and_for_a_box():
    assert (episode("diverse", 0, 20, ActionSpec(kind="discrete", n=1)) == 0).all()
    boxes = [episode("diverse", seed, 50, BOX) for seed in range(200)]
    constant = np.mean([(actions == actions[0]).all() for actions in boxes])
    assert constant == pytest.approx(0.1, abs=0.06)
    assert isinstance(scripted_policy("diverse", BOX), ScriptedPolicy)


# Mistakes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stiky", "unknown policy 'stiky'.*cycle:ACTION.*[Dd]id you mean"),
        ("constant:turn_letf", "unknown action 'turn_letf'.* Did you mean 'turn_left'"),
        ("constant:4", "unknown action '4'"),
        ("constant:", "unknown action ''"),
        ("cycle:noop*2,", "lacks an action"),
        ("cycle:noop*0", "steps of an action must be an integer from 1 to 100,000, got '0'"),
        ("cycle:noop*2.5", "steps of an action must be an integer from 1 to 100,000, got '2.5'"),
        ("cycle:noop*1000000", "steps of an action must be an integer"),
        ("hold:1.0", r"must be in \[0, 1\), got '1.0'"),
        ("hold:-0.1", r"must be in \[0, 1\)"),
        ("hold:nan", r"must be in \[0, 1\)"),
        ("hold:often", "'often' is not a number"),
        ("hold:0.9,", "lacks an action"),
        ("hold:0.9,noop*-1", "none negative and not all 0"),
        ("odds:noop*0", "none negative and not all 0"),
        ("odds:noop*inf", "weights must be finite"),
        ("odds:noop*x", "'x' is not a number"),
    ],
)
def test_a_mistake_in_a_name_is_refused_with_what_is_expected(name, message):
    with pytest.raises(ValueError, match=message):
        scripted_policy(name, BUTTONS)


@pytest.mark.parametrize("name", ["cycle:0*2", "hold:0.5,0*2", "odds:0"])
def test_actions_of_a_box_have_no_names(name):
    with pytest.raises(
        ValueError, match=r"continuous \(2 dimensions\) and have no names: use constant:NUMBER,…, hold:P"
    ):
        scripted_policy(name, BOX)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("constant:0", "an action has 2 dimensions here, got 1"),
        ("constant:0,5,5", "an action has 2 dimensions here, got 3"),
        ("constant:0,4.9", "must be from"),
        ("constant:nan,5", "must be from"),
        ("constant:noop,5", "'noop' is not a number"),
    ],
)
def test_a_constant_action_of_a_box_is_given_by_values_within_the_bounds(name, message):
    actions = episode("constant:-0.25, 5.5", seed=0, steps=3, spec=BOX)
    assert actions.tolist() == [[-0.25, 5.5]] * 3 and actions.dtype == np.float32
    with pytest.raises(ValueError, match=message):
        scripted_policy(name, BOX)

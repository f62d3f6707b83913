import pytest

from worldmodel.agents.blind.family import blind_family
from worldmodel.agents.blind.policies import scripted_policy
from worldmodel.data import ActionSpec
from worldmodel.envs.vizdoom.scenarios import SCENARIOS

BOX = ActionSpec(kind="box", n=2, low=(-1.0, -1.0), high=(1.0, 1.0))


def discrete(n, names=()):
    return ActionSpec(kind="discrete", n=n, names=names)


NAMED = [discrete(2, ("noop", "jump")), discrete(4, ("noop", "up, left", "up, right", "fire*2"))]
SPECS = [
    BOX,
    *map(discrete, (2, 3, 20)),
    *NAMED,
    *(discrete(len(s.action_names), s.action_names) for s in SCENARIOS.values()),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{spec.n}")
def test_there_are_nine_or_more_different_policies_and_each_can_play(spec):
    names = blind_family(spec)
    assert 9 <= len(set(names)) == len(names) <= 20
    for name in names:
        assert len(scripted_policy(name, spec).act([0, 0, 0])) == 3


def test_a_game_has_constants_of_its_actions_and_cycles_of_short_and_long_turns():
    names = blind_family(discrete(3, SCENARIOS["take_cover"].action_names))
    assert {"constant:noop", "constant:move_left", "constant:move_right"} < set(names)
    cycles = [name for name in names if name.startswith("cycle")]
    assert cycles == [f"cycle:move_left*{steps},move_right*{steps}" for steps in (4, 12, 32)]
    assert {"hold:0.8", "hold:0.95", "odds:move_left*1,move_right*4", "diverse"} < set(names)


def test_with_many_actions_every_cycle_uses_a_different_pair():
    names = blind_family(discrete(4, SCENARIOS["defend_the_center"].action_names))
    pairs = [name for name in names if name.startswith("cycle")]
    assert len(pairs) == 6 and not any("noop" in name for name in pairs)
    assert len({frozenset(part.partition("*")[0] for part in name[6:].split(",")) for name in pairs[:3]}) == 3


def test_a_game_of_one_action_has_no_cycles():
    assert blind_family(discrete(1)) == ("constant:0", "hold:0.8", "hold:0.95", "diverse")

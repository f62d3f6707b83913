"""A family of blind policies for any action space: the default policies of a report on a dream."""

from itertools import combinations

from worldmodel.agents.blind.policies import action_word
from worldmodel.data import ActionSpec

_HOLDS = (0.8, 0.95)
_BOX_HOLDS = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99)  # of continuous actions, which have no names
_TURNS = (4, 12, 32)  # steps of each action in a cycle
_MOST_CYCLES = 6
_MOST_CONSTANTS = 8
_FAVOUR = 4  # weight of the favoured action; the others have 1


def blind_family(spec: ActionSpec) -> tuple[str, ...]:
    """Names for `scripted_policy`: constants, cycles of two actions, held and weighted random play, and "diverse".

    At least nine for two or more actions and for continuous ones. Cycles leave out "noop" if there are enough other
    actions, and prefer neighbours in the order of the actions, such as left and right.
    """
    if spec.kind == "box":
        return (*(f"hold:{hold:g}" for hold in _BOX_HOLDS), "diverse")
    names = [action_word(action, spec) for action in range(spec.n)]
    moves = [name for name in names if name != "noop"]
    if len(moves) < 2:
        moves = names
    constants = [f"constant:{name}" for name in names[:_MOST_CONSTANTS]]
    favoured = [f"odds:{_odds(moves, moves[-1])}"] if len(moves) > 1 else []
    holds = [f"hold:{hold:g}" for hold in _HOLDS]
    return (*constants, *_cycles(moves), *holds, *favoured, "diverse")


def _cycles(moves: list[str]) -> list[str]:
    """Each pair of actions with each length, alternating pairs and lengths, up to the limit."""
    order = {name: index for index, name in enumerate(moves)}
    pairs = sorted(combinations(moves, 2), key=lambda pair: (order[pair[1]] - order[pair[0]], order[pair[0]]))
    rounds = [(pairs[k], _TURNS[(k + turn) % len(_TURNS)]) for turn in range(len(_TURNS)) for k in range(len(pairs))]
    return [f"cycle:{first}*{steps},{second}*{steps}" for (first, second), steps in rounds[:_MOST_CYCLES]]


def _odds(moves: list[str], favoured: str) -> str:
    return ",".join(f"{name}*{_FAVOUR if name == favoured else 1}" for name in moves)

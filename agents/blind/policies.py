"""Blind policies: they ignore the observations, need no training, and visit states that recorded episodes rarely show.

They are the fairest baseline of a game and the hardest test of its dream. A blind policy's name describes it in full
and is accepted wherever a policy is named:

    constant:noop                          a single action, by its name or index
    constant:0.5,-1                        the same for continuous actions
    cycle:move_left*32,move_right*32       actions in turn, each for the given number of steps
    hold:0.95                              random, the last action repeated with that probability
    hold:0.9,move_forward*3,turn_left*1    the same, drawn with these odds; other actions are never drawn
    odds:attack*2,turn_left*1              drawn again at every step with these odds
    diverse                                a different one of these in every episode
    diverse:0,0.4                          the same with the least probability to repeat (0.5) and the share of cycles
                                           (0.2): actions change more often
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle, repeat

import numpy as np

from worldmodel.agents.scripted import Action, Plan, RandomPolicy, ScriptedPolicy, StickyPolicy, draw
from worldmodel.data import ActionSpec
from worldmodel.errors import did_you_mean

_SCRIPTED: dict[str, type[RandomPolicy | StickyPolicy]] = {"random": RandomPolicy, "sticky": StickyPolicy}
FORMS = "random, sticky, diverse, diverse:P,SHARE, constant:ACTION, cycle:ACTION*STEPS,…, hold:P, odds:ACTION*WEIGHT,…"
_KINDS = ("constant", "cycle", "hold", "odds", "diverse")
_MOST_STEPS = 100_000  # of one action in a cycle

# Of "diverse": shares of the episodes; the others hold random actions.
_CONSTANT_SHARE, _CYCLE_SHARE = 0.1, 0.2
_LEAST_HOLD, _MOST_HOLD = 0.5, 0.97  # probability to repeat, drawn so that the mean length of a stride is log-uniform
_LONGEST_TURN = 48  # steps of one action in a cycle, log-uniform from 1
_MOST_TURNS = 4  # actions of a cycle, at least 2


def scripted_policy(name: str, action_spec: ActionSpec, *, seed: int = 0) -> ScriptedPolicy:
    """The policy of that name (see above); ValueError if it is unknown or does not suit the actions.

    Example:
        >>> import numpy as np
        >>> from worldmodel.agents.blind.policies import scripted_policy
        >>> from worldmodel.data import ActionSpec
        >>> action = ActionSpec(kind="discrete", n=2, names=("left", "right"))
        >>> policy = scripted_policy("cycle:left*2,right*1", action)
        >>> [int(policy.act(np.zeros((1, 1)))[0]) for _ in range(6)]
        [0, 0, 1, 0, 0, 1]
    """
    if name in _SCRIPTED:
        return _SCRIPTED[name](action_spec, seed=seed)
    return ScriptedPolicy(_plan(name, action_spec), action_spec, seed=seed)


def is_scripted(name: str) -> bool:
    """Whether a name means a scripted policy rather than an agent's folder."""
    kind, colon, _ = name.partition(":")
    return name in _SCRIPTED or name == "diverse" or bool(colon and kind in _KINDS)


# --- plans -----------------------------------------------------------------------------------------------------------


def _plan(name: str, spec: ActionSpec) -> Plan:
    if name == "diverse":
        return partial(_diverse, spec, _LEAST_HOLD, _CYCLE_SHARE)
    kind, _, rest = name.partition(":")
    if kind == "diverse" and rest:
        return partial(_diverse, spec, *_spread(rest, name))
    if kind == "constant":
        return partial(_constant, _numbers(rest, spec, name) if spec.kind == "box" else _action(rest, spec))
    if kind == "cycle":
        return partial(_cycle, [(_action(a, spec), _steps(count, name)) for a, count in _parts(rest, name)])
    if kind == "hold":
        probability, comma, odds = rest.partition(",")
        return partial(_hold, spec, _probability(probability, name), _odds(odds, spec, name) if comma else None)
    if kind == "odds":
        return partial(_hold, spec, 0.0, _odds(rest, spec, name))
    raise ValueError(f"unknown policy {name!r}. Policies are {FORMS}.{did_you_mean(kind, (*_SCRIPTED, *_KINDS))}")


def _constant(action: Action, rng: np.random.Generator) -> Iterator[Action]:
    return repeat(action)


def _cycle(turns: Sequence[tuple[int, int]], rng: np.random.Generator) -> Iterator[int]:
    return cycle([action for action, steps in turns for _ in range(steps)])


def _hold(spec: ActionSpec, probability: float, odds: np.ndarray | None, rng: np.random.Generator) -> Iterator[Action]:
    while True:
        action = draw(spec, rng, odds)
        yield action
        while rng.random() < probability:
            yield action


def _diverse(spec: ActionSpec, least: float, cycles: float, rng: np.random.Generator) -> Iterator[Action]:
    """Draws a hold probability and odds for the episode; a share of episodes is constant or a cycle."""
    share = rng.random()
    shortest, longest = (np.log(1.0 / (1.0 - hold)) for hold in (least, _MOST_HOLD))
    probability = 1.0 - np.exp(-rng.uniform(shortest, longest))
    if spec.kind == "box":
        if share < _CONSTANT_SHARE:
            return repeat(rng.uniform(spec.low, spec.high).astype(np.float32))
        return _hold(spec, probability, None, rng)
    if share < _CONSTANT_SHARE:
        return _constant(int(rng.integers(spec.n)), rng)
    if share < _CONSTANT_SHARE + cycles and spec.n > 1:
        count = int(rng.integers(2, min(spec.n, _MOST_TURNS) + 1))
        actions = rng.permutation(spec.n)[:count].tolist()
        steps = np.exp(rng.uniform(0.0, np.log(_LONGEST_TURN), count)).astype(int).tolist()
        return _cycle(list(zip(actions, steps, strict=True)), rng)
    return _hold(spec, probability, rng.dirichlet(np.ones(spec.n)), rng)


# --- names -----------------------------------------------------------------------------------------------------------


def _parts(text: str, name: str) -> list[tuple[str, str]]:
    """ "left*3,noop" -> [("left", "3"), ("noop", "1")]."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ValueError(f"policy {name!r} lacks an action: give ACTION*NUMBER, separated by commas")
    return [(part.partition("*")[0].strip(), part.partition("*")[2].strip() or "1") for part in parts]


def action_word(action: int, spec: ActionSpec) -> str:
    """How the name of a policy names a discrete action: by its name, or its index if the name would be misread."""
    name = spec.names[action] if spec.names else ""
    return name if name.strip() and name == name.strip() and not set(name) & {",", "*"} else str(action)


def _action(text: str, spec: ActionSpec) -> int:
    if spec.kind == "box":
        raise ValueError(
            f"the actions are continuous ({spec.n} dimensions) and have no names: use constant:NUMBER,…, hold:P, "
            "random or diverse"
        )
    if text in spec.names:
        return spec.names.index(text)
    if text.isdecimal() and int(text) < spec.n:
        return int(text)
    known = spec.names or tuple(map(str, range(spec.n)))
    raise ValueError(f"unknown action {text!r}.{did_you_mean(text, known)}")


def _numbers(text: str, spec: ActionSpec, name: str) -> np.ndarray:
    """A continuous action; values that exceed the bounds by rounding are clipped."""
    numbers = np.array([_number(part, name) for part in text.split(",")])
    if len(numbers) != spec.n:
        raise ValueError(f"policy {name!r}: an action has {spec.n} dimensions here, got {len(numbers)}")
    low, high = np.array(spec.low), np.array(spec.high)
    slack = 1e-5 * np.maximum(np.abs(low), np.abs(high))
    if not ((numbers >= low - slack) & (numbers <= high + slack)).all():
        raise ValueError(f"policy {name!r}: actions must be from {spec.low} to {spec.high}")
    return np.clip(numbers, low, high).astype(np.float32)


def _steps(text: str, name: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_STEPS:
        raise ValueError(
            f"policy {name!r}: the steps of an action must be an integer from 1 to {_MOST_STEPS:,}, got {text!r}"
        )
    return int(text)


def _probability(text: str, name: str) -> float:
    value = _number(text, name)
    if not 0.0 <= value < 1.0:
        raise ValueError(f"policy {name!r}: the probability of repeating must be in [0, 1), got {text!r}")
    return value


def _spread(text: str, name: str) -> tuple[float, float]:
    """Of "diverse:P,SHARE" the least probability to repeat and the share of cycles."""
    numbers = [_number(part, name) for part in text.split(",")]
    if len(numbers) != 2 or not 0.0 <= numbers[0] < _MOST_HOLD or not 0.0 <= numbers[1] <= 1.0 - _CONSTANT_SHARE:
        raise ValueError(
            f"policy {name!r}: give the least probability to repeat, in [0, {_MOST_HOLD}), and the share of cycles, in "
            f"[0, {1.0 - _CONSTANT_SHARE}], as in diverse:0,0.4"
        )
    return numbers[0], numbers[1]


def _odds(text: str, spec: ActionSpec, name: str) -> np.ndarray:
    """Probability of each action."""
    weights = np.zeros(spec.n)
    for action, weight in _parts(text, name):
        weights[_action(action, spec)] += _number(weight, name)
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum() > 0:
        raise ValueError(f"policy {name!r}: weights must be finite, none negative and not all 0")
    return weights / weights.sum()


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"policy {name!r}: {text!r} is not a number") from error

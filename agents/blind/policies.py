"""Blind policies: they look at nothing, need no training, and go where recorded play rarely went.

The fairest baseline of a game and the hardest test of its dream. Each has a name that says all of it, which is accepted
wherever a policy is named:

    constant:noop                          a single action, by its name or number
    constant:0.5,-1                        the same where an action is numbers
    cycle:move_left*32,move_right*32       actions by turns, each for so many steps
    hold:0.95                              random, the last action repeated with that probability
    hold:0.9,move_forward*3,turn_left*1    the same, drawn with these odds; actions not named are not drawn
    odds:attack*2,turn_left*1              drawn anew at every step with these odds
    diverse                                another of all these in every episode

Letters: n envs, A numbers per action.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle, repeat

import numpy as np

from worldmodel.agents.scripted import Policy, RandomPolicy, StickyPolicy
from worldmodel.data import ActionSpec
from worldmodel.errors import did_you_mean

Plan = Callable[[np.random.Generator], Iterator[np.ndarray | int]]  # actions of one episode, without end
PolicyFactory = Callable[[ActionSpec, int, int], Policy]  # (action_spec, num_envs, seed)

_SCRIPTED: dict[str, PolicyFactory] = {"random": RandomPolicy, "sticky": StickyPolicy}
FORMS = "random, sticky, diverse, constant:ACTION, cycle:ACTION*STEPS,…, hold:P, odds:ACTION*WEIGHT,…"
_KINDS = ("constant", "cycle", "hold", "odds")
_MOST_STEPS = 100_000  # of one action in a cycle

# Of "diverse": shares of the episodes; the others hold random actions.
_CONSTANT_SHARE, _CYCLE_SHARE = 0.1, 0.2
_HOLDS = (0.5, 0.97)  # probability to repeat, drawn so that the mean length of a stride is log-uniform
_LONGEST_TURN = 48  # steps of one action in a cycle, log-uniform from 1
_MOST_TURNS = 4  # actions of a cycle, at least 2


class BlindPolicy:
    """Follows a plan in every env; each episode draws from its env's own generator.

    Args:
        plan: gives the actions of an episode.
        action_spec: what can be done.
        num_envs: n.
        seed: env i draws from a generator of (seed, i), until `seed_rows` says otherwise.
    """

    def __init__(self, plan: Plan, action_spec: ActionSpec, num_envs: int = 1, seed: int = 0) -> None:
        self.action_spec = action_spec
        self.num_envs = num_envs
        self._plan = plan
        self._generators = [np.random.default_rng((seed, row)) for row in range(num_envs)]
        self._actions = [plan(generator) for generator in self._generators]

    def act(self, observations: np.ndarray) -> np.ndarray:
        """The next actions, (n,) int64 or (n, A) float32; of `observations` only the number matters."""
        if len(observations) != self.num_envs:
            raise ValueError(f"this policy plays {self.num_envs} envs, got {len(observations)} observations")
        return np.array([next(actions) for actions in self._actions], self.action_spec.dtype)

    def reset(self, rows: np.ndarray | None = None) -> None:
        """Begin a new episode in the envs `rows` (None: in all)."""
        for row in range(self.num_envs) if rows is None else rows:
            self._actions[row] = self._plan(self._generators[row])

    def seed_rows(self, rows: Sequence[int] | np.ndarray, seeds: Sequence[int]) -> None:
        """Begin a new episode in env rows[i], which draws all from seeds[i]."""
        for row, seed in zip(rows, seeds, strict=True):
            self._generators[row] = np.random.default_rng((int(seed), 0))
        self.reset(np.asarray(rows))


def scripted_policy(name: str, action_spec: ActionSpec, num_envs: int = 1, seed: int = 0) -> Policy:
    """The policy of that name (see above); ValueError if there is none, or not with these actions.

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
        return _SCRIPTED[name](action_spec, num_envs, seed)
    return BlindPolicy(_plan(name, action_spec), action_spec, num_envs, seed)


def is_scripted(name: str) -> bool:
    """Whether a name means a policy that needs no learning, and not an agent's folder."""
    kind, colon, _ = name.partition(":")
    return name in _SCRIPTED or name == "diverse" or bool(colon and kind in _KINDS)


# --- plans -----------------------------------------------------------------------------------------------------------


def _plan(name: str, spec: ActionSpec) -> Plan:
    if name == "diverse":
        return partial(_diverse, spec)
    kind, _, rest = name.partition(":")
    if kind == "constant":
        return partial(_constant, _numbers(rest, spec, name) if spec.kind == "box" else _action(rest, spec))
    if kind == "cycle":
        return partial(_cycle, [(_action(a, spec), _steps(count, name)) for a, count in _parts(rest, name)])
    if kind == "hold":
        probability, comma, odds = rest.partition(",")
        return partial(_hold, spec, _probability(probability, name), _odds(odds, spec, name) if comma else None)
    if kind == "odds":
        return partial(_hold, spec, 0.0, _odds(rest, spec, name))
    raise ValueError(
        f"unknown policy {name!r}. Policies are {FORMS}.{did_you_mean(kind, (*_SCRIPTED, *_KINDS, 'diverse'))}"
    )


def _constant(action: np.ndarray | int, rng: np.random.Generator) -> Iterator[np.ndarray | int]:
    return repeat(action)


def _cycle(turns: Sequence[tuple[int, int]], rng: np.random.Generator) -> Iterator[int]:
    return cycle([action for action, steps in turns for _ in range(steps)])


def _hold(
    spec: ActionSpec, probability: float, odds: np.ndarray | None, rng: np.random.Generator
) -> Iterator[np.ndarray | int]:
    while True:
        if spec.kind == "box":
            action: np.ndarray | int = rng.uniform(spec.low, spec.high).astype(np.float32)
        else:
            action = int(rng.choice(spec.n, p=odds))
        yield action
        while rng.random() < probability:
            yield action


def _diverse(spec: ActionSpec, rng: np.random.Generator) -> Iterator[np.ndarray | int]:
    """A hold probability and odds of its own for every episode; some episodes are constant, some cycles."""
    share = rng.random()
    shortest, longest = (np.log(1.0 / (1.0 - hold)) for hold in _HOLDS)
    probability = 1.0 - np.exp(-rng.uniform(shortest, longest))
    if spec.kind == "box":
        if share < _CONSTANT_SHARE:
            return repeat(rng.uniform(spec.low, spec.high).astype(np.float32))
        return _hold(spec, probability, None, rng)
    if share < _CONSTANT_SHARE:
        return _constant(int(rng.integers(spec.n)), rng)
    if share < _CONSTANT_SHARE + _CYCLE_SHARE and spec.n > 1:
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


def _action(text: str, spec: ActionSpec) -> int:
    if spec.kind == "box":
        raise ValueError(
            f"actions are {spec.n} real numbers here, which have no names: use constant:NUMBER,…, hold:P, random or "
            "diverse"
        )
    if text in spec.names:
        return spec.names.index(text)
    if text.isdecimal() and int(text) < spec.n:
        return int(text)
    known = spec.names or tuple(map(str, range(spec.n)))
    raise ValueError(f"unknown action {text!r}, here are {', '.join(known)}.{did_you_mean(text, known)}")


def _numbers(text: str, spec: ActionSpec, name: str) -> np.ndarray:
    """An action of a box; a number that a rounding took out of the bounds is put back."""
    numbers = np.array([_number(part, name) for part in text.split(",")])
    if len(numbers) != spec.n:
        raise ValueError(f"policy {name!r}: an action is {spec.n} numbers here, got {len(numbers)}")
    low, high = np.array(spec.low), np.array(spec.high)
    slack = 1e-5 * np.maximum(np.abs(low), np.abs(high))
    if not ((numbers >= low - slack) & (numbers <= high + slack)).all():
        raise ValueError(f"policy {name!r}: the numbers of an action must be from {spec.low} to {spec.high}")
    return np.clip(numbers, low, high).astype(np.float32)


def _steps(text: str, name: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_STEPS:
        raise ValueError(f"policy {name!r}: each action needs a whole number of steps from 1 on, got {text!r}")
    return int(text)


def _probability(text: str, name: str) -> float:
    value = _number(text, name)
    if not 0.0 <= value < 1.0:
        raise ValueError(f"policy {name!r}: the probability to repeat must be in [0, 1), got {text!r}")
    return value


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
        raise ValueError(f"policy {name!r}: {text!r} is no number") from error

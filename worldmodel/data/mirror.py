"""A store of the same play twice, as it was and as in a mirror: more to learn from where a game knows no side.

Letters: N steps of an episode, F frames of a step, H W C pixels, A numbers of an action.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from worldmodel.data import ActionSpec, Episode, EpisodeStorage
from worldmodel.data.layout import default_dataset_id
from worldmodel.errors import did_you_mean
from worldmodel.progress import progress
from worldmodel.replacing import finish_replacing, replacing


def mirror(
    store: EpisodeStorage,
    root: str | Path,
    *,
    swap: Sequence[tuple[str, str]] = (),
    negate: Sequence[str] = (),
    negate_signals: Sequence[str] = (),
) -> EpisodeStorage:
    """Write every episode of `store` and its mirrored twin to `root`, as two views of one play: they share a split.

    Args:
        store: of a game that goes on in the mirror as it does in front of it.
        root: the new store's folder; nothing is there yet.
        swap: pairs of actions that a mirror exchanges, such as ("turn_left", "turn_right"); or of an action's numbers.
        negate: an action's numbers that change their sign, such as a push to the right.
        negate_signals: signals that do, such as a position to the right of the middle. All others stay as they are.

    Returns: the new store. Episode e becomes 2 e and, mirrored, 2 e + 1.
    """
    action = store.info.action
    order, sign = _order(action, swap), _sign(action, negate)
    _check_bounds(action, order, sign)
    signal_sign = _signs(store.info.signal_names, negate_signals, "signal")
    if not len(store):
        raise ValueError(f"{store.root} holds no episodes to mirror")
    root = Path(root)
    finish_replacing(root)  # of a killed call
    if root.exists():
        raise FileExistsError(f"{root} is already there: give another folder, or delete it first")
    _check_sides(action, swap)
    info = replace(store.info, views=2 * store.info.views, test_episodes=2 * store.info.test_episodes)
    with replacing(root) as fresh, progress(len(store), "episode", "mirror") as bar:
        new = EpisodeStorage.create(fresh, info, default_dataset_id(root))
        for place, number in enumerate(store.ids.tolist()):
            episode = store.episode(place)
            new.write_block([episode, _mirrored(episode, action, order, sign, signal_sign)], 2 * number)
            bar.update(1)
        new.flush()
    return EpisodeStorage.open(root)


def _mirrored(
    episode: Episode, action: ActionSpec, order: np.ndarray, sign: np.ndarray, signal_sign: np.ndarray
) -> Episode:
    """Left and right exchanged; rewards and ends stay as they are."""
    discrete = action.kind == "discrete"
    actions = order[episode.actions] if discrete else (episode.actions * sign)[:, order]
    frames = np.ascontiguousarray(episode.frames[..., ::-1, :])
    labels = None if episode.labels is None else np.ascontiguousarray(episode.labels[..., ::-1, :])
    return replace(episode, frames=frames, actions=actions, signals=episode.signals * signal_sign, labels=labels)


def _check_sides(action: ActionSpec, swap: Sequence[tuple[str, str]]) -> None:
    """Refuse a mirror in which "turn_left" would still be called so."""
    given = {frozenset(pair) for pair in swap}
    for name in action.names:
        other = name.replace("left", "right")
        if other != name and other in action.names and frozenset((name, other)) not in given:
            raise ValueError(f"a mirror exchanges {name} and {other}: give swap {name}={other}")


def _order(action: ActionSpec, swap: Sequence[tuple[str, str]]) -> np.ndarray:
    """(n,) int64: the action, or the place of the number, that a mirror puts into the place of each."""
    order = np.arange(action.n)
    names = _names(action)
    pairs = [(_place(names, left, "action"), _place(names, right, "action")) for left, right in swap]
    places = [place for pair in pairs for place in pair]
    if len(set(places)) < len(places):
        raise ValueError(f"swap must name each action once, got {list(swap)}")
    for left, right in pairs:
        order[left], order[right] = right, left
    return order


def _sign(action: ActionSpec, negate: Sequence[str]) -> np.ndarray:
    """(n,) float32 of 1 and -1."""
    if negate and action.kind == "discrete":
        raise ValueError("negate is for actions of numbers, and this store's are discrete; use swap")
    return _signs(_names(action), negate, "action")


def _signs(names: Sequence[str], negated: Sequence[str], what: str) -> np.ndarray:
    """(len(names),) float32 of 1 and -1."""
    sign = np.ones(len(names), np.float32)
    sign[[_place(names, name, what) for name in negated]] = -1.0
    return sign


def _check_bounds(action: ActionSpec, order: np.ndarray, sign: np.ndarray) -> None:
    """Refuse a mirror behind which an action could lie outside the store's bounds."""
    if action.kind == "discrete":
        return
    bounds = np.array([action.low, action.high])
    if (np.sort(bounds * sign, axis=0)[:, order] != bounds).any():
        raise ValueError(
            "numbers that change sign must have bounds that differ by their sign alone, and those that are swapped "
            f"the same ones; the store's are {action.low} and {action.high}"
        )


def _names(action: ActionSpec) -> tuple[str, ...]:
    """Of the actions or numbers: their places from 0 where they have none."""
    return action.names or tuple(map(str, range(action.n)))


def _place(names: Sequence[str], name: str, what: str) -> int:
    if name not in names:
        has = ", ".join(names) or "none"
        raise ValueError(f"the store has no {what} {name!r}, it has {has}.{did_you_mean(name, names)}")
    return list(names).index(name)

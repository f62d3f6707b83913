"""Double a store with mirrored copies: more training data for games that are left-right symmetric.

Letters: N steps of an episode, F frames of a step, H W C pixels, A dimensions of an action.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from worldmodel.counted import counted
from worldmodel.data import ActionSpec, Episode, EpisodeStorage, open_stores
from worldmodel.data.minari import default_dataset_id, env_spec_of
from worldmodel.errors import did_you_mean
from worldmodel.progress import progress
from worldmodel.replacing import finish_replacing, replacing


def mirror(
    store: EpisodeStorage | str | Path,
    /,
    out: str | Path,
    *,
    swap: Sequence[str] = (),
    negate: Sequence[str] = (),
    negate_signals: Sequence[str] = (),
) -> EpisodeStorage:
    """Double a store with mirrored copies, for games that are left-right symmetric.

    Episode e becomes 2 e and, mirrored, 2 e + 1: two views of the same recording, which share a split.

    Args:
        store: folder of the store; it is not changed.
        out: folder of the new store.
        swap: pairs of actions, or of dimensions of an action, that a mirror exchanges, such as turn_left=turn_right.
        negate: dimensions of an action that change their sign, such as a push to the right.
        negate_signals: signals that change their sign, such as a position to the right of the middle.

    Returns: the new store, whose size is also printed.
    """
    store = open_stores(store)
    action, pairs = store.info.action, [_pair(text) for text in swap]
    order, sign = _order(action, pairs), _sign(action, negate)
    _check_bounds(action, order, sign)
    signal_sign = _signs(store.info.signal_names, negate_signals, "signal")
    if len(store.folders) > 1:
        raise ValueError(f"joined stores cannot be mirrored as one: mirror {', '.join(store.folders)} one by one")
    if not len(store):
        raise ValueError(f"{store.root} holds no episodes to mirror")
    root = Path(out)
    finish_replacing(root)  # complete an exchange cut short by a kill
    if root.exists():
        raise FileExistsError(f"{root} already exists: give another folder, or delete it first")
    _check_sides(action, pairs)
    info = replace(store.info, views=2 * store.info.views, test_episodes=2 * store.info.test_episodes)
    with replacing(root) as fresh, progress(len(store), "episode", "mirror") as bar:
        new = EpisodeStorage.create(fresh, info, default_dataset_id(root), env_spec_of(store.root))
        for index, episode_id in enumerate(store.ids.tolist()):
            episode = store.episode(index)
            new.write_block([episode, _mirrored(episode, action, order, sign, signal_sign)], 2 * episode_id)
            bar.update(1)
        new.flush()
    new = EpisodeStorage.open(root)
    print(f"{out}: {counted(len(new), 'episode')} with {counted(new.num_steps, 'step')}, every second one mirrored")
    return new


def _pair(text: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not equals:
        raise ValueError(f"swap takes pairs such as turn_left=turn_right, got {text}")
    return left, right


def _mirrored(
    episode: Episode, action: ActionSpec, order: np.ndarray, sign: np.ndarray, signal_sign: np.ndarray
) -> Episode:
    """Exchange left and right; rewards and ends stay the same."""
    discrete = action.kind == "discrete"
    actions = order[episode.actions] if discrete else (episode.actions * sign)[:, order]
    frames = np.ascontiguousarray(episode.frames[..., ::-1, :])
    labels = None if episode.labels is None else np.ascontiguousarray(episode.labels[..., ::-1, :])
    return replace(episode, frames=frames, actions=actions, signals=episode.signals * signal_sign, labels=labels)


def _check_sides(action: ActionSpec, pairs: Sequence[tuple[str, str]]) -> None:
    """Refuse a mirror that leaves an action such as "turn_left" under its old name."""
    swapped = {frozenset(pair) for pair in pairs}
    for name in action.names:
        other = name.replace("left", "right")
        if other != name and other in action.names and frozenset((name, other)) not in swapped:
            raise ValueError(f"a mirror exchanges {name} and {other}: add swap {name}={other}")


def _order(action: ActionSpec, swapped: Sequence[tuple[str, str]]) -> np.ndarray:
    """(n,) int64: for each action, or dimension, the index of its mirror image."""
    order = np.arange(action.n)
    names = _names(action)
    pairs = [(_index(names, left, "action"), _index(names, right, "action")) for left, right in swapped]
    indices = [index for pair in pairs for index in pair]
    if len(set(indices)) < len(indices):
        raise ValueError(f"swap must name each action at most once, got {list(swapped)}")
    for left, right in pairs:
        order[left], order[right] = right, left
    return order


def _sign(action: ActionSpec, negate: Sequence[str]) -> np.ndarray:
    """(n,) float32 of 1 and -1."""
    if negate and action.kind == "discrete":
        raise ValueError("negate needs continuous actions, but this store's actions are discrete; use swap")
    return _signs(_names(action), negate, "action")


def _signs(names: Sequence[str], negated: Sequence[str], what: str) -> np.ndarray:
    """(len(names),) float32 of 1 and -1."""
    sign = np.ones(len(names), np.float32)
    sign[[_index(names, name, what) for name in negated]] = -1.0
    return sign


def _check_bounds(action: ActionSpec, order: np.ndarray, sign: np.ndarray) -> None:
    """Refuse a mirror that can move an action outside the store's bounds."""
    if action.kind == "discrete":
        return
    bounds = np.array([action.low, action.high])
    if (np.sort(bounds * sign, axis=0)[:, order] != bounds).any():
        raise ValueError(
            "dimensions that change sign need symmetric bounds (low = -high), and dimensions that are swapped need "
            f"equal bounds; the store's bounds are {action.low} and {action.high}"
        )


def _names(action: ActionSpec) -> tuple[str, ...]:
    """Names of the actions or dimensions; their indices from 0 if they have none."""
    return action.names or tuple(map(str, range(action.n)))


def _index(names: Sequence[str], name: str, what: str) -> int:
    if name not in names:
        has = ", ".join(names) or "none"
        raise ValueError(f"the store has no {what} {name!r}; it has {has}.{did_you_mean(name, names)}")
    return list(names).index(name)

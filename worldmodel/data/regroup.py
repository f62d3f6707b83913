"""Change the number of frames per step of a store, for tokenizers with another temporal stride.

Letters: N steps of an episode, F frames of a step, H W C pixels.
"""

from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np

from worldmodel.data import Episode, EpisodeStorage
from worldmodel.data.minari import default_dataset_id, env_spec_of
from worldmodel.progress import progress
from worldmodel.replacing import finish_replacing, replacing


def regroup(store: EpisodeStorage, root: str | Path, frames_per_step: int, max_steps: int | None = None) -> Path:
    """Write the first episodes of `store`, with at least `max_steps` of its steps in total, to `root`; None: all.

    Episodes keep their splits. An existing store in `root` is kept; a half-written one is written from scratch.

    Returns: `root`.
    """
    root = Path(root)
    finish_replacing(root)  # complete an exchange cut short by a kill
    if root.exists():
        return root
    enough = store.num_steps if max_steps is None else min(max_steps, store.num_steps)
    taken = 0
    with replacing(root) as fresh, progress(enough, "step", root.name) as bar:
        info = replace(store.info, frames_per_step=frames_per_step)
        new = EpisodeStorage.create(fresh, info, default_dataset_id(root), env_spec_of(store.root))
        for index in count():
            if taken >= enough:
                break
            new.append(regroup_episode(store.episode(index), frames_per_step))
            bar.update(min(store.lengths[index], enough - taken))
            taken += store.lengths[index]
        new.flush()
    return root


def regroup_episode(episode: Episode, frames_per_step: int) -> Episode:
    """The same frames in steps of another length; drops frames at the end that do not fill a step.

    The parts of a split step all get its action, since it was held throughout; the last part gets its reward. A merged
    step gets the action of its last part and the sum of the rewards.
    """
    old = episode.frames.shape[1]
    if old == frames_per_step:
        return episode
    if old % frames_per_step and frames_per_step % old:
        raise ValueError(
            f"steps of {old} frames cannot be split into or merged to steps of {frames_per_step}: neither number "
            "divides the other; collect episodes with another frames_per_step"
        )
    parts, merged = max(1, old // frames_per_step), max(1, frames_per_step // old)
    steps = episode.num_steps // merged * merged
    if not steps:
        raise ValueError(f"an episode of {episode.num_steps} steps is too short to merge {merged} of them")
    moving = episode.frames[1 : steps + 1].reshape(-1, frames_per_step, *episode.frames.shape[2:])
    first = np.repeat(episode.frames[:1, -1:], frames_per_step, axis=1)
    rewards = np.zeros((steps // merged, parts), np.float32)
    rewards[:, -1] = episode.rewards[:steps].reshape(-1, merged).sum(1)
    signals = episode.signals[::merged][: steps // merged + 1]
    return replace(
        episode,
        frames=np.concatenate((first, moving)),
        actions=np.repeat(episode.actions[merged - 1 : steps : merged], parts, axis=0),
        rewards=rewards.reshape(-1),
        signals=np.concatenate((signals[:1], np.repeat(signals[1:], parts, axis=0))),
    )

"""Change the number of frames per step of a store, for tokenizers with another temporal stride.

Letters: N steps of an episode, K clips of T steps, F frames of a step, H W C pixels, A size of a continuous action.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.data import ActionSpec, Episode, EpisodeStorage
from worldmodel.data.minari import default_dataset_id, env_spec_of
from worldmodel.progress import progress
from worldmodel.replacing import finish_replacing, replacing


def regroup(store: EpisodeStorage, root: str | Path, frames_per_step: int, max_steps: int | None = None) -> Path:
    """Write the first episodes of `store`, with at least `max_steps` of its steps in total, to `root`; None: all.

    Episodes keep their ids and splits. An existing store in `root` is kept; a half-written one is written from scratch.

    Returns: `root`.
    Raises:
        ValueError: for joined stores, whose ids are not unique; or `root` holds a store of other steps or another game.
        FileExistsError: `root` holds something else than a store.
    """
    root = Path(root)
    if len(store.folders) > 1:
        raise ValueError(f"joined stores cannot be regrouped as one: regroup {', '.join(store.folders)} one by one")
    finish_replacing(root)  # complete an exchange cut short by a kill
    if (root / "data" / "metadata.json").is_file():
        found = EpisodeStorage.open(root).info
        if (found.env_id, found.frames_per_step) != (store.info.env_id, frames_per_step):
            raise ValueError(
                f"{root} holds a store of {found.env_id} with {found.frames_per_step} frames per step, wanted "
                f"{store.info.env_id} with {frames_per_step}: give another folder, or delete it"
            )
        return root
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(f"{root} is not a store, and would be replaced: give another folder")
    enough = store.num_steps if max_steps is None else min(max_steps, store.num_steps)
    taken = 0
    with replacing(root) as fresh, progress(enough, "step", root.name) as bar:
        old = store.info
        action = regroup_action(old.action, old.frames_per_step, frames_per_step)
        speed = old.steps_per_second * old.frames_per_step / frames_per_step
        info = replace(old, frames_per_step=frames_per_step, action=action, steps_per_second=speed)
        new = EpisodeStorage.create(fresh, info, default_dataset_id(root), env_spec_of(store.root))
        for index, episode_id in enumerate(store.ids.tolist()):
            if taken >= enough:
                break
            new.write_pending(regroup_episode(store.episode(index), frames_per_step, old.action), episode_id)
            bar.update(min(store.lengths[index], enough - taken))
            taken += store.lengths[index]
        new.flush()
    return root


def suits(old: int, new: int) -> bool:
    """True if steps of `old` frames can be split into or merged to steps of `new`."""
    return old % new == 0 or new % old == 0


def regroup_action(action: ActionSpec, old: int, new: int) -> ActionSpec:
    """The actions of steps of `new` frames that were steps of `old`: continuous ones of merged steps are all kept."""
    if action.kind == "discrete" or old == new or (action.frames == 1 and new < old):
        return action
    one = action.held
    names = tuple(f"{name}_{frame}" if new > 1 else name for frame in range(new) for name in one.names)
    return ActionSpec(kind="box", n=one.n * new, names=names, low=one.low * new, high=one.high * new, frames=new)


def regroup_episode(episode: Episode, frames_per_step: int, action: ActionSpec) -> Episode:
    """The same frames in steps of another length.

    The parts of a split step all get its action if that was held throughout, else that of their own frames; the last
    part gets the step's reward. A merged step gets the sum of the rewards and, of discrete actions, the last part's; a
    continuous one becomes the vector of the actions of all its frames. If the last merged step lacks frames, the last
    frame and its action are repeated, so that the end keeps its frame and its reward.
    """
    old = episode.frames.shape[1]
    if old == frames_per_step:
        return episode
    if not suits(old, frames_per_step):
        raise ValueError(
            f"steps of {old} frames cannot be split into or merged to steps of {frames_per_step}: neither number "
            "divides the other; collect episodes with another frames_per_step"
        )
    parts, merged = max(1, old // frames_per_step), max(1, frames_per_step // old)
    episode = _filled(episode, -episode.num_steps % merged, action)
    steps = episode.num_steps
    rewards = np.zeros((steps // merged, parts), np.float32)
    rewards[:, -1] = episode.rewards.reshape(-1, merged).sum(1)
    signals = episode.signals[::merged]
    if action.kind == "discrete":
        actions = np.repeat(episode.actions[merged - 1 :: merged], parts, axis=0)
    elif action.frames == 1 and parts > 1:
        actions = np.repeat(episode.actions, parts, axis=0)
    else:
        held = old if action.frames == 1 else 1  # frames of an action
        each = np.repeat(episode.actions.reshape(-1, action.held.n), held, axis=0)  # per frame
        actions = each.reshape(-1, action.held.n * frames_per_step)
    return replace(
        episode,
        frames=_regroup_images(episode.frames, frames_per_step),
        actions=actions,
        rewards=rewards.reshape(-1),
        signals=np.concatenate((signals[:1], np.repeat(signals[1:], parts, axis=0))),
        labels=None if episode.labels is None else _regroup_images(episode.labels, frames_per_step),
    )


def _filled(episode: Episode, missing: int, action: ActionSpec) -> Episode:
    """The episode with `missing` more steps, in which its last frame stands still and its last action is held."""
    if not missing:
        return episode

    def still(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.concatenate((images, images[-1:, -1:].repeat(missing, axis=0).repeat(images.shape[1], axis=1)))

    held = episode.actions[-1:]
    if action.frames > 1:
        held = np.tile(held[:, -action.held.n :], action.frames)
    return replace(
        episode,
        frames=still(episode.frames),
        actions=np.concatenate((episode.actions, held.repeat(missing, axis=0))),
        rewards=np.pad(episode.rewards, (0, missing)),
        signals=np.concatenate((episode.signals, episode.signals[-1:].repeat(missing, axis=0))),
        labels=None if episode.labels is None else still(episode.labels),
    )


def _regroup_images(images: NDArray[np.uint8], frames_per_step: int) -> NDArray[np.uint8]:
    """Frames or labels (N + 1, F, H, W, …) in steps of another length."""
    first = np.repeat(images[:1, -1:], frames_per_step, axis=1)
    return np.concatenate((first, images[1:].reshape(-1, frames_per_step, *images.shape[2:])))


def regroup_clips(frames: Tensor, frames_per_step: int) -> Tensor:
    """The same clips (K, T, F, H, W, C), cut into steps of another length."""
    return frames.flatten(1, 2).unflatten(1, (-1, frames_per_step))


def regroup_clip_actions(actions: Tensor, action: ActionSpec, old: int, new: int) -> Tensor:
    """The actions (K, T-1, …) of clips with steps of `old` frames, for the same clips with steps of `new` frames.

    They are those of `regroup_episode`. The action of the first step is not in a clip: where that step is split, zeros
    stand between its parts.
    """
    if action.kind == "box" and (new > old or action.frames > 1):
        held, size = old if action.frames == 1 else 1, action.held.n
        each = actions.flatten(2).unflatten(2, (-1, size)).flatten(1, 2).repeat_interleave(held, dim=1)  # per frame
        each = torch.cat((each.new_zeros(len(each), old, size), each), dim=1)
        return each[:, new:].unflatten(1, (-1, new)).flatten(2)
    if new >= old:
        merged = new // old
        return actions[:, 2 * merged - 2 :: merged]
    parts = old // new
    first = torch.zeros_like(actions[:, :1]).repeat_interleave(parts - 1, dim=1)
    return torch.cat((first, actions.repeat_interleave(parts, dim=1)), dim=1)

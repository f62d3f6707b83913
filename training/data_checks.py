"""Checks of recorded play before dynamics are trained on it.

What would waste a training is refused or reported before anything is encoded.
"""

import math

import numpy as np

from worldmodel.counted import counted
from worldmodel.data import EpisodeStorage
from worldmodel.dynamics import GPTConfig
from worldmodel.model.network import default_segment_steps
from worldmodel.tokenizer import TokenizerConfig


def check_lengths(
    store: EpisodeStorage, tokenizer: TokenizerConfig, segment: int, start_steps: int, frame_condition: int = 0
) -> None:
    """Refuse, before any coding, segments that are padding for the most part, and starts that no episode holds.

    So are starts of fewer steps than the `frame_condition` from whose frames the model dreams.
    """
    longest = max((store.lengths[e] for e in store.split("train")), default=0)
    if not longest:
        raise ValueError(f"the train split of {counted(len(store), 'episode')} is empty; record or import more")
    if tokenizer.temporal != "step":  # clips that do not fit are reported where they are coded
        return
    if segment > max(longest, default_segment_steps(GPTConfig(), tokenizer)):
        raise ValueError(f"segment must be at most the {longest} steps of the longest training episode, got {segment}")
    if start_steps < frame_condition:
        raise ValueError(
            f"start_steps must be at least the frame_condition of {frame_condition} steps that a dream is given, got "
            f"{start_steps}"
        )
    if start_steps > longest:
        raise ValueError(f"start_steps must be at most the {longest} steps of the longest episode, got {start_steps}")


def check_limit(store: EpisodeStorage, limit: float) -> None:
    """Print which rewards and signal changes of the train split exceed `limit` and will be learned as `limit`."""
    episodes = store.split("train").tolist()
    largest = {"rewards": max((float(np.abs(store.rewards(e)).max()) for e in episodes), default=0.0)}
    for place, name in enumerate(store.info.signal_names):
        changes = (np.abs(np.diff(store.signals(e)[:, place])) for e in episodes)
        largest[f"changes of {name} in a step"] = max((float(change.max()) for change in changes), default=0.0)
    for what, value in largest.items():
        if value > limit:
            print(
                f"dynamics: {what} reach {value:g} in this play; beyond heads.limit = {limit:g} they are learned as "
                f"{limit:g}. To distinguish them, set heads.limit = {math.ceil(value)}"
            )

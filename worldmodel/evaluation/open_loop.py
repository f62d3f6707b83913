"""Open-loop dreams that continue real episodes with the recorded actions, and how long they stay close to reality.

Letters: K dreams, T context and dreamt steps, N dreamt steps, F frames of a step, H W C pixels.
"""

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.data import Batch, EpisodeStorage, SegmentId
from worldmodel.data.clips import draw_clips
from worldmodel.evaluation.metrics import psnr, ssim
from worldmodel.evaluation.scores import encode_decode, sampled
from worldmodel.model import WorldModel
from worldmodel.statistics import grouped_mean_with_interval

DREAMT_STEPS = 16


class Dreams(NamedTuple):
    """Real episodes, their reconstruction, and dreams of the same steps; all on the CPU."""

    batch: Batch  # real episodes, K rows, T steps of frames
    reconstruction: Tensor  # (K, T, F, H, W, C) uint8
    dream: Tensor  # (K, T, F, H, W, C) uint8; the context steps are decoded from codes
    context_steps: int  # context steps, maybe 0; T - context_steps are dreamt
    segments: Sequence[SegmentId]  # K, where the real steps are in their store

    @property
    def real(self) -> Tensor:
        """(K, T, F, H, W, C) uint8."""
        return self.batch.frames


def open_loop(
    wm: WorldModel,
    store: EpisodeStorage,
    split: str,
    num_starts: int,
    context_steps: int,
    temperature: float,
    seed: int = 0,
    num_steps: int = DREAMT_STEPS,
) -> Dreams:
    """Dream `num_steps` from real starts with the recorded actions, beside what really happened.

    See `given_steps` for the allowed `context_steps`, and `draw_clips` for the starts.
    """
    # n context or dreamt steps lie between n - 1 actions.
    segments = draw_clips(store, num_starts, context_steps + num_steps - 1, np.random.default_rng(seed), split)
    return dream_along(wm, store, segments, context_steps, temperature, seed)


def dream_along(
    wm: WorldModel,
    store: EpisodeStorage,
    segments: Sequence[SegmentId],
    context_steps: int,
    temperature: float,
    seed: int = 0,
) -> Dreams:
    """`open_loop` on given segments of equal length."""
    batch = store.batch(segments)
    _, reconstruction = encode_decode(wm.tokenizer, batch.frames, wm.device)
    dream = dream_on(wm, batch, batch.actions, context_steps, temperature, seed)
    return Dreams(batch, reconstruction, dream, context_steps, segments)


def eventful_segments(
    store: EpisodeStorage,
    split: str,
    count: int,
    context_steps: int,
    num_steps: int = DREAMT_STEPS,
    seed: int = 0,
) -> list[SegmentId]:
    """Segments for `dream_along` in which something happens, chosen by the recorded rewards alone.

    In each, a rare positive reward (rewards above 0 in less than a tenth of the split's steps) comes 4 to 14 steps
    after the context; no reward is used twice. If there are fewer than `count`, the rest is drawn from all segments.
    """
    rng = np.random.default_rng(seed)
    total = context_steps + num_steps - 1  # n context or dreamt steps lie between n - 1 actions
    rewarded = {int(e): np.flatnonzero(store.rewards(int(e)) > 0) for e in store.split(split)}
    events = [(episode, int(t)) for episode, times in rewarded.items() for t in times]
    chosen: list[SegmentId] = []
    if len(events) >= 0.1 * sum(store.lengths[e] for e in rewarded):
        events = []  # not rare
    for index in rng.permutation(len(events)).tolist():
        episode, t = events[index]
        # The reward of action t comes with the k-th step after the context if the segment starts here.
        starts = [t - (context_steps + k - 2) for k in range(4, min(14, num_steps) + 1)]
        starts = [start for start in starts if 0 <= start <= store.lengths[episode] - total]
        if starts and len(chosen) < count:
            start = int(rng.choice(starts))
            chosen.append(SegmentId(episode, start, start + total))
    missing = count - len(chosen)
    return chosen + (store.sample_ids(missing, total, rng, split) if missing else [])


def check_long_enough(store: EpisodeStorage, split: str, given: int, dreamt: int, dreamt_name: str = "horizon") -> None:
    """ValueError if no episode of the split has this many context and dreamt steps; names the settings to lower."""
    longest = max((store.lengths[e] + 1 for e in store.split(split)), default=0)
    if 0 < longest < given + dreamt:
        option = dreamt_name.replace("_", "-")
        raise ValueError(
            f"{given} context and {dreamt} dreamt steps are more than the {longest} of the longest episode in split "
            f"{split!r}; lower context_steps (--context-steps) or {dreamt_name} (--{option})"
        )


def steps_that_fit(store: EpisodeStorage, split: str, context_steps: int) -> tuple[int, int]:
    """Given and dreamt steps: `context_steps` and 16.

    If no episode is long enough, a fourth of the longest one is given and the rest dreamt.
    """
    episodes = store.split(split)
    if not len(episodes):
        raise ValueError(f"split {split!r} of {store.root} has no episode to dream of; collect more or choose another")
    longest = max(store.lengths[episode] for episode in episodes)
    if context_steps + DREAMT_STEPS - 1 > longest:
        context_steps = max(longest // 4, 1)
        return context_steps, longest + 1 - context_steps
    return context_steps, DREAMT_STEPS


def given_steps(wm: WorldModel, context_steps: int) -> int:
    """Number of context steps of a dream for which `context_steps` are requested.

    At least those of the model's frame_condition. Exactly those with a clip tokenizer, whose codes would reveal what
    follows a step, so that the context is given as frames, as steps coded alone, or not at all. A fourth of the longest
    video, if the model makes none of more than `context_steps`.
    """
    first = wm.dynamics.given_steps or wm.config.dynamics.frame_condition
    if wm.config.tokenizer.temporal == "clip":
        return first
    given, longest = max(context_steps, first), wm.longest_video
    return given if longest is None or given < longest else max(longest // 4, 1)


def dreamt_steps(wm: WorldModel, given: int, horizon: int) -> int:
    """Number of dreamt steps after `given` ones for which `horizon` are requested: as far as the model's videos go."""
    return horizon if wm.longest_video is None else min(horizon, wm.longest_video - given)


def model_steps_that_fit(wm: WorldModel, store: EpisodeStorage, split: str, context_steps: int) -> tuple[int, int]:
    """Asked and dreamt steps as `steps_that_fit`, for a model that is given more, or dreams to the end of a clip."""
    context_steps, horizon = steps_that_fit(store, split, context_steps)
    given = given_steps(wm, context_steps)
    if wm.config.tokenizer.temporal == "clip":
        return context_steps, max(horizon, wm.config.tokenizer.clip_steps - given)
    longest = max(store.lengths[episode] for episode in store.split(split))
    return given, max(1, min(horizon, longest + 1 - given))


def swapped_actions(batch: Batch, context_steps: int) -> Tensor:
    """The batch's actions (K, T-1, …) with the dreamt part taken from the next row: similar play, other actions."""
    actions, first = batch.actions.clone(), max(context_steps - 1, 0)
    actions[:, first:] = actions[:, first:].roll(1, dims=0)
    return actions


def dream_on(
    wm: WorldModel, batch: Batch, actions: Tensor, context_steps: int, temperature: float, seed: int = 0
) -> Tensor:
    """Dreams for evaluation, beginning with the context steps: (K, T, F, H, W, C) uint8 on the CPU.

    Args:
        batch: real episodes, of which the first `context_steps` steps are the context.
        actions: (K, T-1) or (K, T-1, A), those between the context steps, then those to dream with; ignored if
            the model has no action conditioning.
        seed: row k draws from seed + k, so a dream does not depend on the other rows.
    """
    frames = batch.frames[:, :context_steps] if context_steps else None
    reads = wm.config.dynamics.action_condition != "none"
    given = frames, actions if reads else None
    return sampled(wm, len(actions), actions.shape[1] + 1, seed, *given, temperature=temperature)


def dream_freely(wm: WorldModel, count: int, steps: int, temperature: float, seed: int = 0) -> Tensor:
    """Dreams from nothing, without actions: (K, T, F, H, W, C) uint8 on the CPU. ValueError if the model cannot."""
    return sampled(wm, count, steps, seed, temperature=temperature)


def by_step(dreams: Dreams, metric: Callable[[Tensor, Tensor], float]) -> dict[str, list[float]]:
    """A metric of images (higher is better) at each dreamt step.

    Beside "dream" stand "copy", repeating the last given frame, which a useful dream beats, and "reconstruction", the
    tokenizer's picture of the truth, which no dream can be expected to beat.
    """
    given = dreams.context_steps
    last_frame = dreams.real[:, given - 1, -1:]  # (K, 1, H, W, C)
    curves: dict[str, list[float]] = {"dream": [], "copy": [], "reconstruction": []}
    for step in range(given, dreams.real.shape[1]):
        truth = dreams.real[:, step]  # (K, F, H, W, C)
        curves["dream"].append(metric(truth, dreams.dream[:, step]))
        curves["copy"].append(metric(truth, last_frame.expand_as(truth)))
        curves["reconstruction"].append(metric(truth, dreams.reconstruction[:, step]))
    return curves


def psnr_sureness(dreams: Dreams, plays: NDArray[np.int64]) -> dict[str, list[float]]:
    """How sure the PSNR by dreamt step is, in dB; clips of the same play (`store.plays`) count as one.

    Returns: "half_width" of the dream's mean (95 %); "gain", the dream's less that of copying, and "gain_half_width".
    """
    given, groups = dreams.context_steps, plays[[segment.episode for segment in dreams.segments]]
    last_frame = dreams.real[:, given - 1, -1:]
    found: dict[str, list[float]] = {"half_width": [], "gain": [], "gain_half_width": []}
    for truth, dream in zip(dreams.real[:, given:].unbind(1), dreams.dream[:, given:].unbind(1), strict=True):
        ours, copied = (_each(truth, guess) for guess in (dream, last_frame.expand_as(truth)))
        found["half_width"].append(grouped_mean_with_interval(ours, groups)[1])
        gain, half_width = grouped_mean_with_interval(ours - copied, groups)
        found["gain"].append(gain)
        found["gain_half_width"].append(half_width)
    return found


def _each(truth: Tensor, guess: Tensor) -> NDArray[np.float64]:
    """(K,) PSNR of each row of (K, F, H, W, C)."""
    return np.array([psnr(*rows) for rows in zip(truth, guess, strict=True)])


def usable_horizon(curves: dict[str, list[float]]) -> int:
    """Number of dreamt steps, from the first, that beat copying the last context frame; 0 if the first does not."""
    beats = (dream > copy for dream, copy in zip(curves["dream"], curves["copy"], strict=True))
    return len(list(takewhile(bool, beats)))


def open_loop_scores(dreams: Dreams, plays: NDArray[np.int64]) -> dict[str, Any]:
    """PSNR and SSIM at every dreamt step, how many steps they beat copying the last given frame, and how sure it is."""
    curves = {"psnr_db": by_step(dreams, psnr), "ssim": by_step(dreams, ssim)}
    horizons = {f"usable_horizon_{name}": usable_horizon(curve) for name, curve in curves.items()}
    return curves | horizons | {"psnr_sureness": psnr_sureness(dreams, plays)}

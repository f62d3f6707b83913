"""Frechet distances of dreams to real clips: on features of the inverse-dynamics network, and of I3D (FVD).

Letters: K dreams, T context and dreamt steps, F frames of a step, H W C pixels, E features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodel.data import EpisodeStorage
from worldmodel.data.clips import other_clips
from worldmodel.dynamics import Sampling
from worldmodel.dynamics.generation import check_request
from worldmodel.evaluation.frechet import frechet_distance
from worldmodel.evaluation.fvd import CLIP_FRAMES, fvd_scores, i3d_logits
from worldmodel.evaluation.inverse_dynamics import InverseDynamics, read
from worldmodel.evaluation.open_loop import Dreams, dream_freely
from worldmodel.model import WorldModel


def inverse_dynamics_distances(
    judge: InverseDynamics,
    features: Mapping[str, Tensor],
    dreams: Dreams,
    more: Sequence[Tensor],
    store: EpisodeStorage,
    split: str,
    seed: int,
) -> dict[str, Any]:
    """Distances to real clips on features of the inverse-dynamics network; not comparable to any FVD.

    Args:
        features: features of "real", "dream" and "reconstruction" from `control_scores`.
        more: the dreams drawn again, (K, T, F, H, W, C) uint8 each.
        split: split of the store from which `dreams` and the other real clips ("other_real") are drawn.

    Returns: the distances; "dream_by_sampling" holds that of every draw of the dreams; "floor" describes the other real
    clips, or says why there are none and their distance is None.
    """
    first = max(dreams.context_steps, 1) - 1
    steps = dreams.real.shape[1] - 1 - first  # transitions that count in a dream
    floor = other_clips(store, dreams.segments, steps, np.random.default_rng(seed + 1), split)
    compared = {name: features[name] for name in ("dream", "reconstruction")}
    if floor.segments:
        compared["other_real"] = read(judge, store.batch(floor.segments).frames)[1]
    real = features["real"]
    distances = {name: frechet_distance(each, real) for name, each in compared.items()}
    others = [frechet_distance(read(judge, dream[:, first:])[1], real) for dream in more]
    distances_by_sampling = {"dream_by_sampling": [distances["dream"], *others]}
    about = {"floor": floor.source, "clips": len(dreams.real), "transitions": len(real), "features": real.shape[1]}
    return {"other_real": None} | distances | distances_by_sampling | about


def fvd_section(
    i3d: torch.jit.ScriptModule | None, dreams: Dreams, more: Sequence[Tensor], device: torch.device
) -> dict[str, Any]:
    """FVD, R-FVD and FVD* on the 16 frames that begin with the last context step; or {"absent": reason}.

    `more`: the dreams drawn again; "fvd_by_sampling" holds the FVD of every draw.
    """
    if i3d is None:
        return {"absent": "no I3D file was given (--i3d PATH)"}
    first = max(dreams.context_steps - 1, 0)
    videos = (dreams.real, dreams.reconstruction, dreams.dream)
    real, reconstruction, samples = (_fvd_clips(video[:, first:]) for video in videos)
    if real.shape[1] < CLIP_FRAMES:
        fewer = "; give fewer context steps (--context-steps 1)" if first else ""
        return {"absent": f"FVD reads {CLIP_FRAMES} frames, and a clip of this model has {real.shape[1]}{fewer}"}
    given = dreams.real.shape[2] if dreams.context_steps else 0  # frames of one step
    scores = fvd_scores(i3d, real, reconstruction, samples, device)
    others = []
    if more:
        logits = i3d_logits(i3d, real, device)
        others = [frechet_distance(i3d_logits(i3d, _fvd_clips(dream[:, first:]), device), logits) for dream in more]
    return scores | {"given_frames": given, "fvd_by_sampling": [scores["fvd"], *others]}


def _fvd_clips(video: Tensor) -> Tensor:
    """Steps (K, T, F, H, W, C) -> the frames that FVD reads (K, 16, H, W, C), or fewer if there are no more."""
    return video.flatten(1, 2)[:, :CLIP_FRAMES]


def unconditional_distances(
    wm: WorldModel,
    dreams: Dreams,
    judge: InverseDynamics,
    real_features: Tensor,
    i3d: torch.jit.ScriptModule | None,
    temperature: float,
    seed: int,
) -> dict[str, Any]:
    """Distances of dreams from nothing to the real clips that `dreams` are compared with."""
    try:
        check_request(wm.config.dynamics, False, False, Sampling())
    except ValueError as error:
        return {"absent": str(error)}
    real = dreams.real[:, max(dreams.context_steps - 1, 0) :]
    if dreams.context_steps or wm.config.dynamics.action_condition != "none":
        video = dream_freely(wm, len(real), real.shape[1], temperature, seed)
    else:  # the other dreams were given nothing either
        video = dreams.dream
    scores = {"steps": real.shape[1], "idm_fd": frechet_distance(read(judge, video)[1], real_features)}
    clips = [_fvd_clips(part) for part in (video, real)]
    if i3d is not None and clips[0].shape[1] == CLIP_FRAMES:
        scores["fvd"] = frechet_distance(*(i3d_logits(i3d, part, wm.device) for part in clips))
    return scores

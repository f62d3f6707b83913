"""All measurements of a world model that need no agent: tokenizer, prior, dreams against reality, control, distances.

Letters: K dreams, T given and dreamt steps, F frames of a step, H W C pixels. docs/evaluation.md explains the numbers.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.data import EpisodeStorage
from worldmodel.data.clips import other_clips
from worldmodel.dynamics import Sampling
from worldmodel.dynamics.generation import check_request
from worldmodel.evaluation.danger_probe import danger_probe
from worldmodel.evaluation.dreamt_objects import dreamt_objects
from worldmodel.evaluation.frechet import frechet_distance
from worldmodel.evaluation.fvd import CLIP_FRAMES, fvd_scores, i3d_logits, load_i3d
from worldmodel.evaluation.held_out import (
    change_scores,
    check_measurable,
    encode_segments,
    prior_scores,
    real_codes,
    tokenizer_scores,
)
from worldmodel.evaluation.inverse_dynamics import (
    InverseDynamics,
    InverseDynamicsConfig,
    action_score,
    blind_score,
    read,
    train_inverse_dynamics,
)
from worldmodel.evaluation.metrics import psnr, ssim
from worldmodel.evaluation.object_recall import object_recall
from worldmodel.evaluation.open_loop import (
    Dreams,
    by_step,
    check_long_enough,
    dream_freely,
    dream_on,
    given_steps,
    open_loop,
    psnr_sureness,
    swapped_actions,
    usable_horizon,
)
from worldmodel.evaluation.scores import code_use
from worldmodel.layers.defaults import own_defaults
from worldmodel.model import WorldModel
from worldmodel.settings import check_settings


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEvaluation:
    """What is measured, on how much."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    split: str = "test"  # held-out play; thresholds, shares and the inverse dynamics come from the train split
    samples: int = 256  # dreams, and real clips beside them; FVDs of papers are on 256
    context_steps: int = 8  # real steps that a dream is given before it goes on alone; see `dreams.given_steps`
    horizon: int = 16  # dreamt steps; at most a clip for models that can make no more
    temperature: float = 1.0
    max_segments: int = 512  # segments for the losses, and steps for the tokenizer
    object_steps: int = 2048  # steps whose objects are looked for, in stores with labels
    object_dreams: int = 64  # dreams whose objects are counted, in stores with labels
    object_horizon: int = 64  # steps of these dreams, if the episodes are long enough
    danger_steps: int = 4096  # steps of the train split for the probes of coming hits, in stores with HEALTH
    inverse_dynamics: InverseDynamicsConfig = field(default_factory=InverseDynamicsConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"samples": 2, "context_steps": 1, "horizon": 1, "max_segments": 2, "object_steps": 2}
        check_settings(self, least=least | {"object_dreams": 2, "object_horizon": 1, "danger_steps": 4})


@own_defaults
def evaluate_model(
    wm: WorldModel, store: EpisodeStorage, config: ModelEvaluation | None = None, i3d: str | Path | None = None
) -> dict[str, Any]:
    """Measure a world model on held-out play.

    Args:
        wm: prepared for dreaming (`from_pretrained`, or `wm.prepare()`).
        store: play of the game that it was learned from.
        i3d: TorchScript file of an I3D network; without it there is no FVD.

    Returns: the sections "settings", "tokenizer", "objects", "dreamt_objects", "danger", "prior", "horizon", "control",
    "idm_fd", "fvd" and "unconditional"; one that does not apply to this model or store is {"absent": why}.
    """
    config = config or ModelEvaluation()
    check_measurable(wm, store)
    given, horizon = _sizes(wm, config)
    network = None if i3d is None else load_i3d(i3d, wm.device)
    if network is not None and (asked := (config.horizon + min(given, 1)) * wm.frames_per_step) < CLIP_FRAMES:
        raise ValueError(
            f"FVD reads {CLIP_FRAMES} frames, and {'a given step and ' if given else ''}a horizon of {config.horizon} "
            f"steps have {asked}; ask for a longer horizon"
        )
    split, seed = config.split, config.seed
    check_long_enough(store, split, given, horizon)
    dreams = open_loop(wm, store, split, config.samples, given, config.temperature, seed, horizon)
    held_out = encode_segments(wm, store, split, config.max_segments, seed)
    train = encode_segments(wm, store, "train", config.max_segments, seed)
    judge = train_inverse_dynamics(store, config.inverse_dynamics, wm.device)
    control, features = _control(wm, dreams, judge, config)
    steps = dreams.real.shape[1] - max(given, 1)  # transitions that count in a dream
    floor = other_clips(store, dreams.segments, steps, np.random.default_rng(seed + 1), split)
    if floor.segments:
        features["other_real"] = read(judge, store.batch(floor.segments).frames)[1]
    return {
        "settings": {
            "env_id": wm.config.env_id,
            "split": split,
            "dreams": config.samples,
            "clips": len(set(dreams.segments)),
            "episodes": len({segment.episode for segment in dreams.segments}),
            "context_steps": given,
            "horizon": horizon,
            "temperature": config.temperature,
            "frames_per_step": wm.frames_per_step,
            "seed": seed,
        },
        "tokenizer": tokenizer_scores(wm, store, split, config.max_segments, seed)
        | change_scores(wm, store, split, config.max_segments, seed)
        | code_use(real_codes(held_out), wm.tokenizer.num_codes),
        **_objects(wm, store, config),
        "danger": danger_probe(wm.tokenizer, store, config.danger_steps, seed),
        "prior": prior_scores(wm, held_out, train),
        "horizon": horizon_scores(dreams, store.plays)
        if given
        else {"absent": "the model can be given no step to go on from"},
        "control": control,
        "idm_fd": _idm_fd(features, config.samples, floor.source),
        "fvd": fvd_section(network, dreams, wm.device),
        "unconditional": _unconditional(wm, dreams, judge, features["real"], network, config),
    }


def _objects(wm: WorldModel, store: EpisodeStorage, config: ModelEvaluation) -> dict[str, Any]:
    """The sections "objects" and "dreamt_objects"."""
    if not store.info.label_names:
        absent = {"absent": "the play has no labels of objects (collect --labels)"}
        return {"objects": absent, "dreamt_objects": absent}
    dreamt = dreamt_objects(
        wm,
        store,
        config.split,
        config.object_dreams,
        config.context_steps,
        config.object_horizon,
        config.temperature,
        config.seed,
    )
    return {
        "objects": object_recall(wm.tokenizer, store, config.split, config.object_steps, config.seed),
        "dreamt_objects": dreamt,
    }


def _sizes(wm: WorldModel, config: ModelEvaluation) -> tuple[int, int]:
    """Given and dreamt steps, as many of those asked for as the model can make."""
    given, horizon = given_steps(wm, config.context_steps), config.horizon
    if wm.config.tokenizer.temporal == "clip":
        length = wm.config.tokenizer.clip_steps
        if not given:  # such a model makes single clips
            horizon = min(horizon, length)
        if given + horizon < length:
            raise ValueError(
                f"the tokenizer codes clips of {length} steps, more than {given} given and {horizon} dreamt ones; "
                f"ask for a horizon of at least {length - given}"
            )
    return given, horizon


def horizon_scores(dreams: Dreams, plays: NDArray[np.int64]) -> dict[str, Any]:
    """PSNR and SSIM at every dreamt step, and how many steps they stay better than those of copying; how sure."""
    curves = {"psnr_db": by_step(dreams, psnr), "ssim": by_step(dreams, ssim)}
    horizons = {f"usable_horizon_{name}": usable_horizon(curve) for name, curve in curves.items()}
    return curves | horizons | {"psnr_sureness": psnr_sureness(dreams, plays)}


def _control(
    wm: WorldModel, dreams: Dreams, judge: InverseDynamics, config: ModelEvaluation
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The section "control", and the network's features of every set of frames.

    Dreams of a model that reads no actions are not judged by any.
    """
    given, actions = dreams.context_steps, dreams.batch.actions
    videos = {
        "real": (dreams.real, actions),
        "reconstruction": (dreams.reconstruction, actions),
        "dream": (dreams.dream, actions),
    }
    reads = wm.config.dynamics.action_condition != "none"
    if reads:
        swapped = swapped_actions(dreams.batch, given)
        dreamt = dream_on(wm, dreams.batch, swapped, given, config.temperature, config.seed)
        videos["dream_swapped"] = (dreamt, swapped)
    scores, features = control_scores(judge, videos, given)
    if judge.action.kind == "discrete" and judge.action.n == 1:
        scores["absent"] = "the play has one action, so there is nothing to tell apart"
    if not reads:
        scores |= dict.fromkeys(("dream", "dream_swapped", "dream_over_real", "error_over_real"))
        scores["by_step"].pop("dream")
        scores["absent"] = "the model reads no actions"
    return scores, features


def control_scores(
    model: InverseDynamics, videos: dict[str, tuple[Tensor, Tensor]], context_steps: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """How well an inverse-dynamics network finds the actions in several videos.

    Args:
        videos: name -> frames (K, T, F, H, W, C) uint8 and the actions (K, T-1) or (K, T-1, A) between their steps.
            "real" and "dream" must be there.
        context_steps: given steps; only transitions into later steps count. 0: all of them.

    Returns: the scores, overall and by step, and the features (K * (T - context_steps), E) of each video.
    """
    action, first = model.action, max(context_steps - 1, 0)
    scores: dict[str, Any] = {"measure": "accuracy" if action.kind == "discrete" else "r2"}
    features, curves = {}, {}
    for name, (frames, actions) in videos.items():
        predictions, features[name] = read(model, frames[:, first:])
        truth = actions[:, first:]
        scores[name] = action_score(action, predictions, truth.flatten(0, 1))
        told = predictions.unflatten(0, truth.shape[:2])
        curves[name] = [action_score(action, told[:, t], truth[:, t]) for t in range(truth.shape[1])]
    actions = videos["real"][1][:, first:].flatten(0, 1)
    scores["transitions"], scores["blind"] = len(actions), blind_score(action, actions)
    scores["dream_over_real"] = scores["dream"] / scores["real"] if scores["real"] > 0 else None
    # Of wrong actions, or of squared distances to the right numbers: both are one less the score, up to a factor.
    scores["error_over_real"] = (1 - scores["dream"]) / (1 - scores["real"]) if scores["real"] < 1 else None
    return scores | {"by_step": curves}, features


def _idm_fd(features: dict[str, Tensor], clips: int, floor: str) -> dict[str, Any]:
    """Frechet distances to real play, on features of the inverse-dynamics network; not comparable to any FVD.

    `floor` says where the "other_real" clips come from, or why there are none; then their distance is None.
    """
    names = ("dream", "reconstruction", "other_real")
    distances = {
        name: frechet_distance(features[name], features["real"]) if name in features else None for name in names
    }
    return distances | {
        "floor": floor,
        "transitions": len(features["real"]),
        "clips": clips,
        "features": features["real"].shape[1],
    }


def fvd_section(i3d: torch.jit.ScriptModule | None, dreams: Dreams, device: torch.device) -> dict[str, Any]:
    """FVD, R-FVD and FVD* on the 16 frames that begin with the last given step; or the word that they are absent."""
    if i3d is None:
        return {"absent": "no I3D file was given (--i3d PATH)"}
    first = max(dreams.context_steps - 1, 0)
    videos = (dreams.real, dreams.reconstruction, dreams.dream)
    real, reconstruction, samples = (_fvd_clips(video[:, first:]) for video in videos)
    if real.shape[1] < CLIP_FRAMES:
        return {"absent": f"FVD reads {CLIP_FRAMES} frames, and a clip of this model has {real.shape[1]}"}
    given = dreams.real.shape[2] if dreams.context_steps else 0  # frames of one step
    return fvd_scores(i3d, real, reconstruction, samples, device) | {"given_frames": given}


def _fvd_clips(video: Tensor) -> Tensor:
    """Steps (K, T, F, H, W, C) -> the frames that FVD reads (K, 16, H, W, C), or fewer if there are no more."""
    return video.flatten(1, 2)[:, :CLIP_FRAMES]


def _unconditional(
    wm: WorldModel,
    dreams: Dreams,
    judge: InverseDynamics,
    real_features: Tensor,
    i3d: torch.jit.ScriptModule | None,
    config: ModelEvaluation,
) -> dict[str, Any]:
    """Distances of dreams from nothing to the real clips that stand beside the others."""
    try:
        check_request(wm.config.dynamics, False, False, Sampling())
    except ValueError as error:
        return {"absent": str(error)}
    real = dreams.real[:, max(dreams.context_steps - 1, 0) :]
    if dreams.context_steps or wm.config.dynamics.action_condition != "none":
        video = dream_freely(wm, config.samples, real.shape[1], config.temperature, config.seed)
    else:  # the other dreams were told nothing either
        video = dreams.dream
    scores = {"steps": real.shape[1], "idm_fd": frechet_distance(read(judge, video)[1], real_features)}
    clips = [_fvd_clips(part) for part in (video, real)]
    if i3d is not None and clips[0].shape[1] == CLIP_FRAMES:
        scores["fvd"] = frechet_distance(*(i3d_logits(i3d, part, wm.device) for part in clips))
    return scores

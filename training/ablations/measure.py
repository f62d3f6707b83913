"""What `ablate` measures for each trained variant, always against the same real clips and with the same networks.

Letters: K clips, T steps of a clip, F frames of a step, H W C pixels, E features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from time import perf_counter
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from worldmodel.data import EpisodeStorage, SegmentId
from worldmodel.data.clips import Floor, draw_clips, other_clips
from worldmodel.data.regroup import regroup_clip_actions, regroup_clips
from worldmodel.evaluation.frechet import MIN_ROWS, frechet_distance, two_fold_distance
from worldmodel.evaluation.fvd import CLIP_FRAMES, i3d_logits, load_i3d
from worldmodel.evaluation.inverse_dynamics import InverseDynamics, InverseDynamicsConfig, read, train_inverse_dynamics
from worldmodel.evaluation.metrics import bits, nmse, psnr, ssim
from worldmodel.evaluation.scores import CHUNK, code_scores, code_use, encode_decode, mean_losses, sampled
from worldmodel.files import JsonObject, atomic_write, read_json, write_json
from worldmodel.model import CodeBatch, WorldModel
from worldmodel.tokenizer.files import load_tokenizer
from worldmodel.training.ablations.predictions import action_scores, baseline_bits, copied, frame_scores

_METRICS = 2  # which metrics of a prior there are: raise it with a new one, so that finished priors are measured again
_SAMPLES = {"fvd": "i3d", "idm_fd": "idm"}  # distances of samples, and the network that sees them


@dataclass(frozen=True, kw_only=True, slots=True)
class Measuring:
    """Where the real clips come from, and the networks that read them; the same for every variant."""

    data: str  # the whole store; its test split
    folder: str  # of the inverse-dynamics network and the real clips' features
    i3d: str | None
    device: str
    samples: int
    samplings: int  # how often samples are drawn
    seed: int
    inverse_dynamics: InverseDynamicsConfig

    def settings(self) -> dict[str, Any]:
        """What decides the numbers: with other settings, measurements are repeated."""
        store = EpisodeStorage.open(self.data)
        i3d = None if self.i3d is None else [Path(self.i3d).name, Path(self.i3d).stat().st_size]
        settings = {key: value for key, value in asdict(self).items() if key not in ("data", "folder", "device")}
        return settings | {"i3d": i3d, "data_fingerprint": store.fingerprint()}


def prepare(measuring: Measuring) -> None:
    """Train the inverse-dynamics network, unless it exists, and compute the features of the real clips."""
    folder = Path(measuring.folder)
    store, settings = EpisodeStorage.open(measuring.data), measuring.settings()
    if (folder / "settings.json").exists() and read_json(folder / "settings.json") == settings:
        return
    network = train_inverse_dynamics(store, measuring.inverse_dynamics, measuring.device)
    with atomic_write(folder / "inverse_dynamics.safetensors") as temporary:
        save_file({name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}, temporary)
    features, other = _features(measuring, store, real_clips(measuring, store)[0]), _floor(measuring, store).segments
    if other:
        floor = _features(measuring, store, store.batch(other).frames)
        features |= {f"other_{name}": tensor for name, tensor in floor.items()}
    _save_features(folder, features)
    write_json(folder / "settings.json", settings)


def real_clips(measuring: Measuring, store: EpisodeStorage) -> tuple[Tensor, Tensor]:
    """Held-out clips (K, T, F, H, W, C) uint8 of 16 frames with the store's F, and the actions (K, T-1, …) in them."""
    batch = store.batch(_real(measuring, store))
    return batch.frames, batch.actions


def _real(measuring: Measuring, store: EpisodeStorage) -> list[SegmentId]:
    rng = np.random.default_rng(measuring.seed)
    return draw_clips(store, measuring.samples, _transitions(store), rng, "test")


def _floor(measuring: Measuring, store: EpisodeStorage) -> Floor:
    """Other clips of the same length."""
    rng = np.random.default_rng(measuring.seed + 1)
    return other_clips(store, _real(measuring, store), _transitions(store), rng, "test")


def _transitions(store: EpisodeStorage) -> int:
    """Transitions between the steps of a clip."""
    frames = store.info.frames_per_step
    if CLIP_FRAMES % frames or frames == CLIP_FRAMES:
        raise ValueError(f"clips of {CLIP_FRAMES} frames cannot be cut from steps of {frames}; collect shorter steps")
    return CLIP_FRAMES // frames - 1


def measure_tokenizer(folder: str | Path, measuring: Measuring) -> dict[str, Any]:
    """Reconstruction, use of the codes, and distances of reconstructions to real clips; kept in `folder`."""
    folder, settings = Path(folder), measuring.settings()
    if (kept := _kept(folder, settings)) is not None:
        return kept
    store = EpisodeStorage.open(measuring.data)
    tokenizer = load_tokenizer(folder / "last").to(measuring.device)
    clips = regroup_clips(real_clips(measuring, store)[0], tokenizer.frames_per_step)
    codes, seen = encode_decode(tokenizer, clips, measuring.device)
    use = code_use(codes, tokenizer.num_codes)
    features = _features(measuring, store, regroup_clips(seen, store.info.frames_per_step))
    _save_features(folder, features)
    metrics = {
        "mse": nmse(clips, seen, 1.0),
        "nmse": nmse(clips, seen, tokenizer.config.data_variance),
        "psnr_db": psnr(clips, seen),
        "ssim": ssim(clips, seen),
        "perplexity": fmean(use["perplexity"]),
        "codes_in_use": fmean(use["codes_in_use"]),
        "tokenizer_parameters": sum(parameter.numel() for parameter in tokenizer.parameters()),
    }
    metrics |= _distances(features, _real_features(measuring), {"r_fvd": "i3d", "r_idm_fd": "idm"})
    return _keep(folder, settings, metrics)


def measure_prior(
    folder: str | Path, tokenizer: str | Path, measuring: Measuring, given_frames: int = 0, judged_from: int = 0
) -> dict[str, Any]:
    """Bits of held-out codes, distances of samples to real clips and to their reconstructions; kept in `folder`.

    A model that reads actions or first frames is given those of the real clips.

    Args:
        given_frames: real frames that samples begin with, at least one step; 0: those of the model's frame_condition.
        judged_from: first frame whose prediction is compared with the real one; 0: none is.
    """
    folder = Path(folder)
    settings = measuring.settings() | {"given_frames": given_frames, "judged_from": judged_from, "metrics": _METRICS}
    if (kept := _kept(folder, settings)) is not None:
        return kept
    store = EpisodeStorage.open(measuring.data)
    wm = WorldModel.from_pretrained(folder / "last", device=measuring.device)
    frames, real_actions = real_clips(measuring, store)
    clips = regroup_clips(frames, wm.frames_per_step)
    actions = regroup_clip_actions(real_actions, store.info.action, store.info.frames_per_step, wm.frames_per_step)
    batch = _held_out(wm, clips, actions)
    nats = mean_losses(wm, batch)["codes"]
    per_code = code_scores(wm, batch, nats) if wm.config.dynamics.action_condition != "none" else {}
    per_code |= {"bits_per_code": bits(nats)}
    metrics = per_code | {
        "bits_per_clip": per_code["bits_per_code"] * batch.codes[0].numel(),
        "bits_per_frame": per_code["bits_per_code"] * batch.codes[0].numel() / CLIP_FRAMES,
        "prior_parameters": sum(parameter.numel() for parameter in wm.dynamics.parameters()),
    }
    given = max(wm.config.dynamics.frame_condition, wm.dynamics.given_steps, given_frames // wm.frames_per_step)
    samplings = []
    for number in range(measuring.samplings):
        begin = perf_counter()
        made = sampled(
            wm,
            len(clips),
            clips.shape[1],
            measuring.seed + number * len(clips),
            clips[:, :given] if given else None,
            actions if wm.config.dynamics.action_condition != "none" else None,
            label="sampling",
        )
        seconds = (perf_counter() - begin) / len(clips)
        made = regroup_clips(made, store.info.frames_per_step)
        samplings.append(_sample_scores(made, measuring, store, tokenizer) | {"seconds_per_clip": seconds})
    metrics |= _over_samplings(samplings)
    if judged_from:
        metrics |= baseline_bits(batch.codes, wm.tokenizer.num_codes)
        metrics |= frame_scores(frames, made, judged_from)
        if wm.config.dynamics.action_condition != "none":
            metrics |= action_scores(_judge(measuring, store), frames, made, real_actions, judged_from)
    return _keep(folder, settings, metrics)


@torch.inference_mode()
def _held_out(wm: WorldModel, clips: Tensor, actions: Tensor) -> CodeBatch:
    """The clips (K, T, F, H, W, C) as codes for `wm.loss`, coded as in training; there is nothing for the heads."""
    config = wm.config.dynamics
    codes = torch.cat([wm.tokenizer.encode_given(part.to(wm.device)).cpu() for part in clips.split(CHUNK)])
    empty = torch.zeros(len(clips), clips.shape[1] - 1)
    return CodeBatch(
        codes=codes,
        actions=actions,
        rewards=empty,
        terminated=empty.bool(),
        signals=torch.zeros(*clips.shape[:2], len(wm.config.signal_names)),
        padding_mask=~empty.bool(),
        frames=clips[:, : config.frame_condition] if config.frame_condition else None,
    )


def _sample_scores(
    made: Tensor, measuring: Measuring, store: EpisodeStorage, tokenizer: str | Path
) -> dict[str, float]:
    """Distances of samples to real clips, and to the reconstructions of their tokenizer."""
    features = _features(measuring, store, made)
    reconstructions = load_file(Path(tokenizer) / "features.safetensors")
    return _to_real(features, measuring) | _distances(
        features, reconstructions, {"fvd_star": "i3d", "idm_fd_star": "idm"}
    )


def _to_real(features: dict[str, Tensor], measuring: Measuring) -> dict[str, float]:
    """Distances of samples to real clips."""
    real = _real_features(measuring)
    found = _distances(features, real, _SAMPLES)
    if "i3d" in features and len(features["i3d"]) >= MIN_ROWS:
        found["fvd_two_fold"] = two_fold_distance(features["i3d"], real["i3d"])
    return found


def _over_samplings(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over the draws of samples and, if there are several, their standard deviations as "NAME_deviation"."""
    columns = {name: [draw[name] for draw in scores] for name in scores[0]}
    found = {name: fmean(values) for name, values in columns.items()}
    if len(scores) > 1:
        found |= {f"{name}_deviation": stdev(values) for name, values in columns.items()}
    return found


def measure_copying(measuring: Measuring, judged_from: int) -> dict[str, Any]:
    """What repeating the last given frame of the real clips reaches: the row that needs no learning."""
    store = EpisodeStorage.open(measuring.data)
    frames, _ = real_clips(measuring, store)
    made = copied(frames, judged_from)
    scores = frame_scores(frames, made, judged_from)
    about = {name: scores[name] for name in ("predicted_psnr_db", "psnr_by_frame")}
    return _to_real(_features(measuring, store, made), measuring) | about


def floor_of(measuring: Measuring) -> dict[str, float]:
    """The distances of other real clips to the real clips, which no sample can be expected to beat; {} if too few."""
    real = _real_features(measuring)
    other = {name.removeprefix("other_"): tensor for name, tensor in real.items() if name.startswith("other_")}
    return _distances(other, real, _SAMPLES)


def floor_source(measuring: Measuring) -> str:
    """Where the clips of the floor come from, or why there are none."""
    return _floor(measuring, EpisodeStorage.open(measuring.data)).source


def _features(measuring: Measuring, store: EpisodeStorage, clips: Tensor) -> dict[str, Tensor]:
    """What the networks see in clips (K, T, F, H, W, C) with the store's F: "idm" (K * (T-1), E), "i3d" (K, E)."""
    seen = {"idm": read(_judge(measuring, store), clips)[1]}
    if measuring.i3d is not None:
        i3d = load_i3d(measuring.i3d, measuring.device)
        seen["i3d"] = i3d_logits(i3d, clips.flatten(1, 2), measuring.device)
    return seen


def _judge(measuring: Measuring, store: EpisodeStorage) -> InverseDynamics:
    network = InverseDynamics(measuring.inverse_dynamics, store.info)
    network.load_state_dict(load_file(Path(measuring.folder) / "inverse_dynamics.safetensors"))
    return network.to(measuring.device).eval()


def _distances(a: dict[str, Tensor], b: dict[str, Tensor], names: dict[str, str]) -> dict[str, float]:
    """Frechet distances by name; those without their network are left out."""
    return {name: frechet_distance(a[which], b[which]) for name, which in names.items() if which in a and which in b}


def _real_features(measuring: Measuring) -> dict[str, Tensor]:
    return load_file(Path(measuring.folder) / "features.safetensors")


def _save_features(folder: Path, features: dict[str, Tensor]) -> None:
    with atomic_write(folder / "features.safetensors") as temporary:
        save_file({name: tensor.contiguous() for name, tensor in features.items()}, temporary)


def _kept(folder: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """What was measured with these settings before."""
    path = folder / "measured.json"
    kept = read_json(path, JsonObject, ("metrics",)) if path.exists() else {}
    return kept["metrics"] if kept.get("settings") == settings else None


def _keep(folder: Path, settings: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    write_json(folder / "measured.json", {"settings": settings, "metrics": metrics})
    return metrics

"""What `ablate` measures for each trained variant, always against the same real clips and with the same networks.

Letters: K clips, T steps of a clip, F frames of a step, H W C pixels, E features.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from worldmodel.data import EpisodeStorage, SegmentId
from worldmodel.data.clips import Floor, draw_clips, other_clips
from worldmodel.evaluation.frechet import frechet_distance
from worldmodel.evaluation.fvd import CLIP_FRAMES, i3d_logits, load_i3d
from worldmodel.evaluation.inverse_dynamics import InverseDynamics, InverseDynamicsConfig, read, train_inverse_dynamics
from worldmodel.evaluation.metrics import bits, nmse, psnr, ssim
from worldmodel.evaluation.scores import code_use, encode_decode, mean_losses, sampled
from worldmodel.files import JsonObject, atomic_write, read_json, write_json
from worldmodel.model import CodeBatch, WorldModel
from worldmodel.tokenizer.files import load_tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Measuring:
    """Where the real clips come from, and the networks that read them; the same for every variant."""

    data: str  # the whole store; its test split
    folder: str  # of the inverse-dynamics network and the real clips' features
    i3d: str | None
    device: str
    samples: int
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
    clips = _steps_of(real_clips(measuring, store)[0], tokenizer.frames_per_step)
    codes, seen = encode_decode(tokenizer, clips, measuring.device)
    use = code_use(codes, tokenizer.num_codes)
    features = _features(measuring, store, _steps_of(seen, store.info.frames_per_step))
    _save_features(folder, features)
    metrics = {
        "nmse": nmse(clips, seen, tokenizer.config.data_variance),
        "psnr_db": psnr(clips, seen),
        "ssim": ssim(clips, seen),
        "perplexity": fmean(use["perplexity"]),
        "codes_in_use": fmean(use["codes_in_use"]),
        "tokenizer_parameters": sum(parameter.numel() for parameter in tokenizer.parameters()),
    }
    metrics |= _distances(features, _real_features(measuring), {"r_fvd": "i3d", "r_idm_fd": "idm"})
    return _keep(folder, settings, metrics)


def measure_prior(folder: str | Path, tokenizer: str | Path, measuring: Measuring) -> dict[str, Any]:
    """Bits of held-out codes, and distances of samples to real clips and to their reconstructions; kept in `folder`.

    A model that reads actions or first frames is given those of the real clips.
    """
    folder, settings = Path(folder), measuring.settings()
    if (kept := _kept(folder, settings)) is not None:
        return kept
    store = EpisodeStorage.open(measuring.data)
    wm = WorldModel.from_pretrained(folder / "last", device=measuring.device)
    config, per_step = wm.config.dynamics, wm.frames_per_step
    frames, actions = real_clips(measuring, store)
    clips = _steps_of(frames, per_step)
    steps = clips.shape[1]
    actions = _actions_of(actions, store.info.frames_per_step, per_step)
    codes, _ = encode_decode(wm.tokenizer, clips, wm.device)
    empty = torch.zeros(len(clips), steps - 1)
    batch = CodeBatch(
        codes=codes,
        actions=actions,
        rewards=empty,
        terminated=empty.bool(),
        signals=torch.zeros(len(clips), steps, len(wm.config.signal_names)),
        padding_mask=~empty.bool(),
        frames=clips[:, : config.frame_condition] if config.frame_condition else None,
    )
    per_code = bits(mean_losses(wm, batch)["codes"])
    made = sampled(
        wm,
        len(clips),
        steps,
        measuring.seed,
        clips[:, : config.frame_condition] if config.frame_condition else None,
        actions if config.action_condition != "none" else None,
        label="sampling",
    )
    features = _features(measuring, store, _steps_of(made, store.info.frames_per_step))
    reconstructions = load_file(Path(tokenizer) / "features.safetensors")
    metrics = {
        "bits_per_code": per_code,
        "bits_per_clip": per_code * codes[0].numel(),
        "prior_parameters": sum(parameter.numel() for parameter in wm.dynamics.parameters()),
    }
    metrics |= _distances(features, _real_features(measuring), {"fvd": "i3d", "idm_fd": "idm"})
    metrics |= _distances(features, reconstructions, {"fvd_star": "i3d", "idm_fd_star": "idm"})
    return _keep(folder, settings, metrics)


def floor_of(measuring: Measuring) -> dict[str, float]:
    """The distances of other real clips to the real clips, which no sample can be expected to beat; {} if too few."""
    real = _real_features(measuring)
    other = {name.removeprefix("other_"): tensor for name, tensor in real.items() if name.startswith("other_")}
    return _distances(other, real, {"fvd": "i3d", "idm_fd": "idm"})


def floor_source(measuring: Measuring) -> str:
    """Where the clips of the floor come from, or why there are none."""
    return _floor(measuring, EpisodeStorage.open(measuring.data)).source


def _steps_of(frames: Tensor, frames_per_step: int) -> Tensor:
    """Clips (K, T, F, H, W, C) with other steps."""
    return frames.flatten(1, 2).unflatten(1, (-1, frames_per_step))


def _actions_of(actions: Tensor, old: int, new: int) -> Tensor:
    """The actions (K, T-1, …) of clips with steps of `old` frames, for the same clips with steps of `new` frames.

    As in `regroup_episode`, merged steps have the last one's action, and all parts of a split step have its action. The
    action of the first step is not in the clip and set to zero; no table needs it (`variants`).
    """
    if new >= old:
        merged = new // old
        return actions[:, 2 * merged - 2 :: merged]
    parts = old // new
    first = torch.zeros_like(actions[:, :1]).repeat_interleave(parts - 1, dim=1)
    return torch.cat((first, actions.repeat_interleave(parts, dim=1)), dim=1)


def _features(measuring: Measuring, store: EpisodeStorage, clips: Tensor) -> dict[str, Tensor]:
    """What the networks see in clips (K, T, F, H, W, C) with the store's F: "idm" (K * (T-1), E), "i3d" (K, E)."""
    network = InverseDynamics(measuring.inverse_dynamics, store.info)
    network.load_state_dict(load_file(Path(measuring.folder) / "inverse_dynamics.safetensors"))
    seen = {"idm": read(network.to(measuring.device).eval(), clips)[1]}
    if measuring.i3d is not None:
        i3d = load_i3d(measuring.i3d, measuring.device)
        seen["i3d"] = i3d_logits(i3d, clips.flatten(1, 2), measuring.device)
    return seen


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

"""Train a VQVAE on the frames of a store."""

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldmodel.checkpoint import load_tokenizer, save_tokenizer
from worldmodel.data import EpisodeStorage
from worldmodel.files import write_json
from worldmodel.tokenizer import VQVAE, VQVAEConfig
from worldmodel.training import metrics
from worldmodel.training.loop import LoopConfig, Task, fit, is_done


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerTraining:
    """Everything that decides a trained tokenizer, next to its data."""

    model: VQVAEConfig = field(default_factory=VQVAEConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=1500, batch_size=64, learning_rate=3e-3))
    validation_steps: int = 512  # env steps of the validation split that are scored


def check_matches(store: EpisodeStorage, model: VQVAEConfig) -> None:
    """Refuse data whose frames have another size than the model's, before any training."""
    frames = (store.info.frames_per_step, store.info.height, store.info.width, store.info.channels)
    wanted = (model.frames_per_step, model.height, model.width, model.channels)
    if frames != wanted:
        raise ValueError(
            f"the store's steps are {frames} (frames, height, width, channels), the model's {wanted}; "
            "set the model's sizes to the data's or collect again"
        )


def sample_frames(store: EpisodeStorage, count: int, rng: np.random.Generator, split: str) -> Tensor:
    """Single steps drawn at random: (count, 1, F, H, W, C) uint8."""
    episodes = store.split(split)
    if not len(episodes):
        raise ValueError(f"the {split} split of {len(store)} episodes is empty; collect more episodes")
    ends = np.cumsum([store.lengths[e] + 1 for e in episodes])
    places = rng.integers(ends[-1], size=count)
    which = np.searchsorted(ends, places, side="right")
    steps = places - (ends - [store.lengths[e] + 1 for e in episodes])[which]
    frames = np.stack([store.frames(episodes[i])[t] for i, t in zip(which, steps, strict=True)])
    return torch.from_numpy(frames).unsqueeze(1)


def pixel_statistics(store: EpisodeStorage, seed: int = 0) -> tuple[tuple[float, ...], float]:
    """Mean of each channel and variance of all training pixels, on the [0, 1] scale; from 2,000 steps."""
    frames = sample_frames(store, 2000, np.random.default_rng(seed), "train").numpy()[:, 0]
    mean = frames.mean(axis=(0, 1, 2, 3), dtype=np.float64) / 255.0
    return tuple(mean.tolist()), float(frames.var(dtype=np.float64)) / 255.0**2


def train_tokenizer(data: str | Path, out: str | Path, config: TokenizerTraining | None = None) -> dict[str, float]:
    """Train on the store `data`; the run folder `out` ends with `best/` and `last/`. Goes on after an interruption.

    Returns the validation scores: nmse, psnr (dB), perplexity and codes_in_use (mean over slices), dead codes.
    """
    config = config or TokenizerTraining()
    store, out = EpisodeStorage.open(data), Path(out)
    check_matches(store, config.model)
    if is_done(out, config.loop):
        print(f"tokenizer: {out} has its {config.loop.steps} steps already")
    mean, variance = pixel_statistics(store, config.loop.seed)
    config = replace(config, model=replace(config.model, data_mean=mean, data_variance=variance))
    write_json(out / "config.json", {"data": str(data), "command": "train-tokenizer"} | asdict(config))
    with torch.random.fork_rng():
        torch.manual_seed(config.loop.seed)
        model = VQVAE(config.model)
    held_out = sample_frames(store, config.validation_steps, np.random.default_rng(1), "validation")

    def evaluate() -> dict[str, float]:
        return score_tokenizer(model, held_out)

    task = Task(
        label="tokenizer",
        model=model,
        batch=lambda rng: sample_frames(store, config.loop.batch_size, rng, "train"),
        loss=lambda frames: model.loss(frames),
        evaluate=evaluate,
        save=lambda folder: save_tokenizer(folder, model, tokenizer_card(config, store)),
    )
    return fit(task, config.loop, out)


@torch.inference_mode()
def score_tokenizer(model: VQVAE, frames: Tensor, batch_size: int = 64) -> dict[str, float]:
    """Reconstruction of held-out steps (N, 1, F, H, W, C) and the use of the codes."""
    errors, ratios = [], []
    counts = torch.zeros(model.num_slices, model.num_codes)
    for part in frames.split(batch_size):
        codes = model.encode(part)
        seen = model.decode(codes)
        errors.append(metrics.nmse(part, seen, model.config.data_variance) * len(part))
        ratios.append(metrics.psnr(part, seen) * len(part))
        for m in range(model.num_slices):
            counts[m] += torch.bincount(codes[..., m].flatten(), minlength=model.num_codes)
    nmse = math.fsum(errors) / len(frames)
    return {
        "total": nmse,
        "nmse": nmse,
        "psnr": math.fsum(ratios) / len(frames),
        "perplexity": float(metrics.perplexity(counts).mean()),
        "codes_in_use": float((counts > 0).float().sum(-1).mean()),
        "dead_codes": float((counts == 0).float().sum(-1).mean()),
    }


def tokenizer_card(config: TokenizerTraining, store: EpisodeStorage) -> str:
    """README.md of a tokenizer's checkpoint."""
    return (
        f"# VQVAE tokenizer\n\nTrained on {store.num_steps:,} steps of `{store.info.env_id}` for {config.loop.steps:,} "
        f"optimiser steps of {config.loop.batch_size} (seed {config.loop.seed}).\n"
    )


__all__ = ["TokenizerTraining", "check_matches", "load_tokenizer", "train_tokenizer"]

"""Train a tokenizer on the frames of a store."""

import os
from collections.abc import Sequence
from dataclasses import asdict, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from worldmodel.cards import model_card
from worldmodel.checkpoint import resolve, weights_name
from worldmodel.data import EpisodeStorage, open_stores
from worldmodel.data.clips import pixel_statistics, sample_frames
from worldmodel.evaluation import metrics
from worldmodel.evaluation.scores import code_use, encode_decode
from worldmodel.layers.defaults import own_defaults
from worldmodel.settings import NonNegativeFloat, PositiveInt, check_used, checked_dataclass
from worldmodel.tokenizer import Tokenizer, TokenizerConfig, VQVAEConfig, build
from worldmodel.tokenizer.files import load_tokenizer, save_tokenizer
from worldmodel.tokenizer.presets import PRESETS, preset
from worldmodel.training import distributed
from worldmodel.training.fit import LoopConfig, Task, fit, is_done
from worldmodel.training.launch import Launcher, absolute, launch
from worldmodel.training.paper_loops import HIERARCHY_LOOP, LVT_TOKENIZER_LOOP, PAPER_TOKENIZER_LOOP
from worldmodel.training.pixel_weights import rarity_weights

# How presets are trained that need other loops than the default.
_SUITED: dict[str, dict[str, Any]] = {
    "moving-mnist": {"loop": replace(PAPER_TOKENIZER_LOOP, steps=20_000), "muon": False},
    **{
        name: {"loop": PAPER_TOKENIZER_LOOP, "muon": False}
        for name in ("videogen-2x4x4", "videogen-2x2x2", "bair-paper", "public-4x4x4")
    },
    "lvt-paper": {"loop": LVT_TOKENIZER_LOOP, "muon": False},
    "lvt-paper-n1": {"loop": LVT_TOKENIZER_LOOP, "muon": False},
    "pixelcnn-paper": {"loop": HIERARCHY_LOOP, "muon": False},
    # As many steps of the game in a batch as those that encode steps alone.
    **{
        name: {"loop": LoopConfig(steps=1500, batch_size=8, learning_rate=3e-3)}
        for name in ("clip-small", "causal-small")
    },
    "doom-wide": {"loop": LoopConfig(steps=2400, batch_size=32, learning_rate=3e-3), "rarity": 0.5},
    "lvt-small": {"loop": LoopConfig(steps=1200, batch_size=16, learning_rate=3e-3)},
    "pixelcnn-small": {"loop": LoopConfig(steps=1200, batch_size=8, learning_rate=3e-3)},
}


@checked_dataclass
class TokenizerTraining:
    """Everything that decides a trained tokenizer, besides its data."""

    PRESETS: ClassVar[tuple[str, ...]] = tuple(PRESETS)

    model: TokenizerConfig = field(default_factory=VQVAEConfig)
    # How long and how fast to train; a batch counts single steps, or clips if the model codes clips.
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=1500, batch_size=64, learning_rate=3e-3))
    muon: bool = True  # Muon for the weights between hidden layers; otherwise AdamW for all weights
    rarity: NonNegativeFloat = 0.0  # exponent of the weight of rare colours; 0: all alike, 0.5 shows small objects
    rarity_limit: Annotated[float, Field(ge=1)] = 31.0  # largest weight of a pixel; the mean is 1
    validation_steps: PositiveInt = 512  # env steps of the validation split to score, at least one clip

    def __post_init__(self) -> None:
        if not self.rarity:
            check_used(self, "rarity above 0", "rarity_limit")
        if isinstance(self.model, VQVAEConfig) and self.model.temporal == "step":
            check_used(self.model, 'temporal "clip" or "causal"', "clip_steps")

    @classmethod
    def of_preset(cls, name: str) -> "TokenizerTraining":
        """The default training of a tokenizer preset; ValueError with the nearest name if there is none."""
        return cls(model=preset(name), **_SUITED.get(name, {}))


def check_matches(store: EpisodeStorage, model: TokenizerConfig) -> None:
    """Refuse data whose frames have another size than the model's, before any training."""
    frames = (store.info.frames_per_step, store.info.height, store.info.width, store.info.channels)
    wanted = (model.frames_per_step, model.height, model.width, model.channels)
    if frames == wanted:
        return
    said = f"the store's steps are {frames} (frames, height, width, channels), the model's {wanted}"
    down, right = model.multiples
    if frames[1] % down or frames[2] % right:
        raise ValueError(
            f"{said}. Such tokenizers take heights that are multiples of {down} and widths of {right}: resize the "
            "frames (PixelGame(size=…), import-video --size)"
        )
    if frames[0] != wanted[0] and "frames_per_step" not in model.__dataclass_fields__:
        raise ValueError(
            f"{said}. A step of such a tokenizer is {wanted[0]} frames: collect with --env-kwargs "
            f"frames_per_step={wanted[0]}, import with --frames-per-step {wanted[0]}, or copy the store with "
            "worldmodel.data.regroup.regroup"
        )
    sizes = {"frames-per-step": frames[0], "height": frames[1], "width": frames[2], "channels": frames[3]}
    options = [f"--model.{name} {size}" for (name, size), own in zip(sizes.items(), wanted, strict=True) if size != own]
    raise ValueError(f"{said}; train a tokenizer of these sizes: {' '.join(options)}")


@own_defaults
def train_tokenizer(
    data: str | Path | Sequence[str | Path] | EpisodeStorage,
    out: str | Path = "runs/tokenizer",
    config: TokenizerTraining | None = None,
    *,
    start_from: str | os.PathLike | None = None,
    launcher: Launcher = "local",
    num_workers: int = 1,
    device: str = "auto",
) -> dict[str, float]:
    """Train a tokenizer on recorded episodes; OUT/best and OUT/last are tokenizers.

    Run it again to resume after an interruption.

    Args:
        data: folder of a store, or folders of several stores of one game.
        out: run folder.
        start_from: tokenizer, or world model with one, to train further. It keeps its own mean and variance of the
            pixels. Its sizes are taken where `config.model` is the default; otherwise they must be the same.
        launcher: "local": in this process, or in those that torchrun started; "ray": on the workers of a Ray cluster.
        num_workers: number of Ray workers.
        device: where to train; "auto" takes a GPU if there is one.

    Returns: the validation scores: nmse, psnr (dB), perplexity and codes_in_use (mean over slices), dead_codes (mean
        over codebooks).
    """
    config, out = config or TokenizerTraining(), Path(out).resolve()
    if start_from is not None and config.model == VQVAEConfig():
        config = replace(config, model=load_tokenizer(start_from).config)
    train = partial(_train, absolute(data), out, config, absolute(start_from), device)
    return launch(train, out, launcher, num_workers)


def _train(
    data: str | list[str] | EpisodeStorage, out: Path, config: TokenizerTraining, start_from: str | None, device: str
) -> dict[str, float]:
    store = open_stores(data)
    check_matches(store, config.model)
    if is_done(out, config.loop):
        print(f"tokenizer: {out} has its {config.loop.steps} steps already")
    settings = {"command": "train-tokenizer", "data": store.folders, "data_fingerprint": store.fingerprint()}
    if start_from is None:
        mean, variance = pixel_statistics(store, config.loop.seed)
        config = replace(config, model=replace(config.model, data_mean=mean, data_variance=variance))
        with torch.random.fork_rng():
            torch.manual_seed(config.loop.seed)
            model = build(config.model)
    else:
        model = _earlier(start_from, config.model)
        config = replace(config, model=model.config)
        settings["start_from"] = weights_name(resolve(start_from))
    model = model.to(distributed.training_device(device))
    length = config.model.piece_steps
    pieces = max(1, config.validation_steps // length)
    weigh = None
    if config.rarity:
        sample = sample_frames(store, 2000, np.random.default_rng(config.loop.seed), "train")
        weigh = rarity_weights(sample, config.rarity, config.rarity_limit)
    held_out = sample_frames(store, pieces, np.random.default_rng(1), "validation", length)
    task = Task(
        label="tokenizer",
        model=model,
        batch=lambda rng: sample_frames(store, config.loop.batch_size, rng, "train", length),
        loss=lambda frames: model.loss(frames, None if weigh is None else weigh(frames)),
        evaluate=lambda: score_tokenizer(model, held_out),
        save=lambda folder: save_tokenizer(folder, model, tokenizer_card(config, store)),
        hidden=model.hidden_weights() if config.muon else (),
        settings=settings | asdict(config),
    )
    return fit(task, config.loop, out)


def _earlier(folder: str, wanted: TokenizerConfig) -> Tokenizer:
    """The tokenizer to train further; ValueError if it is another model than `wanted`."""
    model = load_tokenizer(folder)
    if model.config.net != wanted.net:
        raise ValueError(
            f"the tokenizer to start from, in {folder}, is a {model.config.net}, wanted a {wanted.net}; leave --preset "
            "and --model out, or start from a tokenizer of that kind"
        )
    codebook = replace(model.config.codebook, rate_weight=wanted.codebook.rate_weight)  # which may change
    found = replace(model.config, data_mean=wanted.data_mean, data_variance=wanted.data_variance, codebook=codebook)
    if found != wanted:
        raise ValueError(
            f"the tokenizer to start from, in {folder}, is {found}, wanted {wanted}; set model to the former"
        )
    if codebook == model.config.codebook:
        return model
    changed = build(replace(model.config, codebook=codebook))
    changed.load_state_dict(model.state_dict())
    return changed


def score_tokenizer(model: Tokenizer, frames: Tensor) -> dict[str, float]:
    """Reconstruction of held-out pieces (N, T, F, H, W, C) and the use of the codes."""
    codes, seen = encode_decode(model, frames, next(model.parameters()).device)
    nmse = metrics.nmse(frames, seen, model.config.data_variance)
    use = code_use(codes, model.num_codes)
    return {
        "total": nmse,
        "nmse": nmse,
        "psnr": metrics.psnr(frames, seen),
        "perplexity": fmean(use["perplexity"]),
        "codes_in_use": fmean(use["codes_in_use"]),
        "dead_codes": dead_codes(model, codes),
    }


def dead_codes(model: Tokenizer, codes: Tensor) -> float:
    """Codes of a codebook that none of these codes (N, T, h, w, M) is, mean over the codebooks."""
    used: dict[int, set[int]] = {}
    for book, part in zip(model.books, codes.unbind(-1), strict=True):
        used.setdefault(book, set()).update(part.unique().tolist())
    return model.num_codes - fmean(map(len, used.values()))


def tokenizer_card(config: TokenizerTraining, store: EpisodeStorage) -> str:
    """README.md of a tokenizer's checkpoint."""
    steps = sum(store.lengths[episode] for episode in store.split("train").tolist())
    sample = "single steps" if config.model.temporal == "step" else f"clips of {config.model.clip_steps} steps"
    text = (
        f"# {type(config.model).__name__.removesuffix('Config')} tokenizer\n\n"
        f"Trained on {steps:,} steps of `{store.info.env_id}` for {config.loop.steps:,} "
        f"optimiser steps of {config.loop.batch_size} {sample} (temporal `{config.model.temporal}`, seed "
        f"{config.loop.seed}).\n"
    )
    return model_card("tokenizer", text, game=store.info.env_id)


__all__ = ["TokenizerTraining", "check_matches", "train_tokenizer"]

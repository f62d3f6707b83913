"""Train dynamics and heads on the codes of a store; the result is a whole world model with start states."""

import os
from collections.abc import Sequence
from dataclasses import asdict, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from worldmodel.cards import model_card
from worldmodel.checkpoint import resolve, weights_name
from worldmodel.data import EpisodeStorage, open_stores
from worldmodel.dynamics import (
    GPT,
    PRESETS,
    DynamicsConfig,
    GPTConfig,
    Heads,
    HeadsConfig,
    PixelCNNConfig,
    SubscaleConfig,
    SubscaleTransformer,
    preset,
)
from worldmodel.dynamics.subscale.adaptive import cutoffs_of
from worldmodel.evaluation.calibration import platt_scaling
from worldmodel.evaluation.metrics import best_f1_threshold
from worldmodel.evaluation.scores import code_scores, head_scores, mean_losses, predictions
from worldmodel.layers.defaults import own_defaults
from worldmodel.layers.precision import autocast, cast_matmuls, fast_dtype
from worldmodel.model import CodeBatch, WorldModel, WorldModelConfig
from worldmodel.model.card import game_text
from worldmodel.model.network import check_ends, default_segment_steps
from worldmodel.settings import AtLeastTwo, PositiveInt, Probability, check_used, checked_dataclass
from worldmodel.tokenizer import Tokenizer, TokenizerConfig
from worldmodel.tokenizer.files import load_tokenizer
from worldmodel.training import distributed
from worldmodel.training.code_segments import ClipStore, CodeStore, Segments, split_codes
from worldmodel.training.data_checks import check_lengths, check_limit
from worldmodel.training.encode_store import CLIP_STRIDE, code_counts, codes_name, encode_once
from worldmodel.training.fit import LoopConfig, Task, fit
from worldmodel.training.launch import Launcher, absolute, launch
from worldmodel.training.paper_loops import LVT_PRIOR_LOOP, PAPER_PRIOR_LOOP, PIXELCNN_LOOP
from worldmodel.training.pick_starts import pick_starts
from worldmodel.training.run_folder import own_folder
from worldmodel.training.train_tokenizer import check_matches

# What else suits a preset. The papers' own: their loop. Robot pushing: episodes of 15 steps, rewards below 2, and start
# frames whose signals are unknown; where they are known, hand and objects act on each other.
_SUITED: dict[str, dict[str, Any]] = {
    "moving-mnist": {"loop": replace(PAPER_PRIOR_LOOP, steps=80_000), "muon": False},
    **{name: {"loop": PAPER_PRIOR_LOOP, "muon": False} for name in ("videogen-paper", "videogen-2x2x2", "bair-paper")},
    **{name: {"loop": LVT_PRIOR_LOOP, "muon": False} for name in ("lvt-paper", "lvt-paper-n1")},
    "lvt-small": {"loop": LoopConfig(steps=4000, batch_size=16, learning_rate=6e-3, weight_decay=0.1)},
    "pixelcnn-paper": {"loop": PIXELCNN_LOOP, "muon": False},
    "doom-wide": {
        "segment": 24,
        "heads": HeadsConfig(dropout=0.3),
        "loop": LoopConfig(steps=2600, batch_size=6, learning_rate=6e-3, weight_decay=0.1),
    },
    "push-small": {
        "segment": 12,
        "start_steps": 4,
        "heads": HeadsConfig(limit=2.0, bins=41, dropout=0.5, read_signals=False, signal_layers=2),
    },
}


@checked_dataclass
class DynamicsTraining:
    """Everything that decides trained dynamics, besides the data and the tokenizer."""

    PRESETS: ClassVar[tuple[str, ...]] = tuple(PRESETS)

    model: DynamicsConfig = field(default_factory=GPTConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=4000, batch_size=8, learning_rate=6e-3, weight_decay=0.1)
    )
    muon: bool = True  # Muon for hidden matrices; otherwise AdamW for all weights, with a lower rate (2e-3)
    segment: AtLeastTwo | None = None  # steps of a training segment; None: 16, or what the context or a clip holds
    clip_stride: PositiveInt = CLIP_STRIDE  # steps between the clips that a clip or causal tokenizer codes
    event_share: Probability = 0.2  # share of the segments that are drawn around a rare reward; 0: uniform
    num_starts: PositiveInt = 1024  # starts in the checkpoint: half begin an episode, half lie in the middle of one
    start_steps: PositiveInt = 8  # steps of each start in the middle of an episode
    validation_segments: PositiveInt = 384  # segments of the validation split to score

    def __post_init__(self) -> None:
        if isinstance(self.model, GPTConfig):
            self.model.segment_steps(1, self.segment)  # refuses a segment that the context does not hold
            if not self.model.frame_condition:
                check_used(self.model, "frame_condition above 0", "drop_frames")
        if isinstance(self.model, SubscaleConfig) and not self.model.adaptive:
            check_used(self.model, "adaptive code_input or code_output", "cutoffs")
        check_ends(self.heads, self.model)
        if self.model.action_condition == "none":
            check_used(self.model, "an action_condition", "drop_actions")

    @classmethod
    def of_preset(cls, name: str) -> "DynamicsTraining":
        """The default training of a dynamics preset; ValueError with the nearest name if there is none."""
        return cls(model=preset(name).model, **_SUITED.get(name, {}))

    def segment_steps(self, tokenizer: TokenizerConfig) -> int:
        """Steps of a training segment on this tokenizer's codes; ValueError if its clips do not suit the model."""
        if tokenizer.temporal == "step":
            check_used(self, "a clip or causal tokenizer", "clip_stride")
            return self.model.segment_steps(tokenizer.num_slices, self.segment)
        steps = default_segment_steps(self.model, tokenizer)
        if self.segment not in (None, steps):
            raise ValueError(
                f"a segment is one clip of this tokenizer, {steps} steps after the first, got segment {self.segment}; "
                "leave segment out"
            )
        _check_clips(self.model, tokenizer)
        return steps


def _check_clips(model: DynamicsConfig, tokenizer: TokenizerConfig) -> None:
    """Refuse a model that cannot see a whole clip, or neither learns how one begins nor is given its first step."""
    inputs, clip = tokenizer.clip_steps - 1 + model.lead, f"a clip of {tokenizer.clip_steps} steps"
    if isinstance(model, SubscaleConfig):
        model.segment_steps(tokenizer.num_slices, tokenizer.clip_steps - 1)
    elif isinstance(model, PixelCNNConfig):
        if tokenizer.clip_steps > model.max_steps:
            raise ValueError(f"{clip} must fit into max_steps {model.max_steps}; set it to {tokenizer.clip_steps}")
    elif inputs > (min(model.window, model.max_steps) if model.limited else model.window):
        raise ValueError(
            f"{clip} makes {inputs} inputs, which must fit into window {model.window} and max_steps "
            f"{model.max_steps}; set both to at least {inputs}"
        )
    if inputs < 1 or model.frame_condition >= tokenizer.clip_steps:
        raise ValueError(f"{clip} must be longer than the frame_condition of {model.frame_condition} steps and than 1")
    if tokenizer.temporal == "clip" and not model.lead and not isinstance(model, PixelCNNConfig):
        raise ValueError(
            'a tokenizer with temporal="clip" needs a model that learns how a clip begins, since no code can be given: '
            'set learn_start, or order "raster"'
        )


@own_defaults
def train_dynamics(
    data: str | Path | Sequence[str | Path] | EpisodeStorage,
    tokenizer: str | os.PathLike,
    out: str | Path = "runs/dynamics",
    config: DynamicsTraining | None = None,
    *,
    start_from: str | os.PathLike | None = None,
    launcher: Launcher = "local",
    num_workers: int = 1,
    device: str = "auto",
) -> dict[str, float]:
    """Train dynamics and heads on the codes of recorded episodes; OUT/best and OUT/last are world models.

    With a tokenizer of clips every training segment is a clip, coded as a whole. Such a model has no start segments: it
    generates whole videos and cannot dream step by step. Run it again to resume after an interruption.

    Args:
        data: folder of a store, or folders of several stores of one game.
        tokenizer: folder of a tokenizer or its run; or a world model, also by a shipped name, whose tokenizer is used.
        out: run folder.
        start_from: world model whose dynamics and heads are trained further, on the codes of `tokenizer`. Its sizes are
            taken where `config.model` or `config.heads` is the default; otherwise they must be the same, except for
            options of training alone, a checkerboard and layers, which may be added and change nothing at first, and
            drawn ends, which are learned from the beginning.
        launcher: "local": in this process, or in those that torchrun started; "ray": on the workers of a Ray cluster.
        num_workers: number of Ray workers.
        device: where to train; "auto" takes a GPU if there is one.

    Returns: the validation scores: bits per code, heads, and the shuffled-action loss ratio.
    """
    config, out = config or DynamicsTraining(), Path(out).resolve()
    if start_from is not None:
        earlier = WorldModel.from_pretrained(start_from).config
        model = earlier.dynamics if config.model == GPTConfig() else config.model
        others, ends = replace(config.heads, ends="read"), config.heads.ends
        heads = config.heads
        if others == HeadsConfig():
            heads = replace(earlier.heads, ends=ends) if ends == "drawn" else earlier.heads
        config = replace(config, model=model, heads=heads)
    train = partial(_train, absolute(data), absolute(tokenizer), out, config, absolute(start_from), device)
    return launch(train, out, launcher, num_workers)


def _train(
    data: str | list[str] | EpisodeStorage,
    tokenizer: str,
    out: Path,
    config: DynamicsTraining,
    start_from: str | None,
    device: str,
) -> dict[str, float]:
    store = open_stores(data)
    place = distributed.training_device(device)
    coder = load_tokenizer(tokenizer).to(place).requires_grad_(False)
    check_matches(store, coder.config)
    check_limit(store, config.heads.limit)
    segment = config.segment_steps(coder.config)
    check_lengths(store, coder.config, segment, config.start_steps, config.model.frame_condition)
    if store.info.action.n == 1 and store.info.action.kind == "discrete" and config.model.action_condition != "none":
        print(
            "dynamics: this play has one action, so there is nothing to choose. For video from nothing or from first "
            'frames train with action_condition="none" and learn_start (--model.action-condition none '
            "--model.learn-start)"
        )
    config, counts = replace(config, segment=segment), None
    if isinstance(config.model, SubscaleConfig) and config.model.adaptive:
        counts = code_counts(store, tokenizer, out, config.clip_stride, place)
        cutoffs = config.model.cutoffs or cutoffs_of(counts)
        config = replace(config, model=replace(config.model, cutoffs=cutoffs))
    model = _build(store, coder, config)
    if counts is not None and isinstance(model.dynamics, SubscaleTransformer):
        model.dynamics.order_codes(counts)
    settings = _settings(config) | {"data": store.folders, "tokenizer": tokenizer}
    if start_from is not None:
        _take_weights(model, start_from)
        settings["start_from"] = weights_name(resolve(start_from))
    model = model.to(place)
    cast_matmuls(coder, fast_dtype(place))
    with own_folder(out, "train-dynamics"):
        return _fit(store, coder, model, out, config, settings)


def _fit(
    store: EpisodeStorage,
    coder: Tokenizer,
    model: WorldModel,
    out: Path,
    config: DynamicsTraining,
    settings: dict[str, Any],
) -> dict[str, float]:
    """Encode, fit and calibrate in a folder that is held."""
    segment = config.segment_steps(coder.config)
    stride = config.clip_stride
    name = codes_name(store, coder, stride)
    codes = encode_once(store, coder, out, stride)
    train, validation = (
        split_codes(store, codes, split, coder.config, config.model.frame_condition, stride)
        for split in ("train", "validation")
    )
    if isinstance(train, CodeStore) and not model.dynamics.cannot_dream:  # only a dream begins with given steps
        model.starts = pick_starts(train, config.num_starts, config.start_steps, max(1, config.model.frame_condition))
    model.heads.signal_low.copy_(train.signals.amin(0))
    model.heads.signal_high.copy_(train.signals.amax(0))
    if isinstance(train, ClipStore) and train.left_out:
        print(f"dynamics: {train.left_out} training episodes are shorter than a clip and are left out")
    held_out = validation.batch(config.validation_segments, segment, np.random.default_rng(1))
    task = Task(
        label="dynamics",
        model=model,
        batch=lambda rng: train.batch(config.loop.batch_size, segment, rng, config.event_share),
        loss=model.loss,
        evaluate=lambda: score_dynamics(model, held_out),
        save=lambda folder: _save(model, folder, store, config),
        hidden=model.dynamics.hidden_matrices() if config.muon else (),
        settings=settings | {"codes": name},
    )
    scores = fit(task, config.loop, out)
    distributed.first(lambda: _calibrate_both(out / "best", out / "last", validation, store, config, model.device))
    return scores


def _settings(config: DynamicsTraining) -> dict[str, Any]:
    """Settings that decide the weights, without the stride of clips, which the name of the codes covers."""
    settings = {"command": "train-dynamics"} | asdict(config)
    del settings["clip_stride"]
    return settings


def _build(store: EpisodeStorage, coder: Tokenizer, config: DynamicsTraining) -> WorldModel:
    """A fresh world model around a trained tokenizer, which it keeps as it is."""
    with torch.random.fork_rng():
        torch.manual_seed(config.loop.seed)
        info = store.info
        model = WorldModel(
            WorldModelConfig(
                action=info.action,
                tokenizer=coder.config,
                dynamics=config.model,
                heads=config.heads,
                signal_names=info.signal_names,
                env_id=info.env_id,
                reward=info.reward,
                steps_per_second=info.steps_per_second,
            )
        )
    model.tokenizer.load_state_dict(coder.state_dict())
    model.tokenizer.requires_grad_(False)
    return model


def _take_weights(model: WorldModel, folder: str | Path) -> None:
    """Copy the dynamics and heads of an earlier model; ValueError if it is built in another way."""
    earlier = WorldModel.from_pretrained(folder, dtype=torch.float32)
    wanted = model.config
    if (net := earlier.config.dynamics.net) != wanted.dynamics.net:
        raise ValueError(
            f"the world model to start from, in {folder}, has dynamics of net {net!r}, wanted {wanted.dynamics.net!r}"
        )
    dynamics: DynamicsConfig = earlier.config.dynamics.trained_as(wanted.dynamics)
    books = earlier.config.tokenizer.codebook, wanted.tokenizer.codebook
    coder = replace(earlier.config.tokenizer, codebook=replace(books[0], rate_weight=books[1].rate_weight))
    heads = replace(earlier.config.heads, ends=wanted.heads.ends)
    found = replace(
        earlier.config, steps_per_second=wanted.steps_per_second, tokenizer=coder, dynamics=dynamics, heads=heads
    )
    if found != wanted:
        raise ValueError(f"the world model to start from, in {folder}, is {earlier.config}, wanted {wanted}")
    # What the earlier model lacks may be added: a checkerboard, layers, the prediction of drawn ends.
    for part, earlier_part in ((model.dynamics, earlier.dynamics), (model.heads, earlier.heads)):
        weights = earlier_part.state_dict()
        if isinstance(part, Heads) and part.ahead is None:
            weights = {name: weight for name, weight in weights.items() if not name.startswith("ahead.")}
        added = {name: weight for name, weight in part.state_dict().items() if name not in weights}
        part.load_state_dict(added | weights)
    if isinstance(earlier.dynamics, GPT) and isinstance(model.dynamics, GPT):
        model.dynamics.skip_blocks(earlier.dynamics.config.layers)


def score_dynamics(model: WorldModel, batch: CodeBatch) -> dict[str, float]:
    """Losses, bits per code, loss with shuffled actions over the true one, and AUROC of rewards and ends."""
    losses = mean_losses(model, batch)
    heads = head_scores(model, batch, validation=None)
    names = {"positive_reward": "reward_auroc", "termination": "termination_auroc"}
    return losses | code_scores(model, batch, losses["codes"]) | {names[key]: heads[key]["auroc"] for key in heads}


def _calibrate_both(
    best: Path, last: Path, codes: Segments, store: EpisodeStorage, config: DynamicsTraining, device: torch.device
) -> None:
    """Calibrate both checkpoints; if the last is the best, as after most trainings, compute it once."""
    same = weights_name(best) == weights_name(last)
    model = _calibrated(best, codes, config, device)
    _save(model, best, store, config)
    _save(model if same else _calibrated(last, codes, config, device), last, store, config)


@torch.inference_mode()
def _calibrated(folder: Path, codes: Segments, config: DynamicsTraining, device: torch.device) -> WorldModel:
    """A world model whose probability of an end is calibrated, and whose dreams end at that of the best F1.

    Both on all validation steps. If none of them ends, the probability stays as it is and the threshold is one half.
    """
    model = WorldModel.from_pretrained(folder, device, dtype=torch.float32)
    heads, batch = model.heads, codes.every_step(config.segment_steps(model.config.tokenizer))
    heads.end_scale.fill_(1.0)  # a training that is done may be called again
    heads.end_shift.fill_(0.0)
    with autocast(model.device):
        _, _, raw, terminated = predictions(model, batch)
    scale, shift = platt_scaling(raw, terminated)
    heads.end_scale.fill_(scale)
    heads.end_shift.fill_(shift)
    with autocast(model.device):
        _, _, probability, _ = predictions(model, batch)  # again, so that the threshold is one of those of a dream
    threshold = best_f1_threshold(probability, terminated)
    heads.threshold.fill_(0.5 if threshold is None else threshold)
    return model


def _save(model: WorldModel, folder: Path, store: EpisodeStorage, config: DynamicsTraining) -> None:
    game = game_text(store.info.action, store.info.signal_names, store.info.reward)
    train = store.split("train").tolist()
    steps = sum(store.lengths[episode] for episode in train)
    card = (
        f"# World model of {store.info.env_id}\n\nLearned from {steps:,} recorded steps in {len(train):,} "
        f"episodes; {config.loop.steps:,} optimiser steps of {config.loop.batch_size} segments of {config.segment} "
        f"steps (seed {config.loop.seed}).\n\n{game}\n"
    )
    model.save_pretrained(folder, model_card("world_model", card, game=store.info.env_id))

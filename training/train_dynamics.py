"""Train dynamics and heads on the codes of a store; the result is a whole world model with start states."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from worldmodel.checkpoint import load_tokenizer
from worldmodel.data import EpisodeStorage
from worldmodel.dynamics import GPTConfig, HeadsConfig
from worldmodel.layers.precision import autocast, cast_products, fast_dtype
from worldmodel.model import CodeBatch, Starts, WorldModel, WorldModelConfig
from worldmodel.tokenizer import VQVAE
from worldmodel.training import distributed
from worldmodel.training.codes import CodeStore, codes_name, encode_store
from worldmodel.training.loop import LoopConfig, Task, fit
from worldmodel.training.metrics import best_f1_threshold
from worldmodel.training.scores import code_scores, head_scores, mean_losses, predictions
from worldmodel.training.train_tokenizer import check_matches


@dataclass(frozen=True, kw_only=True, slots=True)
class DynamicsTraining:
    """Everything that decides trained dynamics, next to the data and the tokenizer."""

    model: GPTConfig = field(default_factory=GPTConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=4000, batch_size=8, learning_rate=6e-3, weight_decay=0.1)
    )
    muon: bool = True  # for the GPT's hidden matrices; else AdamW for everything, which wants a lower rate (2e-3)
    segment: int = 16  # steps of a training segment
    event_share: float = 0.2  # of the segments that are drawn around a rare reward (see CodeStore); 0: all alike
    num_starts: int = 1024  # encoded start segments kept in the checkpoint
    start_steps: int = 8  # steps of each
    validation_segments: int = 384

    def __post_init__(self) -> None:
        if self.segment < 2:
            raise ValueError(f"segment must be at least 2 steps, got {self.segment}")
        longest = self.model.max_steps - self.model.lead
        if self.model.limited and self.segment > longest:
            raise ValueError(
                f"segment must be at most {longest} steps with a context of max_steps {self.model.max_steps}, "
                f"got {self.segment}"
            )
        if not 0.0 <= self.event_share <= 1.0:
            raise ValueError(f"event_share must be in [0, 1], got {self.event_share}")


def train_dynamics(
    data: str | Path,
    tokenizer: str | Path,
    out: str | Path,
    config: DynamicsTraining | None = None,
    *,
    device: str = "auto",
) -> dict[str, float]:
    """Train on the store `data`, encoded by `tokenizer`; `out/best` and `out/last` are world models.

    Goes on after an interruption. `device` "auto" is a GPU if there is one.

    Returns the validation scores: bits per code, heads, and the shuffled-action loss ratio.
    """
    config = config or DynamicsTraining()
    store, out = EpisodeStorage.open(data), Path(out)
    place = distributed.training_device(device)
    coder = load_tokenizer(tokenizer).to(place)
    check_matches(store, coder.config)
    model = _build(store, coder, config).to(place)
    model.check_dreams()
    cast_products(coder, fast_dtype(place))
    name = codes_name(store, coder)
    cache = out / "codes.safetensors"
    if distributed.size() > 1:  # one process encodes, then all read what it wrote
        distributed.first(lambda: len(encode_store(store, coder, cache)))
    codes = encode_store(store, coder, cache)
    given = config.model.frame_condition
    train, validation = CodeStore(store, codes, "train", given), CodeStore(store, codes, "validation", given)
    model.starts = pick_starts(train, config.num_starts, config.start_steps)
    held_out = validation.batch(config.validation_segments, config.segment, np.random.default_rng(1))
    task = Task(
        label="dynamics",
        model=model,
        batch=lambda rng: train.batch(config.loop.batch_size, config.segment, rng, config.event_share),
        loss=model.loss,
        evaluate=lambda: score_dynamics(model, held_out),
        save=lambda folder: _save(model, folder, store, config),
        hidden=model.dynamics.hidden_matrices() if config.muon else (),
        settings={"command": "train-dynamics", "data": str(data), "tokenizer": str(tokenizer), "codes": name}
        | asdict(config),
    )
    scores = fit(task, config.loop, out)
    # The end's threshold, from all the validation steps; written into both checkpoints.
    distributed.first(lambda: [_calibrate(out / name, validation, store, config) for name in ("best", "last")])
    return scores


def _build(store: EpisodeStorage, coder: VQVAE, config: DynamicsTraining) -> WorldModel:
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
            )
        )
    model.tokenizer.load_state_dict(coder.state_dict())
    model.tokenizer.requires_grad_(False)
    return model


def pick_starts(codes: CodeStore, count: int, steps: int, seed: int = 0) -> Starts:
    """Start segments spread over the split, at random."""
    long_enough = np.flatnonzero(codes.lengths >= steps)
    if not len(long_enough):
        raise ValueError(
            f"no episode has the {steps} steps of a start segment; lower start_steps or collect longer ones"
        )
    rng = np.random.default_rng(seed)
    episode = rng.choice(long_enough, count)
    start = rng.integers(codes.lengths[episode] - steps + 1)
    batch = codes.cut(episode, start, steps)
    return Starts(batch.codes[:, :-1], batch.actions[:, :-1], batch.signals[:, :-1])


def score_dynamics(model: WorldModel, batch: CodeBatch) -> dict[str, float]:
    """Losses, bits per code, loss with shuffled actions over the true one, and how well rewards and ends are told."""
    losses = mean_losses(model, batch)
    heads = head_scores(model, batch, validation=None)
    names = {"positive_reward": "reward_auroc", "termination": "termination_auroc"}
    return losses | code_scores(model, batch, losses["codes"]) | {names[key]: heads[key]["auroc"] for key in heads}


@torch.inference_mode()
def _calibrate(folder: Path, codes: CodeStore, store: EpisodeStorage, config: DynamicsTraining) -> None:
    """Set the probability at which a dream ends: the one with the best F1 on the validation episodes."""
    model = WorldModel.from_pretrained(folder, dtype=torch.float32)
    starts = [(e, s) for e, n in enumerate(codes.lengths) for s in range(0, n, config.segment)]
    episode, start = np.array(starts).T
    batch = codes.cut(episode, start, config.segment)
    with autocast(model.device):
        _, _, probability, terminated = predictions(model, batch)
    threshold = best_f1_threshold(probability, terminated)
    model.heads.threshold.fill_(0.5 if threshold is None else threshold)
    _save(model, folder, store, config)


def _save(model: WorldModel, folder: Path, store: EpisodeStorage, config: DynamicsTraining) -> None:
    card = (
        f"# World model of {store.info.env_id}\n\nLearned from {store.num_steps:,} recorded steps in {len(store):,} "
        f"episodes; {config.loop.steps:,} optimiser steps of {config.loop.batch_size} segments of {config.segment} "
        f"steps (seed {config.loop.seed}).\n\nActions: {', '.join(store.info.action.names)}. "
        f"Signals: {', '.join(store.info.signal_names)}. Reward: {store.info.reward}.\n"
    )
    model.save_pretrained(folder, card)

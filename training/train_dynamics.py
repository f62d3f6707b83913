"""Train dynamics and heads on the codes of a store; the result is a whole world model with start states."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldmodel.checkpoint import load_tokenizer
from worldmodel.data import EpisodeStorage
from worldmodel.dynamics import GPTConfig, HeadsConfig
from worldmodel.files import atomic_write, write_json
from worldmodel.layers.precision import autocast, cast_products, fast_dtype
from worldmodel.model import CodeBatch, Starts, WorldModel, WorldModelConfig
from worldmodel.progress import progress
from worldmodel.tokenizer import VQVAE
from worldmodel.training import metrics
from worldmodel.training.loop import LoopConfig, Task, fit
from worldmodel.training.train_tokenizer import check_matches


@dataclass(frozen=True, kw_only=True, slots=True)
class DynamicsTraining:
    """Everything that decides trained dynamics, next to the data and the tokenizer."""

    model: GPTConfig = field(default_factory=GPTConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=4000, batch_size=8, learning_rate=2e-3, weight_decay=0.1)
    )
    segment: int = 16  # steps of a training segment
    event_share: float = 0.2  # of the segments that are drawn around a rare reward (see CodeStore); 0: all alike
    num_starts: int = 1024  # encoded start segments kept in the checkpoint
    start_steps: int = 8  # steps of each
    validation_segments: int = 384

    def __post_init__(self) -> None:
        if self.segment < 2:
            raise ValueError(f"segment must be at least 2 steps, got {self.segment}")
        if not 0.0 <= self.event_share <= 1.0:
            raise ValueError(f"event_share must be in [0, 1], got {self.event_share}")


class CodeStore:
    """The encoded episodes of one split, in memory: a step is h*w*M small numbers.

    Rare rewards are those of at least half the largest size seen, where they make up less than a tenth of all steps.
    """

    def __init__(self, store: EpisodeStorage, codes: list[Tensor], split: str) -> None:
        self.episodes = [int(e) for e in store.split(split)]
        if not self.episodes:
            raise ValueError(f"the {split} split of {len(store)} episodes is empty; collect more episodes")
        self.split = split
        self.lengths = np.array([store.lengths[e] for e in self.episodes])
        self.offsets = np.concatenate(([0], np.cumsum(self.lengths + 1)[:-1]))
        self.codes = torch.cat([codes[e] for e in self.episodes])  # (sum of N+1, h, w, M) int16

        def join(parts: list[np.ndarray]) -> Tensor:  # one spare row per episode keeps all places alike
            return torch.from_numpy(np.concatenate([np.concatenate((p, np.zeros_like(p[:1]))) for p in parts]))

        self.actions = join([store.actions(e) for e in self.episodes])
        self.rewards = join([store.rewards(e) for e in self.episodes])
        self.signals = torch.from_numpy(np.concatenate([store.signals(e) for e in self.episodes]))
        self.terminated = torch.zeros(len(self.rewards), dtype=torch.bool)
        for offset, length, episode in zip(self.offsets, self.lengths, self.episodes, strict=True):
            self.terminated[offset + length - 1] = store.ended(episode)[0]
        size = self.rewards.abs()
        rare = (size >= 0.5 * size.max()) & (size > 0)
        self.events = rare.nonzero().flatten().numpy() if 0 < rare.float().mean() < 0.1 else np.array([], np.int64)

    def batch(self, size: int, steps: int, rng: np.random.Generator, event_share: float = 0.0) -> CodeBatch:
        """Segments of `steps` steps, uniform over all starts, a share of them around a rare reward."""
        choices = np.maximum(self.lengths - steps + 1, 1)  # starts of each episode
        ends = np.cumsum(choices)
        place = rng.integers(ends[-1], size=size)
        episode = np.searchsorted(ends, place, side="right")
        start = place - (ends - choices)[episode]
        if len(self.events):
            around = rng.random(size) < event_share
            event = rng.choice(self.events, size)
            its_episode = np.searchsorted(self.offsets, event, side="right") - 1
            its_start = event - self.offsets[its_episode] - rng.integers(steps, size=size)
            episode = np.where(around, its_episode, episode)
            start = np.where(around, np.clip(its_start, 0, choices[its_episode] - 1), start)
        return self.cut(episode, start, steps)

    def cut(self, episode: np.ndarray, start: np.ndarray, steps: int) -> CodeBatch:
        """Segments by their episode's place in this split and their first step, padded where an episode is shorter."""
        along = start[:, None] + np.arange(steps + 1)
        real = along[:, 1:] <= self.lengths[episode][:, None]
        index = torch.from_numpy(self.offsets[episode][:, None] + np.minimum(along, self.lengths[episode][:, None]))
        now = index[:, :-1]
        mask = torch.from_numpy(real)
        return CodeBatch(
            self.codes[index].long(),
            self.actions[now],
            self.rewards[now],
            self.terminated[now] & mask,
            self.signals[index],
            mask,
        )


@torch.inference_mode()
def encode_store(store: EpisodeStorage, tokenizer: VQVAE, cache: Path, batch_size: int = 64) -> list[Tensor]:
    """Codes (N+1, h, w, M) int16 of every episode; read from `cache` if that was made by this tokenizer and data."""
    from safetensors.torch import load_file, save_file

    digest = hashlib.sha256()
    for tensor in tokenizer.state_dict().values():
        digest.update(tensor.float().numpy().tobytes())
    digest.update(repr((store.lengths, store.num_steps)).encode())
    name = digest.hexdigest()[:16]
    if cache.exists():
        tensors = load_file(cache)
        if name in tensors:
            return list(tensors[name].split([n + 1 for n in store.lengths]))
    parts = []
    with progress(store.num_steps + len(store), "step", "encoding") as bar:
        for episode in range(len(store)):
            frames = store.frames(episode)
            for first in range(0, len(frames), batch_size):
                part = torch.from_numpy(frames[first : first + batch_size].copy())
                parts.append(tokenizer.encode(part.unsqueeze(1)).squeeze(1).to(torch.int16))
                bar.update(len(part))
    codes = torch.cat(parts)
    with atomic_write(cache) as temporary:
        save_file({name: codes}, temporary)
    return list(codes.split([n + 1 for n in store.lengths]))


def train_dynamics(
    data: str | Path, tokenizer: str | Path, out: str | Path, config: DynamicsTraining | None = None
) -> dict[str, float]:
    """Train on the store `data`, encoded by `tokenizer`; `out/best` and `out/last` are world models.

    Returns the validation scores: bits per code, heads, and the shuffled-action loss ratio.
    """
    config = config or DynamicsTraining()
    store, out = EpisodeStorage.open(data), Path(out)
    coder = load_tokenizer(tokenizer)
    check_matches(store, coder.config)
    write_json(
        out / "config.json",
        {"data": str(data), "tokenizer": str(tokenizer), "command": "train-dynamics"} | asdict(config),
    )
    model = _build(store, coder, config)
    cast_products(coder, fast_dtype())
    codes = encode_store(store, coder, out / "codes.safetensors")
    train, validation = CodeStore(store, codes, "train"), CodeStore(store, codes, "validation")
    model.starts = pick_starts(train, config.num_starts, config.start_steps)
    held_out = validation.batch(config.validation_segments, config.segment, np.random.default_rng(1))
    task = Task(
        label="dynamics",
        model=model,
        batch=lambda rng: train.batch(config.loop.batch_size, config.segment, rng, config.event_share),
        loss=model.loss,
        evaluate=lambda: score_dynamics(model, held_out),
        save=lambda folder: _save(model, folder, store, config),
    )
    scores = fit(task, config.loop, out)
    # The end's threshold, from all the validation steps; written into both checkpoints.
    for name in ("best", "last"):
        _calibrate(out / name, validation, store, config)
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


def _chunks(batch: CodeBatch, size: int = 16) -> Iterator[CodeBatch]:
    fields = [tensor.split(size) for tensor in vars(batch).values()]
    return (CodeBatch(*part) for part in zip(*fields, strict=True))


@torch.inference_mode()
def score_dynamics(model: WorldModel, batch: CodeBatch) -> dict[str, float]:
    """Losses, bits per code, loss with shuffled actions over the true one, and how well rewards and ends are told."""
    sums: dict[str, float] = {}
    shuffled, rewards, ends = 0.0, [], []
    for part in _chunks(batch):
        weight = float(part.padding_mask.sum() / batch.padding_mask.sum())
        for name, value in model.loss(part)._asdict().items():
            sums[name] = sums.get(name, 0.0) + value.item() * weight
        wrong = replace(part, actions=part.actions.flip(0, 1))
        shuffled += model.loss(wrong).codes.item() * weight
        reward, end, _ = model.predict(part)
        rewards.append(reward)
        ends.append(end)
    mask = batch.padding_mask
    scores = sums | {"bits_per_code": metrics.bits(sums["codes"]), "shuffled_action_ratio": shuffled / sums["codes"]}
    for name, predicted, truth in (
        ("reward_auroc", torch.cat(rewards), batch.rewards > 0),
        ("termination_auroc", torch.cat(ends), batch.terminated),
    ):
        value = metrics.auroc(predicted[mask], truth[mask])
        if value is not None:
            scores[name] = value
    return scores


@torch.inference_mode()
def _calibrate(folder: Path, codes: CodeStore, store: EpisodeStorage, config: DynamicsTraining) -> None:
    """Set the probability at which a dream ends: the one with the best F1 on the validation episodes."""
    model = WorldModel.from_pretrained(folder, dtype=torch.float32)
    starts = [(e, s) for e, n in enumerate(codes.lengths) for s in range(0, n, config.segment)]
    episode, start = np.array(starts).T
    batch = codes.cut(episode, start, config.segment)
    with autocast(model.device):
        probability = torch.cat([model.predict(part)[1] for part in _chunks(batch)])
    mask = batch.padding_mask
    threshold = metrics.best_f1_threshold(probability[mask], batch.terminated[mask])
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

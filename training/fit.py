"""One optimiser loop for every model, read top to bottom: evaluate, save, stop, step, log.

Where torchrun or Ray Train started several processes, each takes its share of every batch (see `distributed`).
A killed run resumes from its last save and ends with the same weights as an unbroken one: batches and noise of a step
are drawn from (seed, step) alone, and everything else that training changes is in `training_state.pt`.
"""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from worldmodel.files import cut_log, write_json
from worldmodel.layers.compiling import compiled
from worldmodel.layers.precision import autocast
from worldmodel.progress import progress
from worldmodel.settings import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    ShareBelowOne,
    checked_dataclass,
)
from worldmodel.training import distributed
from worldmodel.training.optimizers import make_optimizers
from worldmodel.training.run_folder import own_folder
from worldmodel.training.training_state import Progress, load_state, save_state, steps_done


@checked_dataclass
class LoopConfig:
    """How long and how fast to train."""

    steps: PositiveInt  # optimiser steps
    batch_size: PositiveInt
    learning_rate: PositiveFloat = 1e-3  # peak; then falls along a cosine
    final_share: Probability = 0.02  # share of the peak that the cosine would reach one step after the last
    warmup: NonNegativeInt = 50  # steps of linear increase to the peak
    weight_decay: NonNegativeFloat = 0.01
    beta2: ShareBelowOne = 0.98  # AdamW's; its beta1 is 0.9, and Muon's momentum 0.95
    clip_norm: NonNegativeFloat = 1.0  # largest norm of all gradients together; 0: no clipping
    evaluate_every: PositiveInt = 500  # steps between evaluations on the validation split
    save_every: PositiveInt = 500  # steps between saves of the training state
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    compile: bool = False  # compile the loss by torch.compile: for GPUs; no gain on two CPU cores (docs/performance.md)


@dataclass(frozen=True)
class Task:
    """What the loop trains: a module and four functions."""

    label: str  # shown on the progress bar
    model: nn.Module
    batch: Callable[[np.random.Generator], Any]  # draws a training batch
    loss: Callable[[Any], Any]  # a NamedTuple of scalars whose field `total` is minimised
    evaluate: Callable[[], dict[str, float]]  # scores on validation data; "total" picks the best checkpoint
    save: Callable[[Path], Any]  # writes a checkpoint folder
    hidden: Sequence[nn.Parameter] = ()  # weights between hidden layers: Muon trains these, AdamW the rest
    settings: dict[str, Any] = field(default_factory=dict)  # written to config.json; a run of others is not continued


class Metrics:
    """metrics.jsonl and TensorBoard events of a run folder; lines after `step` of an earlier attempt are dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = folder / "metrics.jsonl"
        cut_log(self._path, "step", step)
        self._events = SummaryWriter(str(folder / "events"), purge_step=step + 1)

    def log(self, step: int, group: str, values: dict[str, float]) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(
                json.dumps({"step": step} | {f"{group}/{name}": round(v, 6) for name, v in values.items()}) + "\n"
            )
        for name, value in values.items():
            self._events.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        self._events.close()


def learning_rate(config: LoopConfig, step: int) -> float:
    """Linear rise over `warmup` steps, then a cosine fall that would reach `final_share` of the peak at `config.steps`.

    The steps are 0 to `config.steps - 1`, so the last one is slightly above that share: 1,500 steps end at 0.020001 of
    the peak. It stays so, since ending exactly there would change the weights of every training.
    """
    rise = min(1.0, (step + 1) / max(1, config.warmup))
    along = min(1.0, max(0, step - config.warmup) / max(1, config.steps - config.warmup))
    return (
        config.learning_rate
        * rise
        * (config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * along)))
    )


def fit(task: Task, config: LoopConfig, folder: str | Path) -> dict[str, float]:
    """Train `task.model` and leave `best/`, `last/`, metrics.jsonl and events in `folder`.

    Call it again with the same folder to resume after an interruption. Returns the scores of the last evaluation.
    `config.batch_size` is that of all processes together.

    Raises: ValueError if `folder` holds something else, or another training is running in it; nothing is written then.
    """
    with own_folder(Path(folder), task.settings.get("command", "")):
        return _fit(task, config, Path(folder))


def _fit(task: Task, config: LoopConfig, folder: Path) -> dict[str, float]:
    device = next(task.model.parameters()).device
    optimizers = make_optimizers(task.model, config.learning_rate, config.weight_decay, config.beta2, task.hidden)
    settings = json.loads(json.dumps(task.settings | {"loop": asdict(config)}, default=str))
    step, best, scores = load_state(folder, task.model, optimizers, settings, device)
    chief = distributed.rank() == 0  # evaluates, saves and logs for all processes
    if chief:
        write_json(folder / "config.json", settings)  # first: it says whose folder this is
    loss_of = distributed.averaging(task.model, compiled(task.loss) if config.compile else task.loss)
    sums: dict[str, Tensor] = {}
    logged = step
    with (
        closing(Metrics(folder, step)) if chief else nullcontext() as metrics,
        progress(config.steps, "step", task.label, step, silent=not chief) as bar,
        torch.random.fork_rng(),  # the caller's generator is not touched
    ):
        while True:
            # Evaluate and save once in a while, and at the end.
            at_end = step == config.steps
            if step and (at_end or step % config.evaluate_every == 0) and scores.get("step") != step:
                scores = distributed.first(partial(_evaluate, task, device)) | {"step": step}
                better = scores["total"] < best
                best = scores["total"] if better else best
                if metrics:
                    metrics.log(step, "validation", {k: v for k, v in scores.items() if k != "step"})
                    if better:
                        task.save(folder / "best")
            if chief and step and (at_end or step % config.save_every == 0):
                save_state(folder, task.model, optimizers, settings, Progress(step, best, scores))
            if at_end:
                break

            losses = _train_step(task, config, folder, step, loss_of, optimizers, device)
            step += 1

            # Log means over a stretch of steps.
            for name, value in losses.items():
                if value.ndim == 0:
                    sums[name] = sums.get(name, 0) + value.detach()
            bar.update()
            if step % 50 == 0 or step % config.save_every == 0 or step == config.steps:
                means = {name: distributed.mean(value).item() / (step - logged) for name, value in sums.items()}
                sums, logged = {}, step
                if metrics:
                    metrics.log(step, "train", means | {"learning_rate": learning_rate(config, step - 1)})
                bar.note(f"loss {means['total']:.3f}")
    if chief:
        task.save(folder / "last")
    return scores


def _train_step(
    task: Task,
    config: LoopConfig,
    folder: Path,
    step: int,
    loss_of: Callable[[Any], Any],
    optimizers: Sequence[torch.optim.Optimizer],
    device: torch.device,
) -> dict[str, Tensor]:
    """Draw a batch and change the weights once; returns the losses by name and the norm of the gradient."""
    task.model.train()
    # Each process hides and drops in its own rows.
    torch.manual_seed((config.seed << 32) + (distributed.rank() << 24) + step)
    batch = distributed.share(task.batch(np.random.default_rng((config.seed, step))), device)
    for group in chain.from_iterable(optimizer.param_groups for optimizer in optimizers):
        group["lr"] = learning_rate(config, step)
    with autocast(device):
        losses = loss_of(batch)
    task.model.zero_grad(set_to_none=True)
    losses.total.backward()
    norm = nn.utils.clip_grad_norm_(task.model.parameters(), config.clip_norm or math.inf)
    # On the mean of all processes, so that they stop together.
    _check_finite("loss", distributed.mean(losses.total.detach()), step, task, config, folder)
    _check_finite("gradient", norm, step, task, config, folder)
    for optimizer in optimizers:
        optimizer.step()
    return losses._asdict() | {"gradient_norm": norm}


def _check_finite(what: str, value: Tensor, step: int, task: Task, config: LoopConfig, folder: Path) -> None:
    if not math.isfinite(value.item()):
        raise FloatingPointError(
            f"the {what} of {task.label} became {value.item()} at step {step}, before the weights were changed. "
            f"The last complete state is in {folder}; lower --loop.learning-rate (now {config.learning_rate:g}) "
            "and start again with a new folder"
        )


def _evaluate(task: Task, device: torch.device) -> dict[str, float]:
    task.model.eval()
    with torch.inference_mode(), autocast(device):
        return task.evaluate()


def is_done(folder: str | Path, config: LoopConfig) -> bool:
    """Whether `fit` has finished these many steps in `folder`."""
    return (Path(folder) / "last" / "config.json").exists() and steps_done(Path(folder)) >= config.steps


__all__ = ["LoopConfig", "Metrics", "Task", "fit", "is_done", "learning_rate"]

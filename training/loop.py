"""One optimiser loop for every model, read top to bottom: evaluate, save, stop, step, log.

A killed run goes on where it last saved and ends with the same weights as an unbroken one: batches and noise of a step
are drawn from (seed, step) alone, and everything else that training changes is in `training_state.pt`.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.files import atomic_write
from worldmodel.layers.precision import autocast, fast_dtype
from worldmodel.progress import progress


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """How long and how fast to train."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    steps: int  # optimiser steps
    batch_size: int
    learning_rate: float = 1e-3  # at its peak; falls to `final_share` of it along a cosine
    final_share: float = 0.02
    warmup: int = 50  # steps of linear rise
    weight_decay: float = 0.01
    beta2: float = 0.98  # of AdamW; beta1 is 0.9
    clip_norm: float = 1.0  # of all gradients together
    evaluate_every: int = 500
    save_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "evaluate_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Task:
    """What the loop trains: a module and four functions."""

    label: str  # shown on the progress bar
    model: nn.Module
    batch: Callable[[np.random.Generator], Any]  # draws a training batch
    loss: Callable[[Any], Any]  # a NamedTuple of scalars whose field `total` is minimised
    evaluate: Callable[[], dict[str, float]]  # scores on validation data; "total" picks the best checkpoint
    save: Callable[[Path], Any]  # writes a checkpoint folder


class Metrics:
    """metrics.jsonl and TensorBoard events of a run folder; lines after `step` of an earlier attempt are dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = folder / "metrics.jsonl"
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        with atomic_write(self._path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept))
        self._events = SummaryWriter(str(folder / "events"), purge_step=step)

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
    """Linear rise over `warmup` steps, then a cosine fall to `final_share` of the peak at the last step."""
    rise = min(1.0, (step + 1) / max(1, config.warmup))
    along = min(1.0, max(0, step - config.warmup) / max(1, config.steps - config.warmup))
    return (
        config.learning_rate
        * rise
        * (config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * along)))
    )


def make_optimizer(model: nn.Module, config: LoopConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, config.beta2), fused=True)


def fit(task: Task, config: LoopConfig, folder: str | Path) -> dict[str, float]:
    """Train `task.model` and leave `best/`, `last/`, metrics.jsonl and events in `folder`.

    Call it again with the same folder to go on after an interruption. Returns the scores of the last evaluation.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    device = next(task.model.parameters()).device
    optimizer = make_optimizer(task.model, config)
    step, best, scores = _load_state(folder, task.model, optimizer, device)
    metrics = Metrics(folder, step)
    sums: dict[str, Tensor] = {}
    with progress(config.steps, "step", task.label, initial=step) as bar, torch.random.fork_rng():
        while True:
            # Evaluate and save once in a while, and at the end.
            at_end = step == config.steps
            if step and (at_end or step % config.evaluate_every == 0) and scores.get("step") != step:
                task.model.eval()
                with torch.inference_mode(), autocast(device):
                    scores = task.evaluate() | {"step": step}
                metrics.log(step, "validation", {k: v for k, v in scores.items() if k != "step"})
                if scores["total"] < best:
                    best = scores["total"]
                    task.save(folder / "best")
            if step and (at_end or step % config.save_every == 0):
                _save_state(folder, task.model, optimizer, step, best, scores)
            if at_end:
                break

            # One step.
            task.model.train()
            torch.manual_seed((config.seed << 32) + step)  # inside fork_rng: the caller's generator is not touched
            batch = task.batch(np.random.default_rng((config.seed, step)))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step)
            with autocast(device):
                losses = task.loss(batch)
            if not math.isfinite(losses.total.item()):
                metrics.close()
                raise FloatingPointError(
                    f"the loss of {task.label} became {losses.total.item()} at step {step}, before the weights were "
                    "changed. "
                    f"The last complete state is in {folder}; lower --learning-rate (now {config.learning_rate:g}) "
                    "and start again with a new folder"
                )
            optimizer.zero_grad(set_to_none=True)
            losses.total.backward()
            norm = nn.utils.clip_grad_norm_(task.model.parameters(), config.clip_norm)
            optimizer.step()
            step += 1

            # Log means over a stretch of steps.
            for name, value in (losses._asdict() | {"gradient_norm": norm}).items():
                if value.ndim == 0:
                    sums[name] = sums.get(name, 0) + value.detach()
            bar.update()
            if step % 50 == 0 or step == config.steps:
                stretch = step % 50 or 50
                means = {name: value.item() / stretch for name, value in sums.items()}
                sums = {}
                metrics.log(step, "train", means | {"learning_rate": learning_rate(config, step - 1)})
                bar.note(f"loss {means['total']:.3f}")
    task.save(folder / "last")
    metrics.close()
    return scores


def is_done(folder: str | Path, config: LoopConfig) -> bool:
    """Whether `fit` has finished these many steps in `folder`."""
    state = Path(folder) / "training_state.pt"
    done = Path(folder) / "last" / "config.json"
    return state.exists() and done.exists() and torch.load(state, weights_only=True, mmap=True)["step"] >= config.steps


def _save_state(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, best: float, scores: dict[str, float]
) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "best": best,
        "scores": scores,
    }
    with atomic_write(folder / "training_state.pt") as temporary:
        torch.save(state, temporary)


def _load_state(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[int, float, dict[str, float]]:
    path = folder / "training_state.pt"
    if not path.exists():
        return 0, math.inf, {}
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} was written by a run with other settings ({str(error).splitlines()[0]}); "
            "use another --out, or delete the folder to start over"
        ) from error
    return state["step"], state["best"], state["scores"]


__all__ = ["LoopConfig", "Metrics", "Task", "fast_dtype", "fit", "is_done", "learning_rate", "make_optimizer"]

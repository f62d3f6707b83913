"""Where a training runs: in this process, in those that torchrun started, or on the workers of Ray."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from worldmodel.checkpoint import is_there
from worldmodel.files import read_json, write_json
from worldmodel.training import distributed

Launcher = Literal["local", "ray"]


def launch(
    train: Callable[[], dict[str, float]], out: Path, launcher: Launcher = "local", num_workers: int = 1
) -> dict[str, float]:
    """Run `train` and return its scores.

    Args:
        train: takes no arguments; reads and writes absolute paths that every worker can see.
        out: its run folder, absolute; gets scores.json.
        launcher: "local" runs it here, as one of the processes that torchrun started if it did; "ray" on `num_workers`
            workers of a Ray cluster, of one machine or many.
        num_workers: number of Ray workers.
    """
    if launcher == "local":
        if num_workers != 1:
            raise ValueError(
                f"num_workers={num_workers} needs --launcher ray, or: "
                f"torchrun --nproc-per-node {num_workers} -m worldmodel.training.cli.main COMMAND …"
            )
        with distributed.group():
            return _run(train, out)
    if num_workers < 1:
        raise ValueError(f"num_workers must be at least 1, got {num_workers}")
    import torch
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    def work() -> None:
        _run(train, out)

    workers = ScalingConfig(num_workers=num_workers, use_gpu=torch.cuda.is_available())
    TorchTrainer(work, scaling_config=workers).fit()
    return read_json(out / "scores.json")


def absolute(place: Any) -> Any:
    """A folder, or each of several, by its absolute path, since the working folder of a worker may be another.

    Shipped names, hub ids and stores stay as they are.
    """
    if isinstance(place, str | os.PathLike):
        return str(Path(place).resolve()) if is_there(place) else str(place)
    return [absolute(one) for one in place] if isinstance(place, Sequence) else place


def _run(train: Callable[[], dict[str, float]], out: Path) -> dict[str, float]:
    scores = train()
    if distributed.rank() == 0:
        write_json(out / "scores.json", scores)
    return scores

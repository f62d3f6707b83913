"""Two processes of a gloo group on this machine, against one."""

import dataclasses
import os
import socket
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from tests.processes import FORKS, START
from tests.training.test_fit import CONFIG, Losses
from worldmodel.training import distributed
from worldmodel.training import fit as loop
from worldmodel.training.fit import Task, fit

STEPS = dataclasses.replace(CONFIG, steps=6, evaluate_every=3, save_every=3)


def run(rank: int, size: int, folder: Path, port: int = 0, poison_at: int | None = None) -> torch.Tensor:
    """Train a small net in process `rank` of `size`; returns its weights, and saves them."""
    if size > 1:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    drawn = []

    def batch(rng: np.random.Generator) -> torch.Tensor:
        x = torch.from_numpy(rng.normal(size=(4, 3)).astype(np.float32))
        if len(drawn) == poison_at:
            x[3] = float("nan")  # only the last process sees it
        drawn.append(x)
        return x

    def save(out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(str(rank))

    noise: list[float] = []  # what dropout and the like would draw in each step

    def loss(x: torch.Tensor) -> Losses:
        noise.append(torch.rand(()).item())
        return Losses((model(x).float() - x.sum(-1, keepdim=True)).square().mean())

    task = Task(
        label="test",
        model=model,
        batch=batch,
        loss=loss,
        evaluate=lambda: {"total": model(torch.ones(1, 3)).float().sub(3).square().item()},
        save=save,
        hidden=[model[1].weight],
    )
    loop.autocast = lambda device: nullcontext()  # bf16 rounds a sum of two halves differently
    with distributed.group():
        scores = fit(task, STEPS, folder / "run")
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.save((weights, scores["total"]), folder / f"{rank}.pt")
    torch.save(noise, folder / f"noise{rank}.pt")
    return weights


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Put back what `run` changes in this process."""
    monkeypatch.setattr(loop, "autocast", loop.autocast)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def two_processes(folder: Path, poison_at: int | None = None) -> None:
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(run, (2, folder, port, poison_at), nprocs=2, start_method=START)


@FORKS
def test_two_workers_equal_one_of_the_same_global_batch(tmp_path):
    (tmp_path / "one").mkdir()
    two_processes(tmp_path / "two")
    one = run(0, 1, tmp_path / "one")
    for rank in range(2):
        weights, score = torch.load(tmp_path / "two" / f"{rank}.pt", weights_only=True)
        assert torch.allclose(weights, one, atol=1e-4)
        assert score == pytest.approx(torch.load(tmp_path / "one" / "0.pt", weights_only=True)[1], abs=1e-4)
    assert (tmp_path / "two" / "run" / "best" / "config.json").read_text() == "0"  # one process writes
    noise = [torch.load(tmp_path / "two" / f"noise{rank}.pt", weights_only=True) for rank in range(2)]
    assert len({*noise[0], *noise[1]}) == 2 * STEPS.steps  # each drops and hides in its own rows


@FORKS
def test_all_workers_stop_when_the_loss_of_one_is_not_finite(tmp_path):
    with pytest.raises(mp.ProcessRaisedException, match="became nan at step 2"):
        two_processes(tmp_path / "two", poison_at=2)


def test_shares_are_the_batch_and_uneven_ones_are_refused(monkeypatch):
    batch = torch.arange(6)
    assert torch.equal(distributed.share(batch), batch)
    monkeypatch.setattr(distributed, "size", lambda: 3)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(distributed.share(batch))
    assert torch.equal(torch.cat(parts), batch)
    with pytest.raises(ValueError, match="5 rows cannot be shared by 3 processes"):
        distributed.share(batch[:5])

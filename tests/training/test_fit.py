import json
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.tiny import tiny_config
from worldmodel.model import CodeBatch, WorldModel
from worldmodel.training.fit import LoopConfig, Task, fit, is_done, learning_rate

Losses = namedtuple("Losses", "total")
CONFIG = LoopConfig(steps=12, batch_size=4, learning_rate=0.05, warmup=2, evaluate_every=4, save_every=4)


def make_task(fail_at: int | None = None, poison_at: int | None = None, muon: bool = False) -> Task:
    """Fit y = 2x with a dropout that makes noise matter; may die or meet a NaN at a given step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 16), nn.Linear(16, 16), nn.Dropout(0.3), nn.Linear(16, 1))
    calls = {"batch": 0}

    def batch(rng: np.random.Generator) -> torch.Tensor:
        if calls["batch"] == fail_at:
            raise KeyboardInterrupt
        x = torch.from_numpy(rng.normal(size=(CONFIG.batch_size, 1)).astype(np.float32))
        if calls["batch"] == poison_at:
            x = x * float("nan")
        calls["batch"] += 1
        return x

    def save(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"weight": model[0].weight.sum().item()}))

    return Task(
        label="test",
        model=model,
        batch=batch,
        loss=lambda x: Losses((model(x).float() - 2 * x).square().mean()),
        evaluate=lambda: {"total": model(torch.full((1, 1), 3.0)).float().sub(6).square().item()},
        save=save,
        hidden=[model[1].weight] if muon else (),
    )


def weights(task: Task) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in task.model.parameters()])


@pytest.mark.parametrize("muon", [False, True])
@pytest.mark.parametrize("killed_after", [3, 4, 9])
def test_resumed_training_equals_unbroken_training(tmp_path, killed_after, muon):
    unbroken = make_task(muon=muon)
    fit(unbroken, CONFIG, tmp_path / "unbroken")
    with pytest.raises(KeyboardInterrupt):
        fit(make_task(fail_at=killed_after, muon=muon), CONFIG, tmp_path / "killed")
    resumed = make_task(muon=muon)
    fit(resumed, CONFIG, tmp_path / "killed")
    assert torch.equal(weights(resumed), weights(unbroken))
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("killed", "unbroken")]
    assert logs[0] == logs[1]


def test_training_learns_and_leaves_best_and_last(tmp_path):
    task = make_task()
    config = replace(CONFIG, steps=200)
    before = task.evaluate()["total"]
    scores = fit(task, config, tmp_path)
    assert scores["total"] < 0.1 * before
    assert (tmp_path / "best" / "config.json").exists() and (tmp_path / "last" / "config.json").exists()
    assert list((tmp_path / "events").iterdir())
    assert is_done(tmp_path, config) and not is_done(tmp_path, replace(config, steps=300))


def test_a_finished_run_is_not_trained_again(tmp_path):
    fit(make_task(), CONFIG, tmp_path)
    again = make_task(fail_at=0)  # would die at its first batch
    fit(again, CONFIG, tmp_path)
    state = torch.load(tmp_path / "training_state.pt", weights_only=True)
    assert torch.equal(again.model[0].weight, state["model"]["0.weight"])


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(tmp_path):
    task = make_task(poison_at=6)
    seen = {}
    batch = task.batch

    def watch(rng):
        seen["weights"] = weights(task).clone()
        return batch(rng)

    with pytest.raises(FloatingPointError, match="at step 6, before the weights were changed"):
        fit(replace_batch(task, watch), CONFIG, tmp_path)
    assert torch.equal(weights(task), seen["weights"])
    assert torch.load(tmp_path / "training_state.pt", weights_only=True)["step"] == 4


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change(tmp_path):
    task = make_task()
    before = weights(task).clone()
    root_at_zero = replace(task, loss=lambda x: Losses((0.0 * task.model(x).sum()).sqrt()))  # 0, with slope infinity
    with pytest.raises(FloatingPointError, match="the gradient of test became nan at step 0"):
        fit(root_at_zero, CONFIG, tmp_path)
    assert torch.equal(weights(task), before)


@pytest.mark.parametrize("change", [{"steps": 8}, {"learning_rate": 0.01}, {"seed": 1}])
def test_a_run_of_other_settings_is_not_continued(tmp_path, change):
    fit(make_task(), CONFIG, tmp_path)
    settings = (tmp_path / "config.json").read_text()
    with pytest.raises(ValueError, match=f"loop.{next(iter(change))} is"):
        fit(make_task(), replace(CONFIG, **change), tmp_path)
    assert (tmp_path / "config.json").read_text() == settings  # what the saved state was trained with


def test_how_often_a_run_is_saved_may_change(tmp_path):
    fit(make_task(), CONFIG, tmp_path)
    fit(make_task(fail_at=0), replace(CONFIG, save_every=3), tmp_path)


def test_a_line_of_metrics_cut_short_is_dropped(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(make_task(fail_at=6), CONFIG, tmp_path)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "trai')
    fit(make_task(), CONFIG, tmp_path)
    assert all(json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())


def test_damaged_lines_of_metrics_are_left_out_and_counted(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        fit(make_task(fail_at=6), CONFIG, tmp_path)
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    odd = [b"\xff\xfe\x00", b"3", b"[]", b"{}", b'{"step": "a"}', b'{"step": true}', b"[" * 100_000, b"null"]
    path.write_bytes(b"\n".join(odd) + b"\n" + whole)
    fit(make_task(), CONFIG, tmp_path)
    assert f"{path}: {len(odd)} damaged lines are left out" in capsys.readouterr().out
    assert path.read_bytes().startswith(whole)
    assert all(json.loads(line)["step"] for line in path.read_text().splitlines())


def replace_batch(task: Task, batch) -> Task:
    return replace(task, batch=batch)


def test_the_callers_random_numbers_are_not_touched(tmp_path):
    task = make_task()
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    fit(task, CONFIG, tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_state_of_another_model_is_refused(tmp_path):
    fit(make_task(), CONFIG, tmp_path)
    other = make_task()
    other.model.append(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="other settings"):
        fit(other, CONFIG, tmp_path)


def test_learning_rate_rises_then_falls_to_its_share():
    config = LoopConfig(steps=100, batch_size=1, learning_rate=1.0, warmup=10, final_share=0.1)
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates[100] == pytest.approx(0.1) and rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of itself
def test_a_compiled_loss_trains_the_same_weights(tmp_path):
    config = replace(tiny_config(), dynamics=replace(tiny_config().dynamics, context_noise=0.0))
    weights = []
    for compiled in (False, True):
        torch.manual_seed(1)
        world = WorldModel(config)
        world.tokenizer.requires_grad_(False)
        batch = CodeBatch(
            torch.randint(world.tokenizer.num_codes, (4, 5, *world.tokenizer.grid, world.tokenizer.num_slices)),
            torch.zeros(4, 4, dtype=torch.int64),
            torch.ones(4, 4),
            torch.zeros(4, 4, dtype=torch.bool),
            torch.zeros(4, 5, len(config.signal_names)),
            torch.ones(4, 4, dtype=torch.bool),
        )
        task = Task(
            label="world",
            model=world,
            batch=lambda rng, batch=batch: batch,
            loss=world.loss,
            evaluate=lambda: {"total": 0.0},
            save=lambda folder: None,
        )
        torch.manual_seed(0)
        fit(task, replace(CONFIG, steps=3, compile=compiled, learning_rate=1e-3), tmp_path / str(compiled))
        weights.append(world.dynamics.state_dict())
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=2e-3, rtol=1e-2)


def test_gradients_are_not_clipped_by_a_norm_of_zero(tmp_path):
    """Nor does a norm that none of them reaches."""
    tasks = make_task(), make_task(), make_task()
    for number, (task, clip_norm) in enumerate(zip(tasks, (0.0, 1e9, 0.01), strict=True)):
        fit(task, replace(CONFIG, clip_norm=clip_norm), tmp_path / str(number))
    assert torch.equal(weights(tasks[0]), weights(tasks[1])) and not torch.equal(weights(tasks[0]), weights(tasks[2]))


def test_a_resumed_run_keeps_all_points_of_its_curves(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(make_task(), CONFIG, tmp_path)
    fit(make_task(), CONFIG, tmp_path)
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert [point.step for point in events.Scalars("validation/total")] == [4, 8, 12]

import os
from functools import partial
from pathlib import Path

import pytest

from worldmodel.errors import OutsideError
from worldmodel.training.ablations.jobs import check_failed, run_jobs


def write(path: Path) -> None:
    print("a line for the log")
    path.write_text(f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')}")


def stumble() -> None:
    raise ValueError("too steep")


def vanish() -> None:
    os._exit(9)


def test_one_worker_runs_jobs_here_and_continues_after_a_failure(tmp_path, capsys):
    jobs = {"first": stumble, "second": partial(write, tmp_path / "made")}
    assert run_jobs(jobs, tmp_path / "logs") == ["first"]
    assert (tmp_path / "made").read_text().split()[0] == str(os.getpid())
    printed = capsys.readouterr().out
    assert "first failed: ValueError: too steep" in printed and "[2/2] second" in printed


@pytest.mark.timeout(120)
def test_several_workers_run_jobs_in_processes_with_their_share_of_threads(tmp_path, capsys):
    jobs = {"a": partial(write, tmp_path / "a"), "b": stumble, "c": vanish, "d": partial(write, tmp_path / "d")}
    before = os.environ.get("OMP_NUM_THREADS")
    assert run_jobs(jobs, tmp_path / "logs", workers=2, threads=3) == ["b", "c"]
    made = [(tmp_path / name).read_text().split() for name in ("a", "d")]
    assert len({pid for pid, _ in made} | {str(os.getpid())}) == 3
    assert [threads for _, threads in made] == ["3", "3"] and os.environ.get("OMP_NUM_THREADS") == before
    assert "too steep" in (tmp_path / "logs" / "b.log").read_text()
    assert "a line for the log" in (tmp_path / "logs" / "a.log").read_text()
    printed = capsys.readouterr().out
    assert "b failed (exit code 1)" in printed and "c failed (exit code 9)" in printed
    assert "line for the log" not in printed


def test_zero_workers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        run_jobs({}, tmp_path, workers=0)


def test_failed_jobs_are_named_at_the_end():
    check_failed([], "trainings")
    with pytest.raises(OutsideError, match="2 trainings failed: x, y"):
        check_failed(["x", "y"], "trainings")

"""Many jobs, some in parallel, each in its own process; a failed one does not stop the others."""

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from multiprocessing.context import SpawnProcess
from pathlib import Path

from worldmodel.errors import OutsideError

_PAUSE = 0.1  # seconds between looks at the running processes


def run_jobs(jobs: Mapping[str, Callable[[], None]], logs: str | Path, workers: int = 1, threads: int = 1) -> list[str]:
    """Run every job, `workers` at once, and print a line at each start and end.

    Args:
        jobs: name -> what to do; picklable if there are several workers.
        logs: folder; a job in its own process prints to NAME.log there. A single worker runs in this process and
            prints as usual.
        threads: of each process.

    Returns: the names of the jobs that failed, in the order of `jobs`.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    failed = _in_turn(jobs) if workers == 1 else _at_once(jobs, Path(logs), workers, threads)
    return [name for name in jobs if name in failed]


def _in_turn(jobs: Mapping[str, Callable[[], None]]) -> set[str]:
    failed = set()
    for place, (name, job) in enumerate(jobs.items(), start=1):
        print(f"[{place}/{len(jobs)}] {name}", flush=True)
        try:
            job()
        except Exception as error:
            traceback.print_exc()
            print(f"{name} failed: {type(error).__name__}: {error}", flush=True)
            failed.add(name)
    return failed


def _at_once(jobs: Mapping[str, Callable[[], None]], logs: Path, workers: int, threads: int) -> set[str]:
    logs.mkdir(parents=True, exist_ok=True)
    # A fresh interpreter: a fork of a process in which torch has started threads may hang.
    context = multiprocessing.get_context("spawn")
    waiting = list(jobs)
    running: dict[str, tuple[SpawnProcess, float]] = {}  # with the time of the start
    failed: set[str] = set()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                name = waiting.pop(0)
                process = context.Process(target=_work, args=(jobs[name], logs / f"{name}.log"))
                with _environment(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads)):
                    process.start()
                running[name] = process, time.monotonic()
                print(f"[{len(jobs) - len(waiting)}/{len(jobs)}] {name}", flush=True)
            time.sleep(_PAUSE)
            for name, (process, begin) in list(running.items()):
                if process.is_alive():
                    continue
                process.join()
                del running[name]
                if process.exitcode:
                    failed.add(name)
                    print(f"{name} failed (exit code {process.exitcode}); see {logs / name}.log", flush=True)
                else:
                    print(f"{name} done after {(time.monotonic() - begin) / 60:.1f} minutes", flush=True)
    finally:  # Ctrl-C: no process outlives the call
        for process, _ in running.values():
            process.terminate()
            process.join()
    return failed


def _work(job: Callable[[], None], log: Path) -> None:
    """Run in the new process, with all output in the log."""
    with open(log, "a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            job()
        except KeyboardInterrupt:  # Ctrl-C reaches every process; the first one reports it
            sys.exit(130)
        except Exception:
            traceback.print_exc()
            sys.exit(1)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Environment variables for processes that are started inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def check_failed(failed: list[str], what: str) -> None:
    """OutsideError that names the jobs that failed, if there are any."""
    if failed:
        raise OutsideError(f"{len(failed)} {what} failed: {', '.join(failed)}. Run the same command to try them again")

"""Stages of a long run: finished ones are skipped, an interrupted one is run again."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from worldmodel.envs.ids import is_dream
from worldmodel.files import JsonObject, read_json, write_json
from worldmodel.leftovers import is_temporary, remove, remove_leftovers
from worldmodel.locks import LOCK, only_process
from worldmodel.settings import difference
from worldmodel.training.earlier_settings import completed, known, may_lack


@dataclass
class _State:
    done: list[str]
    minutes: dict[str, float]
    clearing: bool = False  # the run is being deleted, to start over
    running: str = ""  # the stage that is running
    cut: list[str] = field(default_factory=list)  # stages with a killed attempt, whose duration is unknown


@contextmanager
def staged(out: Path, config: Any, fresh: bool, free: Sequence[str] = (), kind: str = "a demo") -> Iterator["Stages"]:
    """`Stages` of a run whose folder is locked against other processes; other arguments as in `Stages`.

    Args:
        out: the run folder; new, empty, or of an earlier run of the same kind.
        kind: name of such a run in errors.

    Raises:
        ValueError: `out` holds something else, or a run with other settings and `fresh` is not set.
    """
    _check_ours(out, {field.name for field in fields(config)}, kind)
    with only_process(out, "run"):
        yield Stages(out, config, fresh, free)


class Stages:
    """Which stages of a run folder are done, and how many minutes each took, all attempts together (stages.json).

    Args:
        out: the run folder.
        config: a dataclass, all that decides the run; kept in config.json.
        fresh: delete the earlier run first.
        free: names of settings that may change when a run is resumed.

    Raises:
        ValueError: `out` holds a run with other settings and `fresh` is not set.
    """

    def __init__(self, out: Path, config: Any, fresh: bool, free: Sequence[str] = ()) -> None:
        self._path, file = out / "stages.json", out / "config.json"
        remove_leftovers(out)
        settings = json.loads(json.dumps(asdict(config)))
        state = read_json(self._path, _State) if self._path.is_file() else None
        if state is not None and (fresh or state.clearing):
            self._clear(out)
            state = None
        if state is None:
            write_json(file, settings)
            self._write(state := _State([], {}))
        else:
            found = read_json(file, JsonObject)
            before, now = completed(_without(free, found), settings), known(_without(free, settings))
            if before != now:
                raise ValueError(
                    f"{out} holds a run with other settings ({difference(before, now)}); use another --out, or "
                    "--fresh to start over"
                )
            if found != settings:
                write_json(file, settings)
        self._state = state
        self.minutes = state.minutes
        if state.running and state.running not in state.cut:
            state.cut.append(state.running)

    def _clear(self, out: Path) -> None:
        """Delete a run except for the files that identify it, so that the next attempt finishes this after a kill."""
        self._write(_State([], {}, clearing=True))
        for path in sorted(out.iterdir()):
            if path.name not in ("config.json", self._path.name, LOCK):
                remove(path)

    def _write(self, state: _State) -> None:
        always = ("done", "minutes")
        write_json(self._path, {name: value for name, value in asdict(state).items() if value or name in always})

    def was_cut(self, name: str) -> bool:
        """Whether an attempt at this stage was killed: its minutes are those of the other attempts alone."""
        return name in self._state.cut

    def __call__(self, name: str, work: Callable[[], object]) -> None:
        """Do the work of a stage, unless it is finished; it is once `work` returns without an error."""
        state = self._state
        if name in state.done:
            print(f"{name}: done before, in {self.minutes[name]:.1f} minutes")
            return
        print(f"{name} …", flush=True)
        begin, before = time.monotonic(), self.minutes.get(name, 0.0)
        state.running = name
        self._write(state)
        try:
            work()
            state.done.append(name)
        finally:
            self.minutes[name] = round(before + (time.monotonic() - begin) / 60, 2)
            state.running = ""
            self._write(state)


def check_begins(env_id: str, workers: int, seed: int) -> None:
    """Check early what the first stage would fail on: ValueError, or Gymnasium's error for an unknown game."""
    if is_dream(env_id):
        raise ValueError(f"this needs a real game, of which it trains a world model, but {env_id} is a dream")
    for name, given, least in (("workers", workers, 1), ("seed", seed, 0)):
        if given < least:
            raise ValueError(f"{name} must be at least {least}, got {given}")


def _without(names: Sequence[str], settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def _check_ours(out: Path, names: set[str], kind: str) -> None:
    """ValueError if `out` holds anything but such a run: stages would overwrite it, and --fresh would delete it."""
    there = {path.name for path in out.iterdir() if not is_temporary(path.name)} - {LOCK} if out.exists() else set()
    if not there:
        return
    files = [out / "config.json", out / "stages.json"]
    config, stages = (read_json(file) if file.is_file() else None for file in files)
    begun = (isinstance(stages, dict) and "done" in stages) or there == {"config.json"}  # the first file of a run
    if not isinstance(config, dict) or not names - may_lack(names) <= set(config) <= names or not begun:
        raise ValueError(f"{out} holds something other than {kind}'s run; use another --out, or delete it yourself")


__all__ = ["Stages", "check_begins", "staged"]

"""Collection: parallel workers play a policy in a real env and store whole episodes.

Episode i depends only on (seed, i) and the settings, not on the number of workers or on interruptions.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym

from worldmodel.agents.blind.policies import FORMS, is_scripted, scripted_policy
from worldmodel.data import ActionSpec, EpisodeStorage, StoreInfo
from worldmodel.data.minari import recoverable
from worldmodel.data.store_settings import open_with_settings
from worldmodel.envs.actions import check_actions, named_actions
from worldmodel.errors import OutsideError
from worldmodel.files import JsonObject, read_json, write_json
from worldmodel.locks import only_process
from worldmodel.progress import progress
from worldmodel.training.collect.crew import Crew, episodes_of
from worldmodel.training.collect.env_options import check_options, parse_options
from worldmodel.training.collect.stats import RETURNS, CollectStats, statistics
from worldmodel.training.collect.workers import Job, LocalCrew, Played

UNDER_WAY = "collecting.json"  # of an unfinished collection: its goal, and the episodes stored before it
WORKERS = 2  # default number of processes
SETTINGS = "collect.json"  # settings of the store, which is continued only with the same ones


def collect(
    env_id: str,
    out: str | Path,
    *,
    episodes: int | None = None,
    steps: int | None = None,
    policy: str | os.PathLike = "diverse",
    epsilon: float = 0.0,
    workers: int = WORKERS,
    seed: int = 0,
    env_kwargs: Mapping[str, Any] | Sequence[str] = (),
    labels: bool = False,
    episode_seconds: float = 600.0,
    launcher: Literal["local", "ray"] = "local",
    num_workers: int = 1,
) -> CollectStats:
    """Record whole episodes of a real env until the store holds --episodes episodes or --steps steps.

    Run it again to resume after an interruption or to reach a higher goal. A worker that dies or takes too long is
    replaced and its episode played again, at most three times.

    Args:
        env_id: id of a real game, such as VideoGenReal-Doom.
        out: folder of the store; new, or left by an earlier collection with the same settings.
        episodes: number of episodes in the store.
        steps: minimum number of steps in the store; as many episodes are recorded as it takes.
        policy: "diverse" (each episode holds, repeats or prefers other actions), "sticky" (random, holding each action
            for a while), "random", another blind policy such as cycle:move_left*8,move_right*8 (docs/collecting.md), or
            the folder of a saved agent or its run.
        epsilon: share of the policy's actions that are replaced by random ones, in [0, 1].
        workers: number of processes on this machine that play at the same time.
        seed: seed of the whole collection.
        env_kwargs: options of the env, as NAME=VALUE (reward=health frame_skip=8) or, in Python, as a dict.
        labels: also store which object each pixel shows, for evaluate-model (ViZDoom only); stores become two thirds
            larger.
        episode_seconds: time limit for an episode and for a worker's start; then the worker is replaced.
        launcher: "local": on this machine; "ray": on the workers of a Ray cluster, which must see an agent's folder.
        num_workers: number of Ray workers.

    Returns: statistics of the store, which are also printed. A script that calls this must be guarded by
    ``if __name__ == "__main__":``, since the workers are new Python processes.

    Raises:
        ValueError: an argument is not valid, `out` holds something other than this collection, or another collection
            is running there.
        TypeError: the env has no option of a name in `env_kwargs`.
        OutsideError: a worker failed, or an episode's workers were lost three times; gives the reason. Stored episodes
            are kept; a new store without any is deleted.
    """
    if (episodes is None) == (steps is None):
        raise ValueError(f"give either episodes or steps, got episodes={episodes} and steps={steps}")
    goal = episodes if steps is None else steps
    if goal is None or goal < 1 or workers < 1:
        raise ValueError(f"episodes or steps and workers must be at least 1, got {goal} and workers={workers}")
    _check_launcher(launcher, workers, num_workers)
    if not episode_seconds > 0:
        raise ValueError(f"episode_seconds must be above 0, got {episode_seconds}")
    if not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"epsilon must be in [0, 1], got {epsilon}")
    options = dict(env_kwargs) if isinstance(env_kwargs, Mapping) else parse_options(env_kwargs)
    options |= {"labels": True} if labels else {}
    check_options(env_id, options)
    job = Job(env_id, options, Path(out), _player(policy), epsilon, seed)
    new = not job.out.exists()
    store = _open_store(job)
    plan = _Plan(dict(zip(store.ids.tolist(), store.lengths, strict=True)), episodes, steps)
    count = workers if launcher == "local" else num_workers
    try:
        with only_process(job.out, "collection"):
            goals = {"episodes": episodes, "steps": steps}
            stats = _record(
                store, plan, goals, lambda: _play_all(job.out, plan, _crew(job, launcher), count, episode_seconds)
            )
    except OutsideError:
        if new and not len(EpisodeStorage.open(job.out)):
            shutil.rmtree(job.out)
        raise
    print(stats)
    return stats


def _record(
    store: EpisodeStorage, plan: "_Plan", goals: dict[str, int | None], play: Callable[[], None]
) -> CollectStats:
    """Play until the plan's goal is reached, and pack the store."""
    # Episodes stored before a collection are kept, also if it is interrupted and resumed: only its own surplus goes.
    under_way = store.root / UNDER_WAY
    interrupted = read_json(under_way, JsonObject, ("goal", "before")) if under_way.exists() else {}
    before = interrupted["before"] if interrupted.get("goal") == goals else store.ids.tolist()
    write_json(under_way, {"goal": goals, "before": before})
    began, steps_before = time.perf_counter(), store.num_steps
    if not plan.reached:
        play()
        store = EpisodeStorage.open(store.root)
    # With a goal in steps, later episodes were already being played when the last one needed was finished.
    store.discard(store.pending_ids - set(before) - set(range(plan.wanted)))
    store.flush()
    under_way.unlink()
    return statistics(store, steps_before, time.perf_counter() - began)


class _Plan:
    """Decides which episode is next and whether the goal is reached."""

    def __init__(self, lengths: dict[int, int], episodes: int | None, steps: int | None) -> None:
        self._lengths = lengths  # steps of each stored episode, by id
        self._episodes, self._steps = episodes, steps
        self._next_ids = count()
        self._certain_steps = 0  # of the stored episodes among those assigned or skipped so far
        self.wanted = 0  # episodes 0 to wanted - 1 are stored; once the goal is reached, no others are needed
        self._wanted_steps = 0
        self._advance()

    @property
    def goal(self) -> int:
        return self._steps or self._episodes or 0

    @property
    def unit(self) -> str:
        return "step" if self._steps else "episode"

    @property
    def done(self) -> int:
        """Stored part of the goal, in its unit."""
        return min(self.goal, sum(self._lengths.values()) if self._steps else len(self._lengths))

    @property
    def reached(self) -> bool:
        return (self._wanted_steps if self._steps else self.wanted) >= self.goal

    def next_id(self) -> int | None:
        """The next episode that is neither stored nor assigned; None if the assigned ones reach the goal."""
        for next_id in self._next_ids:
            if (self._certain_steps if self._steps else next_id) >= self.goal:
                return None
            if next_id not in self._lengths:
                return next_id
            self._certain_steps += self._lengths[next_id]
        raise AssertionError("ids do not end")

    def add(self, played: Played) -> None:
        self._lengths[played.episode_id] = played.num_steps
        self._certain_steps += played.num_steps
        self._advance()

    def _advance(self) -> None:
        while not self.reached and self.wanted in self._lengths:
            self._wanted_steps += self._lengths[self.wanted]
            self.wanted += 1


def _play_all(out: Path, plan: _Plan, crew: Crew, workers: int, seconds: float) -> None:
    began, steps = time.perf_counter(), 0
    _end_last_line(out / RETURNS)
    with (
        progress(plan.goal, plan.unit, "collect", initial=plan.done) as bar,
        open(out / RETURNS, "a", encoding="utf-8") as returns,
        closing(episodes_of(crew, workers, plan.next_id, seconds, bar.say)) as episodes,
    ):
        while not plan.reached:
            played = next(episodes)
            returns.write(json.dumps(played._asdict()) + "\n")
            returns.flush()
            before = plan.done
            plan.add(played)
            steps += played.num_steps
            bar.note(f"{steps / (time.perf_counter() - began):,.0f} steps/s")
            bar.update(plan.done - before)


def _end_last_line(path: Path) -> None:
    """Let a line that a kill or a full disk cut short not spoil the one that is appended next."""
    if path.exists() and path.read_bytes()[-1:] not in (b"", b"\n"):
        with open(path, "ab") as file:
            file.write(b"\n")


def _check_launcher(launcher: str, workers: int, num_workers: int) -> None:
    if launcher not in ("local", "ray"):
        raise ValueError(f"launcher must be 'local' or 'ray', got {launcher!r}")
    if launcher == "local" and num_workers != 1:
        raise ValueError(f"num_workers={num_workers} needs --launcher ray; on this machine use --workers {num_workers}")
    if launcher == "ray" and workers != WORKERS:
        raise ValueError(f"workers={workers} are processes of this machine; with --launcher ray use --num-workers")
    if num_workers < 1:
        raise ValueError(f"num_workers must be at least 1, got {num_workers}")


def _crew(job: Job, launcher: str) -> Crew:
    if launcher == "local":
        return LocalCrew(job)
    from worldmodel.training.collect.ray_workers import RayCrew

    return RayCrew(job)


def _open_store(job: Job) -> EpisodeStorage:
    """The store in `job.out`, new or continued; ValueError if it was made with other settings."""
    settings = job._asdict() | {"policy": _policy_identity(job.policy)}
    del settings["out"]
    env = gym.make(job.env_id, disable_env_checker=True, **job.env_kwargs)
    info = _store_info(job.env_id, env)
    env_spec = recoverable(env.unwrapped.spec) if env.unwrapped.spec else None
    env.close()
    if is_scripted(job.policy):
        scripted_policy(job.policy, info.action)  # reports a mistake in its name before anything is written
    else:
        _check_agent(job, info.action)
    return open_with_settings(job.out, SETTINGS, settings, lambda: info, env_spec)


def _player(policy: str | os.PathLike) -> str:
    """The name of a scripted policy, or the folder of an agent."""
    if is_scripted(str(policy)):
        return str(policy)
    from worldmodel.checkpoint import agent_folder  # imports torch, which scripted policies do not need

    return str(agent_folder(policy))


def _check_agent(job: Job, action: ActionSpec) -> None:
    """ValueError or FileNotFoundError, before anything is written, for an agent that cannot play this env."""
    from worldmodel.agents.sb3.agent import load_agent

    agent = load_agent(job.policy)
    check_actions(agent.action_spec, action, f"the agent in {job.policy}", job.env_id)
    agent.view()


def _policy_identity(policy: str) -> str:
    """The name of a scripted policy, or a hash of all files in an agent's folder."""
    if is_scripted(policy):
        return policy
    folder = Path(policy)
    if not folder.is_dir():
        raise ValueError(f"policy must be scripted ({FORMS}) or the folder of a trained agent, got {policy!r}.")
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return f"agent {digest.hexdigest()[:16]}"


def _store_info(env_id: str, env: gym.Env) -> StoreInfo:
    real: Any = env.unwrapped
    if not hasattr(real, "frames_per_step"):
        raise ValueError(
            f"{env_id} reports no frames and signals to learn from. Use a real env, such as VideoGenReal-Doom, or wrap "
            "one that shows images in worldmodel.envs.PixelGame (docs/own-game.md)"
        )
    height, width, channels = real.observation_space.shape
    return StoreInfo(
        env_id=env_id,
        frames_per_step=real.frames_per_step,
        height=height,
        width=width,
        channels=channels,
        action=named_actions(env),  # those of a wrapper that replaces the game's
        signal_names=real.signal_names,
        reward=real.reward_kind,
        steps_per_second=float(env.metadata.get("render_fps") or 0.0),
        label_names=getattr(real, "label_names", ()),
    )

"""Collection: parallel workers play a policy in a real env and store whole episodes.

Episode i depends on (seed, i) and the settings alone, whatever the number of workers and however often the collection
was stopped and resumed.
"""

import hashlib
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing import connection as mp_connection
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, cast

import gymnasium as gym
import numpy as np

from worldmodel.agents.scripted import EpsilonPolicy, Policy, RandomPolicy, StickyPolicy
from worldmodel.data import Episode, EpisodeStorage, StoreInfo
from worldmodel.files import read_json, write_json
from worldmodel.progress import progress

_SCRIPTED = {"random": RandomPolicy, "sticky": StickyPolicy}
_SETTINGS = "collect.json"  # how the store was made; a store made in another way is not continued
_RETURNS = "returns.jsonl"  # one line per episode: the native return, which the store itself does not keep
_STEPS_BETWEEN_CHECKS = 20  # of a worker for the order to stop


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectStats:
    """What a store holds after collection; print it for a summary."""

    episodes: int
    steps: int
    terminated: int  # episodes that the game ended
    truncated: int  # episodes that the clock ended
    lengths: np.ndarray  # (episodes,) steps of each
    returns: np.ndarray  # (episodes,) in the store's own unit
    native_returns: np.ndarray  # (episodes,) in the game's unit; NaN where it was not recorded
    reward_unit: str
    action_counts: dict[str, int]  # steps per action; empty for actions that are numbers
    reward_signs: tuple[int, int]  # steps with a reward above and below 0
    signal_changes: dict[str, tuple[int, int]]  # steps in which a signal rose and fell
    new_steps: int  # stored by this run
    seconds: float  # that this run took

    def __str__(self) -> str:
        per_thousand = 1000 / max(self.steps, 1)
        up, down = self.reward_signs
        lines = [
            f"{self.episodes} episodes, {self.steps} steps ({self.terminated} ended by the game, "
            f"{self.truncated} by the clock)",
            f"length: {_spread(self.lengths)}",
            f"return ({self.reward_unit}): {_spread(self.returns)}",
            f"reward events per 1,000 steps: {up * per_thousand:.1f} above 0, {down * per_thousand:.1f} below 0",
        ]
        known = self.native_returns[~np.isnan(self.native_returns)]
        if self.reward_unit != "native" and len(known):
            of = "" if len(known) == self.episodes else f" (known of {len(known)} episodes)"
            lines.insert(3, f"return (native): {_spread(known)}{of}")
        for name, (rises, falls) in self.signal_changes.items():
            lines.append(f"{name} per 1,000 steps: rises {rises * per_thousand:.1f}, falls {falls * per_thousand:.1f}")
        if self.action_counts:
            shares = (f"{name} {100 * n / max(self.steps, 1):.0f} %" for name, n in self.action_counts.items())
            lines.append(f"actions: {', '.join(shares)}")
        if self.new_steps:
            rate = self.new_steps / self.seconds
            lines.append(f"this run: {self.new_steps} steps in {self.seconds:.1f} s ({rate:,.0f} steps/s)")
        return "\n".join(lines)


class _Job(NamedTuple):
    """What every worker is told at its start."""

    env_id: str
    env_kwargs: dict[str, Any]
    out: Path
    policy: str
    epsilon: float
    seed: int


class _Played(NamedTuple):
    """A worker's word that an episode is stored."""

    episode_id: int
    num_steps: int
    native_return: float


def collect(
    env_id: str,
    out: str | Path,
    *,
    episodes: int | None = None,
    steps: int | None = None,
    policy: str | Path = "sticky",
    epsilon: float = 0.0,
    workers: int = 2,
    seed: int = 0,
    env_kwargs: dict[str, Any] | None = None,
) -> CollectStats:
    """Play `policy` in a real env, store whole episodes in `out`, print and return their statistics.

    Run it again to go on after a stop or towards a higher goal. The workers are new Python processes, so a script that
    calls this needs the usual ``if __name__ == "__main__":``.

    Args:
        env_id: an env that reports its frames and signals as `worldmodel.envs.VizdoomEnv` does.
        out: folder of the store; new, or left by an earlier call with the same settings.
        episodes: how many episodes the store shall hold; or
        steps: how many steps at least: as many episodes as it takes, in their order.
        policy: "random", "sticky", or the folder of a trained agent.
        epsilon: share of the policy's actions replaced by random ones, in [0, 1].
        workers: processes that play at the same time.
        seed: of the whole collection.
        env_kwargs: further arguments of the env.

    Raises:
        ValueError: an argument is not valid, or `out` holds something else than this collection.
        RuntimeError: a worker failed; holds its own words. What is stored stays.
    """
    if (episodes is None) == (steps is None):
        raise ValueError(f"give either episodes or steps, got episodes={episodes} and steps={steps}")
    goal = episodes if steps is None else steps
    if goal is None or goal < 1 or workers < 1:
        raise ValueError(f"episodes or steps and workers must be at least 1, got {goal} and workers={workers}")
    if not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"epsilon must be in [0, 1], got {epsilon}")
    job = _Job(env_id, env_kwargs or {}, Path(out), str(policy), epsilon, seed)
    store = _open_store(job)
    known = dict(zip(store.ids.tolist(), store.lengths, strict=True))
    plan = _Plan(dict(known), episodes, steps)
    began, steps_before = time.perf_counter(), store.num_steps
    if not plan.reached:
        _play_all(job, plan, workers)
        # With a goal in steps, later episodes were under way when the last one needed was finished.
        for surplus in set(EpisodeStorage.open(job.out).ids.tolist()) - known.keys() - set(range(plan.wanted)):
            (job.out / "data" / "pending" / f"episode_{surplus:06d}.hdf5").unlink()
    store = EpisodeStorage.open(job.out)
    store.flush()
    stats = _statistics(store, steps_before, time.perf_counter() - began)
    print(stats)
    return stats


class _Plan:
    """Which episode comes next, and whether the goal is reached."""

    def __init__(self, lengths: dict[int, int], episodes: int | None, steps: int | None) -> None:
        self._lengths = lengths  # steps of each stored episode, by id
        self._episodes, self._steps = episodes, steps
        self._next_ids = count()
        self.wanted = 0  # episodes 0 to wanted - 1 are stored; once the goal is reached, they are all it takes
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
        """How much of the goal is stored, in its unit."""
        return min(self.goal, sum(self._lengths.values()) if self._steps else len(self._lengths))

    @property
    def reached(self) -> bool:
        return (self._wanted_steps if self._steps else self.wanted) >= self.goal

    def next_id(self) -> int | None:
        """An episode that nobody has played or is playing; None when all are given out."""
        next_id = next(i for i in self._next_ids if i not in self._lengths)
        return None if self._episodes and next_id >= self._episodes else next_id

    def add(self, played: _Played) -> None:
        self._lengths[played.episode_id] = played.num_steps
        self._advance()

    def _advance(self) -> None:
        while not self.reached and self.wanted in self._lengths:
            self._wanted_steps += self._lengths[self.wanted]
            self.wanted += 1


def _play_all(job: _Job, plan: _Plan, workers: int) -> None:
    began, steps = time.perf_counter(), 0
    with (
        progress(plan.goal, plan.unit, "collect", initial=plan.done) as bar,
        open(job.out / _RETURNS, "a", encoding="utf-8") as returns,
        _started(job, workers) as connections,
    ):
        for connection in connections:
            _give_next(connection, plan)
        while not plan.reached:
            for connection in cast("list[Connection]", mp_connection.wait(connections)):
                played = _receive(connection)
                _give_next(connection, plan)
                returns.write(json.dumps(played._asdict()) + "\n")
                returns.flush()
                before = plan.done
                plan.add(played)
                steps += played.num_steps
                bar.note(f"{steps / (time.perf_counter() - began):,.0f} steps/s")
                bar.update(plan.done - before)


def _give_next(connection: Connection, plan: _Plan) -> None:
    if (next_id := plan.next_id()) is not None:
        connection.send(next_id)


@contextmanager
def _started(job: _Job, workers: int) -> Iterator[list[Connection]]:
    """Start the workers; on leaving, break off the episodes in flight and wait for the workers to end."""
    context = get_context("spawn")
    connections, processes = [], []
    try:
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, job), daemon=True)
            process.start()
            theirs.close()
            connections.append(ours)
            processes.append(process)
        yield connections
    finally:
        for connection in connections:
            connection.close()
        for process in processes:
            process.join(timeout=10)
            process.kill()


def _receive(connection: Connection) -> _Played:
    try:
        message = connection.recv()
    except EOFError:
        raise RuntimeError(
            "a collection worker died without a word (out of memory?). What is stored stays; run collect again to go on"
        ) from None
    if isinstance(message, str):
        raise RuntimeError(f"a collection worker failed; what is stored stays. It said:\n{message}")
    return message


def _work(connection: Connection, job: _Job) -> None:
    """A worker's life: play the episodes it is told to, until the connection closes."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C in the terminal is for the parent, which closes the connection; the game needs a quiet end
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            env, make_policy = _make_player(job)
            store = EpisodeStorage.open(job.out)
            while True:
                episode_id = connection.recv()
                env_seed, policy_seed = _seeds(job.seed, episode_id)
                episode, native_return = _play(env, make_policy(policy_seed), env_seed, connection)
                _check_open(connection)  # after a kill, another collection may already be playing this episode
                store.write_pending(episode, episode_id)
                connection.send(_Played(episode_id, episode.num_steps, native_return))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            env.close()
            raise
        except Exception:
            connection.send(traceback.format_exc())


def _check_open(connection: Connection) -> None:
    """EOFError if the parent closed the connection or died; while a worker plays, nothing else is sent to it."""
    if connection.poll():
        raise EOFError


def _play(env: gym.Env, policy: Policy, seed: int, connection: Connection) -> tuple[Episode, float]:
    """Play one episode; EOFError if the connection closes meanwhile."""
    observation, info = env.reset(seed=seed)
    frames, signals = [info["frames"]], [info["signals"]]
    actions: list[np.ndarray] = []
    rewards: list[float] = []
    native_return, terminated, truncated = 0.0, False, False
    while not (terminated or truncated):
        if len(actions) % _STEPS_BETWEEN_CHECKS == 0:
            _check_open(connection)
        action = policy.act(observation[None])[0]
        observation, reward, terminated, truncated, info = env.step(action)
        frames.append(info["frames"])
        signals.append(info["signals"])
        actions.append(action)
        rewards.append(float(reward))
        native_return += info["native_reward"]
    episode = Episode(
        frames=np.stack(frames),
        actions=np.array(actions),
        rewards=np.array(rewards, np.float32),
        terminated=bool(terminated),
        truncated=bool(truncated),
        signals=np.stack(signals),
        seed=seed,
    )
    return episode, native_return


def _seeds(seed: int, episode_id: int) -> tuple[int, int]:
    """Seeds of an episode's env and of its policy."""
    env_seed, policy_seed = np.random.SeedSequence((seed, episode_id)).generate_state(2)
    return int(env_seed), int(policy_seed)


def _make_player(job: _Job) -> tuple[gym.Env, Callable[[int], Policy]]:
    """The env as the policy sees it, and a function that makes one episode's policy from a seed."""
    env = gym.make(job.env_id, disable_env_checker=True, **job.env_kwargs)
    spec = env.get_wrapper_attr("action_spec")
    if job.policy in _SCRIPTED:
        base: Callable[[int], Policy] = partial(_SCRIPTED[job.policy], spec, 1)
    else:
        import torch

        from worldmodel.agents.sb3 import load_agent

        torch.set_num_threads(1)  # the workers share the cores
        agent = load_agent(job.policy)
        if agent.action_spec.shape != spec.shape or agent.action_spec.n != spec.n:
            raise ValueError(f"the agent in {job.policy} has {agent.action_spec}, but {job.env_id} has {spec}")
        if agent.meta.view != "real":
            from worldmodel.envs.wrappers import DreamView

            env = DreamView(env, agent.meta.world_model, agent.meta.view)

        def seeded(seed: int) -> Policy:
            agent.reset()
            agent.seed_rows([0], [seed])
            return agent

        base = seeded

    def make_policy(seed: int) -> Policy:
        policy = base(seed)
        return EpsilonPolicy(policy, job.epsilon, spec, 1, seed) if job.epsilon else policy

    return env, make_policy


def _open_store(job: _Job) -> EpisodeStorage:
    """The store in `job.out`, new or continued; ValueError if it was made with other settings."""
    settings = job._asdict() | {"policy": _policy_identity(job.policy)}
    del settings["out"]
    path = job.out / _SETTINGS
    env = gym.make(job.env_id, disable_env_checker=True, **job.env_kwargs)
    info = _store_info(job.env_id, env)
    env.close()
    if not (job.out / "data" / "metadata.json").exists():
        write_json(path, settings)
        return EpisodeStorage.create(job.out, info)
    if not path.exists():
        raise ValueError(
            f"{job.out} holds a store that collect did not make ({_SETTINGS} is missing). Choose another out."
        )
    made_with = read_json(path)
    for name in settings.keys() | made_with.keys():
        if (was := made_with.get(name)) != (now := settings.get(name)):
            raise ValueError(
                f"{job.out} was collected with {name}={was!r}, not {now!r}. Keep the settings to go on, or "
                "choose another out."
            )
    return EpisodeStorage.open(job.out)


def _policy_identity(policy: str) -> str:
    """The name of a scripted policy, or a hash of all that is in an agent's folder."""
    if policy in _SCRIPTED:
        return policy
    folder = Path(policy)
    if not folder.is_dir():
        raise ValueError(f"policy must be 'random', 'sticky' or the folder of a trained agent, got {policy!r}.")
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return f"agent {digest.hexdigest()[:16]}"


def _store_info(env_id: str, env: gym.Env) -> StoreInfo:
    real: Any = env.unwrapped
    if not hasattr(real, "frames_per_step"):
        raise ValueError(
            f"{env_id} reports no frames and signals to learn from. Use a real env, such as VideoGenReal-Doom"
        )
    height, width, channels = real.observation_space.shape
    return StoreInfo(
        env_id=env_id,
        frames_per_step=real.frames_per_step,
        height=height,
        width=width,
        channels=channels,
        action=real.action_spec,
        signal_names=real.signal_names,
        reward=real.reward_kind,
    )


def _statistics(store: EpisodeStorage, steps_before: int, seconds: float) -> CollectStats:
    places = range(len(store))
    rewards = np.concatenate([store.rewards(i) for i in places])
    changes = np.concatenate([np.diff(store.signals(i), axis=0) for i in places])
    ended = np.array([store.ended(i) for i in places])
    spec = store.info.action
    action_counts = {}
    if spec.kind == "discrete":
        counts = np.bincount(np.concatenate([store.actions(i) for i in places]), minlength=spec.n)
        action_counts = dict(zip(spec.names or map(str, range(spec.n)), counts.tolist(), strict=True))
    native = _read_returns(store.root / _RETURNS)
    return CollectStats(
        episodes=len(store),
        steps=store.num_steps,
        terminated=int(ended[:, 0].sum()),
        truncated=int(ended[:, 1].sum()),
        lengths=np.array(store.lengths),
        returns=np.array([store.rewards(i).sum() for i in places]),
        native_returns=np.array([native.get(episode_id, np.nan) for episode_id in store.ids.tolist()]),
        reward_unit=store.info.reward,
        action_counts=action_counts,
        reward_signs=(int((rewards > 0).sum()), int((rewards < 0).sum())),
        signal_changes={
            name: (int((change > 0).sum()), int((change < 0).sum()))
            for name, change in zip(store.info.signal_names, changes.T, strict=True)
        },
        new_steps=store.num_steps - steps_before,
        seconds=seconds,
    )


def _read_returns(path: Path) -> dict[int, float]:
    """Native return of each episode by id; a line cut short by a kill is left out."""
    returns = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with suppress(json.JSONDecodeError):
            played = _Played(**json.loads(line))
            returns[played.episode_id] = played.native_return
    return returns


def _spread(values: np.ndarray) -> str:
    return f"mean {values.mean():.1f}, standard deviation {values.std():.1f}, {values.min():.1f} to {values.max():.1f}"

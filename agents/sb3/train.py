"""PPO from Stable-Baselines3, in the dream or in the real game."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import JSONOutputFormat, Logger, TensorBoardOutputFormat
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecMonitor

from worldmodel import checkpoint
from worldmodel.agents.sb3.agent import agent_file, load_agent, save_agent
from worldmodel.agents.sb3.config import REAL_GAME, AgentConfig, AgentFile, AgentMeta
from worldmodel.agents.sb3.eval_callback import RealEvalCallback
from worldmodel.agents.sb3.generators import restored_generators
from worldmodel.agents.sb3.networks import policy_for, policy_parts
from worldmodel.agents.sb3.rollout_memory import as_agents_see
from worldmodel.agents.sb3.unfinished import FOLDER, load_unfinished, save_unfinished
from worldmodel.agents.sb3.vec_env import SB3VecEnv
from worldmodel.envs.actions import check_actions, named_actions
from worldmodel.envs.ids import env_spec
from worldmodel.envs.registry import load_model
from worldmodel.envs.wrappers import DreamViewVector, ThreadVectorEnv
from worldmodel.files import JsonObject, cut_log, read_json, write_json
from worldmodel.layers.defaults import own_defaults
from worldmodel.leftovers import is_temporary, remove_leftovers
from worldmodel.locks import LOCK, only_process
from worldmodel.progress import Progress, progress
from worldmodel.replacing import finish_replacing
from worldmodel.restoring import fill
from worldmodel.settings import difference

TRIES = "tries"  # folder in a run: briefly trained agents, of which one continues (training/agent_tries.py)
_SAVE_EVERY = 10_000  # env steps between saves of what a resumed training begins with


@own_defaults
def train_ppo(
    envs: VectorEnv | VecEnv,
    config: AgentConfig,
    run_dir: str | os.PathLike,
    meta: AgentMeta = AgentMeta(),  # noqa: B008 (frozen)
    on_rollout: Callable[[PPO], bool | None] | None = None,
    about: Mapping[str, Any] | None = None,
    start_from: str | os.PathLike | None = None,
    callback: BaseCallback | None = None,
    earlier_steps: int = 0,
) -> PPO:
    """Train an agent with PPO; every update saves a loadable agent in run_dir/agent.

    An unfinished training with the same settings in run_dir is resumed. In dreams the result equals that of an
    uninterrupted training; in other envs, whose state cannot be saved, new episodes begin.

    Args:
        envs: same-step autoreset, with images or float32 observations (H, W, C); closed by the caller. Without
            VecFrameStack or VecNormalize: frames are stacked here, and a saved agent gets the env's own observations.
        run_dir: for config.json, metrics.jsonl, TensorBoard events and the agent; new, or left by an interrupted
            training with the same settings.
        meta: saved with the agent.
        on_rollout: called after each update; returning False ends the training, which then does not count as finished.
            Resuming does not restore the state of callbacks other than `RealEvalCallback`.
        about: further settings that decide the agent, stored in run_dir/config.json.
        start_from: folder of a saved agent or its run, whose policy is trained further; None: a new one.
        callback: one of Stable-Baselines3's, such as `RealEvalCallback`; called after the agent is saved.
        earlier_steps: of config.steps, those for which `start_from` was trained; the rest are trained here.

    Raises:
        ValueError: run_dir holds a finished agent, a run of other settings or something else, another training is
            running in it, or envs, config and `start_from` do not fit; nothing is touched.
    """
    run_dir = Path(run_dir)
    if not 0 <= earlier_steps < config.steps or (earlier_steps and start_from is None):
        raise ValueError(
            f"earlier_steps must be 0, or with start_from below the {config.steps} steps of the config, got "
            f"{earlier_steps}"
        )
    settings = _settings(config, meta, about)
    if is_trained(run_dir, config, meta, about):
        raise ValueError(f"{run_dir} already holds this agent, finished; use another folder, or delete it")
    with restored_generators():
        model = _make_ppo(envs, config) if start_from is None else _load_ppo(start_from, envs, config)
        with only_process(run_dir, "training"):
            _learn(model, run_dir, config, meta, settings, on_rollout, callback, config.steps - earlier_steps)
    return model


def _learn(
    model: PPO,
    run_dir: Path,
    config: AgentConfig,
    meta: AgentMeta,
    settings: dict[str, Any],
    on_rollout: Callable[[PPO], bool | None] | None,
    callback: BaseCallback | None,
    steps: int,
) -> None:
    for name in ("agent", "best", FOLDER):
        finish_replacing(run_dir / name, alone=True)
    remove_leftovers(run_dir, alone=True)
    judge = callback if isinstance(callback, RealEvalCallback) else None
    done, pending = load_unfinished(model, run_dir, judge)
    write_json(run_dir / "config.json", settings | {"finished": False})
    cut_log(run_dir / "metrics.jsonl", "time/total_timesteps", done)  # those updates are trained again
    outputs = [TensorBoardOutputFormat(str(run_dir)), _Metrics(str(run_dir / "metrics.jsonl"))]
    model.set_logger(Logger(str(run_dir), outputs))
    for name, value in pending.items():
        model.logger.record(name, value)
    total = -(-steps // config.rollout) * config.rollout
    saved = [(model._n_updates, done)] if done else []  # (updates, env steps) behind each saved agent
    kept = done  # env steps behind what a resumed training would begin with

    def after_update(model: PPO) -> bool | None:
        nonlocal kept
        save_agent(model, run_dir / "agent", config, meta)
        saved.append((model._n_updates, model.num_timesteps))
        if kept + _SAVE_EVERY <= model.num_timesteps < total:
            save_unfinished(model, run_dir, judge)
            kept = model.num_timesteps
        return None if on_rollout is None else on_rollout(model)

    try:
        with progress(total, "step", "agent", done) as bar:
            watch = _Watch(bar, after_update, done)
            model.learn(
                total - done,
                callback=watch if callback is None else [watch, callback],
                reset_num_timesteps=not done,
            )
        if not saved or saved[-1][0] < model._n_updates:  # otherwise training was stopped within a rollout
            after_update(model)
    finally:
        model.logger.close()
    trained = saved[-1][1]
    ending = {"finished": True} if trained >= total else {"finished": False, "stopped_after": trained}
    write_json(run_dir / "config.json", settings | ending)
    if trained >= total:
        shutil.rmtree(run_dir / FOLDER, ignore_errors=True)


class _Metrics(JSONOutputFormat):
    """Appends to the metrics of an interrupted training."""

    def __init__(self, filename: str) -> None:
        self.file = open(filename, "a", encoding="utf-8")  # noqa: SIM115 (closed by `close`)


def is_trained(
    run_dir: str | os.PathLike, config: AgentConfig, meta: AgentMeta, about: Mapping[str, Any] | None = None
) -> bool:
    """Whether `train_ppo` has finished this agent in `run_dir`.

    False also for an interrupted training with these settings, which `train_ppo` resumes; ValueError if the folder
    holds another agent or something else.
    """
    run_dir = Path(run_dir)
    there = {path.name for path in run_dir.iterdir() if not is_temporary(path.name)} if run_dir.exists() else set()
    if there <= {LOCK, TRIES}:
        return False
    found = read_json(run_dir / "config.json", JsonObject) if (run_dir / "config.json").exists() else {}
    finished = found.pop("finished", False) is True
    found.pop("stopped_after", None)
    settings = _settings(config, meta, about)
    later = checkpoint.LATER_OPTIONS["agent"]  # missing in runs of earlier releases
    if isinstance(found.get("meta"), dict):
        found = later["training"] | found | {"meta": later["meta"] | found["meta"]}
    if found == settings:
        if finished:  # a kill may have come just before
            shutil.rmtree(run_dir / FOLDER, ignore_errors=True)
        return finished
    what = "something else"
    if isinstance(found.get("meta"), dict):
        kind = "an agent" if finished else "an unfinished agent"
        what = f"{kind} with other settings ({difference(found, settings)})"
    raise ValueError(f"{run_dir} holds {what}; use another --out, or delete the folder to start over")


def _settings(config: AgentConfig, meta: AgentMeta, about: Mapping[str, Any] | None) -> dict[str, Any]:
    """Everything that decides an agent, as read back from config.json."""
    return json.loads(json.dumps(asdict(config) | {"meta": asdict(meta)} | dict(about or {}), default=str))


@own_defaults
def train_policy(
    env_id: str,
    out: str | Path,
    config: AgentConfig = REAL_GAME,
    *,
    world: str | os.PathLike | None = None,
    obs: Literal["rgb", "latent", "features"] | None = None,
    **env_kwargs: Any,
) -> Path:
    """Train an agent with PPO in the real game, on its own reward; saved in OUT/agent.

    It sees raw frames; or, with `world`, what an agent of that world's dreams sees: so one learns how good an agent can
    become with these eyes, however true the dream. (`features` contain the past: `frame_stack` 1 is enough.)

    A finished agent with the same settings in OUT is kept; an interrupted training is resumed with new episodes.

    Args:
        env_id: id of a real game, such as VideoGenReal-Doom.
        out: run folder.
        world: world model through which the agent sees the game: a shipped name, a folder or a hub id.
        obs: what it then sees: decoded frames, code vectors, or these and the dynamics' summary of the past. None:
            features.

    Returns: the agent's folder.
    """
    about: dict[str, Any] = {"env_kwargs": env_kwargs}
    if world is None:
        if obs is not None:
            raise ValueError(
                f"obs is what an agent sees through a world, got {obs!r} without one; give world, or no obs"
            )
        meta = AgentMeta(env_id=env_id)
    else:
        obs = obs or "features"
        meta = AgentMeta(env_id=env_id, view=obs, world_model=checkpoint.lasting_name(world))
        about["world_sha256"] = checkpoint.weights_name(checkpoint.resolve(world))
    if is_trained(out, config, meta, about):
        print(f"agent: {out} has its {config.steps:,} steps already")
        return Path(out) / "agent"
    env_spec(env_id)  # refuses an unknown id
    envs: VectorEnv = ThreadVectorEnv(lambda: gym.make(env_id, **env_kwargs), config.num_envs)
    try:
        if world is not None:
            model = load_model(world)
            check_actions(named_actions(envs), model.config.action.held, env_id, f"the world {world}")
            envs = DreamViewVector(envs, model, meta.view)
        train_ppo(envs, config, out, meta, about=about)
    finally:
        envs.close()
    return Path(out) / "agent"


@own_defaults
def load_ppo(folder: str | os.PathLike, envs: VectorEnv | VecEnv, config: AgentConfig | None = None) -> PPO:
    """A saved agent as Stable-Baselines3's PPO on `envs`, to train it further (`learn`) with a new optimiser.

    Args:
        folder: of the agent or its run.
        envs: with the agent's observations; as for `train_ppo`.
        config: how to train, with a policy of the same sizes; None: as before.
    """
    with restored_generators():
        return _load_ppo(folder, envs, config)


def _load_ppo(folder: str | os.PathLike, envs: VectorEnv | VecEnv, config: AgentConfig | None) -> PPO:
    folder = checkpoint.agent_folder(folder)
    file = load_agent(folder).file  # checks the whole agent
    config = config or file.training
    model = _make_ppo(envs, config)
    found = agent_file(model, config, file.meta)
    if (found.observation_shape, found.pixels) != (file.observation_shape, file.pixels):
        raise ValueError(f"the agent in {folder} needs {_seen(file)}, but these envs have {_seen(found)}")
    check_actions(file.action, found.action, f"the agent in {folder}", "these envs")
    sizes = ("frame_stack", "features_dim", "previous_action", "durations", *(["channels"] if file.pixels else []))
    for name in sizes:
        if (ours := getattr(config, name)) != (theirs := getattr(file.training, name)):
            raise ValueError(f"the agent in {folder} was trained with {name}={theirs}, but the config has {ours}")
    fill(folder, policy_parts(model.policy))
    return model


def _seen(file: AgentFile) -> str:
    return f"{'uint8' if file.pixels else 'float32'} of shape {file.observation_shape}"


class _Watch(BaseCallback):
    """Updates the progress bar, and calls a function after every update."""

    def __init__(self, bar: Progress, after_update: Callable[[PPO], bool | None], done: int) -> None:
        super().__init__()
        self._bar = bar
        self._done = done  # env steps after which the training began
        self._after_update = after_update
        self._go_on = True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps > self._done:  # the update on the last rollout has just ended
            self._go_on = self._after_update(self.model) is not False

    def _on_step(self) -> bool:
        self._bar.update(self.training_env.num_envs)
        return self._go_on

    def _on_rollout_end(self) -> None:
        if self.model.ep_info_buffer:
            self._bar.note(f"episode reward {np.mean([episode['r'] for episode in self.model.ep_info_buffer]):.2f}")


def _make_ppo(envs: VectorEnv | VecEnv, config: AgentConfig) -> PPO:
    venv = SB3VecEnv(envs) if isinstance(envs, VectorEnv) else envs
    if venv.num_envs != config.num_envs:
        raise ValueError(f"the config is for num_envs={config.num_envs}, the env has {venv.num_envs}")
    _check_plain(venv)
    _check_observations(venv.observation_space)
    stacked = as_agents_see(VecMonitor(venv), config)
    policy, policy_kwargs = policy_for(stacked.observation_space, config)
    return PPO(
        policy,
        stacked,
        learning_rate=config.learning_rate,
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        n_epochs=config.n_epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.ent_coef,
        policy_kwargs=policy_kwargs,
        seed=config.seed,
    )


def _check_plain(venv: VecEnv) -> None:
    """ValueError for envs that change observations, since a saved agent would lack that part."""
    while isinstance(venv, VecEnvWrapper):
        if getattr(venv, "norm_obs", False) or venv.observation_space != venv.venv.observation_space:
            raise ValueError(
                f"{type(venv).__name__} changes observations, which a saved agent would not do: pass the env without "
                "it; frames are stacked by the config's frame_stack"
            )
        venv = venv.venv


def _check_observations(space: gym.Space) -> None:
    if not isinstance(space, gym.spaces.Box) or space.dtype not in (np.uint8, np.float32):
        raise ValueError(
            f'PPO learns from obs="rgb" (uint8 frames), "latent" or "features" (float32 vectors), got {space}. '
            "Codes are labels, and distances between them mean nothing."
        )

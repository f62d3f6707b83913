"""A training by PPO that has not finished, saved so that the same command resumes it.

In dreams a resumed training equals an unbroken one: the dreams continue where they were. The state of other envs is not
known, so there the training resumes with new episodes.
"""

import io
import random
import zipfile
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnvWrapper, VecFrameStack, VecMonitor, VecTransposeImage

from worldmodel.agents.sb3.eval_callback import RealEvalCallback
from worldmodel.agents.sb3.rollout_memory import ActionPlanes
from worldmodel.agents.sb3.vec_env import SB3VecEnv
from worldmodel.dynamics import DreamState
from worldmodel.envs.dream.mixed import MixedDreams
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.errors import first_line
from worldmodel.replacing import replacing

FOLDER = "resume"
_FILE = "ppo.pt"
_COUNTS = ("num_timesteps", "_n_updates", "_episode_num")
# What a wrapper between PPO and the dreams remembers of the running episodes.
_MEMORIES: dict[type, tuple[str, ...]] = {
    VecMonitor: ("episode_count", "episode_returns", "episode_lengths"),
    VecFrameStack: ("stacked_obs.stacked_obs",),
    VecTransposeImage: (),
    ActionPlanes: ("_memory._last", "_memory._left", "_memory._begun"),
}


def save_unfinished(model: PPO, run_dir: Path, judge: RealEvalCallback | None = None) -> None:
    """Keep everything that decides the rest of a training between two rollouts, whole or not at all."""
    state: dict[str, Any] = {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "counts": {name: getattr(model, name) for name in _COUNTS},
        "episodes": [[float(episode[key]) for key in "rlt"] for episode in model.ep_info_buffer or ()],
        "successes": [float(success) for success in model.ep_success_buffer or ()],
        "log": {name: float(value) for name, value in model.logger.name_to_value.items()},
        "generators": _generators(),
        "judge": None if judge is None else judge.progress(),
        "rows": None,
    }
    dreams = _dreams_of(model)
    if dreams:
        assert model._last_obs is not None and model._last_episode_starts is not None
        state["rows"] = {
            "memories": [_tensor(value) for value in _memories(model)],
            "last_obs": _tensor(model._last_obs),
            "last_episode_starts": _tensor(model._last_episode_starts),
        }
    with replacing(run_dir / FOLDER) as fresh:
        torch.save(state, fresh / _FILE)
        for number, dream in enumerate(dreams):
            dream.state.save(fresh / f"dream-{number}.safetensors")


class Unfinished(NamedTuple):
    """How far a training has come."""

    steps: int  # env steps done
    log: dict[str, float]  # what the last update logged, which is written with the next rollout


def load_unfinished(model: PPO, run_dir: Path, judge: RealEvalCallback | None = None) -> Unfinished:
    """Continue what `save_unfinished` kept in a new PPO of the same settings and envs; 0 steps if nothing was kept.

    Raises: ValueError if the files are damaged.
    """
    path = run_dir / FOLDER / _FILE
    if not path.exists():
        return Unfinished(0, {})
    content = io.BytesIO(path.read_bytes())
    try:
        with zipfile.ZipFile(content) as archive:  # torch's own reader does not compare checksums
            if (record := archive.testzip()) is not None:
                raise ValueError(f"the checksum of {record} does not match")
        content.seek(0)
        state = torch.load(content, map_location=model.device, weights_only=True)
        model.policy.load_state_dict(state["policy"])
        model.policy.optimizer.load_state_dict(state["optimizer"])
        for name in _COUNTS:
            setattr(model, name, int(state["counts"][name]))
        # As VecMonitor has them, so that their mean is rounded alike.
        episodes = [{"r": np.float32(r), "l": int(length), "t": t} for r, length, t in state["episodes"]]
        model.ep_info_buffer = deque(episodes, maxlen=model._stats_window_size)
        model.ep_success_buffer = deque(state["successes"], maxlen=model._stats_window_size)
        if judge is not None and state["judge"] is not None:
            judge.resume(state["judge"])
        if state["rows"] is not None:
            _restore_rows(model, state["rows"], run_dir / FOLDER)
        else:  # PPO has seeded the envs as at the beginning, and they would play those episodes again
            seeds = np.random.SeedSequence((model.seed or 0, model.num_timesteps))
            model.get_env().seed(int(seeds.generate_state(1)[0]) >> 1)
        _set_generators(state["generators"])
    except Exception as error:  # what damaged bytes make torch's reader raise is of many kinds
        raise ValueError(
            f"{path} is damaged ({first_line(error)}); delete {path.parent} to train from the first step"
        ) from error
    return Unfinished(model.num_timesteps, state["log"])


def _restore_rows(model: PPO, rows: dict[str, Any], folder: Path) -> None:
    dreams = _dreams_of(model)
    for number, dream in enumerate(dreams):
        dream.state = DreamState.load(folder / f"dream-{number}.safetensors", dream.model.device)
    for (owner, name), value in zip(_places(model), rows["memories"], strict=True):
        setattr(owner, name, value.cpu().numpy() if value.ndim else int(value))
    model._last_obs = rows["last_obs"].cpu().numpy()
    model._last_episode_starts = rows["last_episode_starts"].cpu().numpy()


def _dreams_of(model: PPO) -> list[DreamVectorEnv]:
    """The dreams in which PPO trains; [] for other envs, and if a wrapper has a state that is unknown here."""
    venv = model.get_env()
    while isinstance(venv, VecEnvWrapper):
        if type(venv) not in _MEMORIES:
            return []
        venv = venv.venv
    envs = venv.envs if isinstance(venv, SB3VecEnv) else None
    parts = list(envs.parts) if isinstance(envs, MixedDreams) else [envs]
    return [part for part in parts if isinstance(part, DreamVectorEnv)]


def _places(model: PPO) -> list[tuple[Any, str]]:
    """(object, attribute) of everything that the wrappers remember, from the outermost wrapper inwards."""
    places, venv = [], model.get_env()
    while isinstance(venv, VecEnvWrapper):
        for path in _MEMORIES[type(venv)]:
            *owners, name = path.split(".")
            owner: Any = venv
            for step in owners:
                owner = getattr(owner, step)
            places.append((owner, name))
        venv = venv.venv
    return places


def _memories(model: PPO) -> list[Any]:
    return [getattr(owner, name) for owner, name in _places(model)]


def _tensor(value: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(value))


def _generators() -> dict[str, Any]:
    """The states of the global generators that PPO draws from, in types that are loaded without pickle."""
    name, keys, *rest = np.random.get_state(legacy=True)
    version, words, gauss = random.getstate()
    devices = [torch.cuda.get_rng_state(index) for index in range(torch.cuda.device_count())]
    return {
        "torch": torch.get_rng_state(),
        "cuda": devices,
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "python": [version, list(words), gauss],
    }


def _set_generators(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"].cpu())
    for index, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state.cpu(), index)
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))

"""Stable-Baselines3 in the dream: our vector envs as its VecEnv, PPO, and agents saved without pickle.

Letters: n envs, H W C one observation, K frames stacked on the channels.
"""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.logger import JSONOutputFormat, Logger, TensorBoardOutputFormat
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecMonitor
from torch import Tensor, nn

from worldmodel import checkpoint
from worldmodel.agents.evaluate import action_spec_of
from worldmodel.data import ActionSpec
from worldmodel.envs.wrappers import ThreadVectorEnv
from worldmodel.files import write_json
from worldmodel.layers.precision import autocast, fast_dtype
from worldmodel.progress import Progress, progress

# --- the env ---------------------------------------------------------------------------------------------------------


class SB3VecEnv(VecEnv):
    """A Gymnasium vector env in same-step autoreset as Stable-Baselines3's VecEnv."""

    def __init__(self, envs: VectorEnv) -> None:
        mode = envs.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                "Stable-Baselines3 needs autoreset_mode='same_step' (in any other it loses a step of every episode), "
                f"got {mode}"
            )
        self.envs = envs
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> np.ndarray:
        seeds = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        if any(options != self._options[0] for options in self._options):
            raise ValueError(f"a batched env takes the same reset options in every row, got {self._options}")
        observations, infos = self.envs.reset(seed=seeds, options=self._options[0] or None)
        self.reset_infos = _rows(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observations, rewards, terminations, truncations, infos = self.envs.step(self._actions)
        dones = terminations | truncations
        rows = _rows({name: value for name, value in infos.items() if "final_" not in name}, self.num_envs)
        if dones.any():
            # What belongs to the episode's last step goes with it; the row's own infos are those of the next reset.
            final_infos = _rows(infos["final_info"], self.num_envs)
            for row in np.flatnonzero(dones):
                self.reset_infos[row] = rows[row]
                rows[row] = final_infos[row] | {
                    "terminal_observation": infos["final_obs"][row],
                    "TimeLimit.truncated": bool(truncations[row] and not terminations[row]),
                }
        return observations, rewards.astype(np.float32), dones, rows

    def close(self) -> None:
        self.envs.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        return list(self.envs.render() or [None] * self.num_envs)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.envs, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("the rows of a batched env share their attributes: set them on `.envs`")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        raise NotImplementedError("the rows of a batched env share their methods: call them on `.envs`")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))


def _rows(infos: dict[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """Gymnasium's vector infos as one dict per row."""
    rows: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    for name, values in infos.items():
        if not name.startswith("_"):
            for row in np.flatnonzero(infos[f"_{name}"]):
                rows[row][name] = values[row]
    return rows


# --- the policy ------------------------------------------------------------------------------------------------------


class ImageFeatures(BaseFeaturesExtractor):
    """Three convolutions for frames of any size divisible by 16, in bf16 where the device multiplies it fast.

    Forward and backward take 0.8 of the time of Stable-Baselines3's NatureCNN in bf16, 0.35 of that in float32.
    """

    def __init__(self, observation_space: gym.spaces.Box, features_dim: int, channels: int) -> None:
        super().__init__(observation_space, features_dim)
        depth, height, width = observation_space.shape
        self.convs = nn.Sequential(
            nn.Conv2d(depth, channels, 4, stride=4),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * channels, 2 * channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * channels * (height // 16) * (width // 16), features_dim),
            nn.ReLU(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(n, C, H, W) in [0, 255] -> (n, features_dim) float32."""
        with autocast(images.device):
            return self.convs(images.to(fast_dtype(images.device)) / 255).float()


class ImagePolicy(ActorCriticPolicy):
    """Hands uint8 frames to `ImageFeatures` as they are; Stable-Baselines3 would make float32 of them first."""

    def extract_features(self, obs: Any, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        return self.features_extractor(obs)


# --- training --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentConfig:
    """PPO and its policy. The defaults are those with which an agent learned health_gathering in a dream."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    steps: int = 100_000  # env steps of all rows together, rounded up to whole rollouts
    num_envs: int = 64
    n_steps: int = 32  # of each row per rollout
    batch_size: int = 256
    n_epochs: int = 3
    learning_rate: float = 4e-4
    gamma: float = 0.97
    gae_lambda: float = 0.92
    clip_range: float = 0.2
    ent_coef: float = 0.005
    frame_stack: int = 2  # K
    features_dim: int = 256  # width of the policy's last layer
    channels: int = 32  # of the first convolution; the others have twice as many
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "num_envs", "n_steps", "n_epochs", "frame_stack", "features_dim", "channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size < 2 or self.rollout % self.batch_size:
            raise ValueError(
                f"batch_size must divide a rollout, n_steps x num_envs = {self.rollout}, and be at least 2; "
                f"got {self.batch_size}"
            )
        for name in ("gamma", "gae_lambda"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.learning_rate <= 0 or self.clip_range <= 0:
            raise ValueError(
                f"learning_rate and clip_range must be above 0, got {self.learning_rate}, {self.clip_range}"
            )

    @property
    def rollout(self) -> int:
        """Env steps between two updates."""
        return self.n_steps * self.num_envs


# For training on the real game itself: solves health_gathering in 77,000 decisions.
REAL_GAME = AgentConfig(
    num_envs=8,
    n_steps=128,
    batch_size=256,
    n_epochs=4,
    learning_rate=3e-4,
    gamma=0.99,
    gae_lambda=0.95,
    ent_coef=0.01,
    frame_stack=4,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentMeta:
    """Where an agent is at home."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    env_id: str = ""  # of the real game
    view: Literal["real", "rgb", "latent"] = "real"  # raw frames, or what a DreamView shows
    world_model: str = ""  # name or folder of the model behind the view; empty for "real"


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentFile:
    """config.json of a saved agent: all that is needed to build its policy anew."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    observation_shape: tuple[int, ...]  # of one observation, not stacked
    pixels: bool  # uint8 frames; else float32
    action: ActionSpec
    training: AgentConfig
    meta: AgentMeta


def train_ppo(
    envs: VectorEnv | VecEnv,
    config: AgentConfig,
    run_dir: str | os.PathLike,
    meta: AgentMeta = AgentMeta(),
    on_rollout: Callable[[PPO], bool | None] | None = None,
) -> PPO:
    """Train an agent with PPO; every update leaves a loadable agent in run_dir/agent.

    Args:
        envs: same-step autoreset, with images or float32 observations (H, W, C); closed by the caller.
        run_dir: gets config.json, metrics.jsonl, TensorBoard events and the agent.
        meta: saved with the agent.
        on_rollout: called after each update; returning False ends the training.
    """
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run_dir / "config.json", asdict(config) | {"meta": asdict(meta)})
    with _restored_generators():
        model = _make_ppo(envs, config)
        outputs = [TensorBoardOutputFormat(str(run_dir)), JSONOutputFormat(str(run_dir / "metrics.jsonl"))]
        model.set_logger(Logger(str(run_dir), outputs))
        total = -(-config.steps // config.rollout) * config.rollout

        def after_update(model: PPO) -> bool | None:
            save_agent(model, run_dir / "agent", config, meta)
            return None if on_rollout is None else on_rollout(model)

        try:
            with progress(total, "step", "agent") as bar:
                model.learn(total, callback=_Watch(bar, after_update))
            after_update(model)
        finally:
            model.logger.close()
    return model


def train_policy(
    env_id: str, steps: int, run_dir: str | os.PathLike, *, config: AgentConfig = REAL_GAME, **env_kwargs: Any
) -> Path:
    """Train an agent with PPO on the real game, on its raw frames and its own reward; returns the agent's folder."""
    config = replace(config, steps=steps)
    envs = ThreadVectorEnv(lambda: gym.make(env_id, **env_kwargs), config.num_envs)
    try:
        train_ppo(envs, config, run_dir, AgentMeta(env_id=env_id))
    finally:
        envs.close()
    return Path(run_dir) / "agent"


class _Watch(BaseCallback):
    """Moves the progress bar, and tells when an update is done."""

    def __init__(self, bar: Progress, after_update: Callable[[PPO], bool | None]) -> None:
        super().__init__()
        self._bar = bar
        self._after_update = after_update
        self._go_on = True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps:  # the update on the last rollout has just ended
            self._go_on = self._after_update(self.model) is not False

    def _on_step(self) -> bool:
        self._bar.update(self.training_env.num_envs)
        return self._go_on

    def _on_rollout_end(self) -> None:
        if self.model.ep_info_buffer:
            self._bar.note(f"episode reward {np.mean([episode['r'] for episode in self.model.ep_info_buffer]):.2f}")


@contextmanager
def _restored_generators() -> Iterator[None]:
    """Stable-Baselines3 seeds and uses the global generators: give them back as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _make_ppo(envs: VectorEnv | VecEnv, config: AgentConfig) -> PPO:
    venv = SB3VecEnv(envs) if isinstance(envs, VectorEnv) else envs
    if venv.num_envs != config.num_envs:
        raise ValueError(f"the config is for num_envs={config.num_envs}, the env has {venv.num_envs}")
    _check_observations(venv.observation_space)
    stacked = VecFrameStack(VecMonitor(venv), config.frame_stack)
    policy, policy_kwargs = _policy(venv.observation_space.dtype == np.uint8, config)
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


def _check_observations(space: gym.Space) -> None:
    if not isinstance(space, gym.spaces.Box) or space.dtype not in (np.uint8, np.float32):
        raise ValueError(
            f'PPO learns from obs="rgb" (uint8 frames) or obs="latent" (float32 code vectors), got {space}. '
            "Codes are names, between which no distance means anything."
        )


def _policy(pixels: bool, config: AgentConfig) -> tuple[type[ActorCriticPolicy], dict[str, Any]]:
    """Policy class, and how to build it."""
    if pixels:
        extractor = {"features_dim": config.features_dim, "channels": config.channels}
        kwargs = {"features_extractor_class": ImageFeatures, "features_extractor_kwargs": extractor}
        return ImagePolicy, kwargs | {"net_arch": [], "normalize_images": False}
    return ActorCriticPolicy, {"net_arch": [config.features_dim] * 2, "activation_fn": nn.ReLU}


# --- files and play --------------------------------------------------------------------------------------------------


def save_agent(model: PPO, folder: str | os.PathLike, config: AgentConfig, meta: AgentMeta) -> Path:
    """Save the policy: config.json and model.safetensors. The optimiser's state is not kept."""
    file = _agent_file(model, config, meta)
    about = f"PPO agent for {meta.env_id or 'an unnamed game'}, view {meta.view}. Load it with load_agent(folder).\n"
    return checkpoint.save(folder, "agent", file, _parts(model.policy), card=about)


def load_agent(folder: str | os.PathLike, seed: int = 0) -> "Agent":
    """Load a saved agent for play; `seed` decides what it draws."""
    file = checkpoint.load_config(Path(folder), "agent", AgentFile)
    dtype = np.uint8 if file.pixels else np.float32
    low, high = (0, 255) if file.pixels else (-np.inf, np.inf)
    *grid, depth = file.observation_shape
    depth *= file.training.frame_stack
    shape = (depth, *grid) if file.pixels else (*grid, depth)  # Stable-Baselines3 puts channels first in images
    policy_class, kwargs = _policy(file.pixels, file.training)
    space = gym.spaces.Box(low, high, shape, dtype)
    with torch.random.fork_rng():
        policy = policy_class(space, file.action.to_gym(), lambda _: file.training.learning_rate, **kwargs)
    checkpoint.load_tensors(Path(folder), _parts(policy))
    return Agent(policy, file, seed)


def load_ppo(folder: str | os.PathLike, envs: VectorEnv | VecEnv, config: AgentConfig | None = None) -> PPO:
    """A saved agent as Stable-Baselines3's PPO on `envs`, to train it further (`learn`); its optimiser starts anew."""
    file = checkpoint.load_config(Path(folder), "agent", AgentFile)
    with _restored_generators():
        model = _make_ppo(envs, config or file.training)
    checkpoint.load_tensors(Path(folder), _parts(model.policy))
    return model


def _agent_file(model: PPO, config: AgentConfig, meta: AgentMeta) -> AgentFile:
    envs = model.get_env().unwrapped
    observations = envs.observation_space
    return AgentFile(
        observation_shape=observations.shape,
        pixels=observations.dtype == np.uint8,
        action=action_spec_of(envs.action_space),
        training=config,
        meta=meta,
    )


def _parts(policy: ActorCriticPolicy) -> dict[str, nn.Module]:
    """The policy's modules, each once (its own state_dict names the features three times)."""
    parts = {"features": policy.features_extractor, "mlp": policy.mlp_extractor}
    parts |= {"action": policy.action_net, "value": policy.value_net}
    if hasattr(policy, "log_std"):
        parts["scale"] = nn.ParameterDict({"log_std": policy.log_std})
    return parts


class Agent:
    """A trained policy that keeps its own frame stack, one per env.

    Args:
        policy: Stable-Baselines3's.
        file: what is known of it.
        seed: of its draws; `seed_rows` gives each env its own.
    """

    def __init__(self, policy: ActorCriticPolicy, file: AgentFile, seed: int = 0) -> None:
        self.policy = policy
        self.file = file
        self._seed = seed
        self._stack: np.ndarray | None = None  # (n, H, W, K*C)
        self._rngs: list[np.random.Generator] = []

    @classmethod
    def of(cls, model: PPO, config: AgentConfig, meta: AgentMeta = AgentMeta(), seed: int = 0) -> "Agent":
        """The policy of a model in training, which goes on learning."""
        return cls(model.policy, _agent_file(model, config, meta), seed)

    @property
    def action_spec(self) -> ActionSpec:
        return self.file.action

    @property
    def meta(self) -> AgentMeta:
        return self.file.meta

    def reset(self, rows: np.ndarray | None = None) -> None:
        """Forget the frames of the last episode, in the envs `rows` (None: in all; their number may change)."""
        if rows is None:
            self._stack = None
        elif self._stack is not None:
            self._stack[rows] = 0

    def seed_rows(self, rows: Sequence[int] | np.ndarray, seeds: Sequence[int]) -> None:
        """From now on what the agent draws in env rows[i] is decided by seeds[i]."""
        self._grow(max(rows) + 1)
        for row, seed in zip(rows, seeds, strict=True):
            self._rngs[row] = np.random.default_rng(seed)

    def _grow(self, count: int) -> None:
        self._rngs += [np.random.default_rng((self._seed, row)) for row in range(len(self._rngs), count)]

    @torch.inference_mode()
    def act(self, observations: np.ndarray, deterministic: bool = False) -> np.ndarray:
        """Choose actions, (n,) int64 or (n, A) float32, for observations (n, H, W, C).

        `deterministic` takes the likeliest action (the mean of numbers) instead of drawing.
        """
        shape, dtype = self.file.observation_shape, np.uint8 if self.file.pixels else np.float32
        if observations.shape[1:] != shape or observations.dtype != dtype:
            raise ValueError(
                f"this agent sees {np.dtype(dtype).name} of shape (n, {', '.join(map(str, shape))}), "
                f"got {observations.dtype} {observations.shape}"
            )
        count, depth = len(observations), shape[-1]
        if self._stack is None:
            self._stack = np.zeros((count, *shape[:-1], depth * self.file.training.frame_stack), dtype)
        if len(self._stack) != count:
            raise ValueError(f"this agent plays {len(self._stack)} envs, got {count} observations; reset() it first")
        self._stack = np.concatenate([self._stack[..., depth:], observations], axis=-1)
        seen = np.moveaxis(self._stack, -1, 1) if self.file.pixels else self._stack
        self.policy.set_training_mode(False)
        distribution = self.policy.get_distribution(torch.from_numpy(np.ascontiguousarray(seen)).to(self.policy.device))
        self._grow(count)
        rngs = self._rngs[:count]
        if isinstance(distribution, CategoricalDistribution):
            odds = distribution.distribution.probs.cpu().numpy().astype(np.float64)
            if deterministic:
                return odds.argmax(-1)
            mass = odds.cumsum(-1)
            noise = np.array([rng.random() for rng in rngs])
            return (noise[:, None] * mass[:, -1:] >= mass).sum(-1)
        actions = distribution.distribution.mean.cpu().numpy()
        if not deterministic:
            noise = np.stack([rng.standard_normal(actions.shape[-1]) for rng in rngs])
            actions = actions + noise * distribution.distribution.stddev.cpu().numpy()
        spec = self.action_spec
        return np.clip(actions, spec.low, spec.high).astype(np.float32)

"""RLlib's PPO (new API stack), trained in the dream and evaluated in the real game."""

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

import worldmodel  # noqa: F401 (registers the env ids)
from worldmodel import checkpoint
from worldmodel.agents.rllib.env_runner import DreamEnvRunner
from worldmodel.agents.rllib.module import PixelPPOModule, VectorPPOModule
from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.envs.ids import confirmed_id, is_dream
from worldmodel.envs.spaces import check_observation_kind
from worldmodel.envs.vectors import as_autoreset_mode
from worldmodel.model import WorldModelConfig

_DEFAULTS = AgentConfig()  # those of agents trained with Stable-Baselines3
_SAMPLE_SECONDS = 1200.0  # for a rollout. RLlib drops what takes longer than its 60 s, and the iteration learns nothing


class DreamPPOConfig(PPOConfig):
    """RLlib's PPOConfig with checks that training uses the dream and evaluation the real game.

    Made by `dream_ppo`. All of RLlib's own settings can be changed after that; settings that would make training or
    evaluation wrong are refused when the algorithm is built.
    """

    is_of_dreams = True  # checked by `DreamEnvRunner`

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or DreamPPO)
        self.env_runner_cls = DreamEnvRunner
        self.view = "rgb"  # observations in evaluation: "real" frames, or the obs of a DreamView
        self.real_env_config: dict[str, Any] = {}  # arguments of the real game's env

    def validate(self) -> None:
        super().validate()
        if not (isinstance(self.env_runner_cls, type) and issubclass(self.env_runner_cls, DreamEnvRunner)):
            raise ValueError(f"env_runner_cls must be DreamEnvRunner or a subclass of it, got {self.env_runner_cls}")
        if self.in_evaluation:
            self._check_evaluation()
        else:
            self._check_training()

    def _check_training(self) -> None:
        if not is_dream(_bare(self.env)):
            raise ValueError(f"training needs a dream, such as VideoGenDream-Doom; {self.env!r} is not one")
        mode = as_autoreset_mode(self.env_config.get("autoreset_mode", AutoresetMode.SAME_STEP))
        if mode is not AutoresetMode.NEXT_STEP:
            raise ValueError(
                "RLlib needs env_config={'autoreset_mode': 'next_step'} (in other modes it loses a step of every "
                f"episode), got {mode.name.lower()!r}"
            )
        if not (self.evaluation_interval or self.evaluation_num_env_runners):
            raise ValueError(
                "without evaluation_interval and evaluation_num_env_runners RLlib creates no env for evaluation, and "
                "algo.evaluate() would play the dream. Set evaluation_interval (to a huge value to evaluate only by "
                "calling algo.evaluate())"
            )

    def _check_evaluation(self) -> None:
        if is_dream(_bare(self.env)):
            raise ValueError(
                f"evaluation needs the real game, but {self.env!r} is a dream. Set evaluation_config={{'env': …}} to "
                "the real game's id, and call build_algo() without an env"
            )


class DreamPPO(PPO):
    """RLlib's PPO with a `DreamPPOConfig`; the algorithm to name in ``ray.tune.Tuner(DreamPPO, …)``."""

    @classmethod
    def get_default_config(cls) -> DreamPPOConfig:
        return DreamPPOConfig()


def dream_ppo(
    dream_id: str = "VideoGenDream-Doom",
    *,
    env_config: Mapping[str, Any] | None = None,
    real_env_id: str | None = None,
    real_env_config: Mapping[str, Any] | None = None,
    view: str | None = None,
    num_env_runners: int = 0,
    num_envs: int = _DEFAULTS.num_envs,
    evaluation_interval: int = 10,
    evaluation_episodes: int = 10,
    features_dim: int = _DEFAULTS.features_dim,
    channels: int = _DEFAULTS.channels,
    seed: int | None = _DEFAULTS.seed,
) -> DreamPPOConfig:
    """An RLlib config that trains PPO in the dream and evaluates in the real game.

    The hyperparameters are the defaults of `AgentConfig`; change them, like anything else, with RLlib's own methods:
    ``dream_ppo(…).training(lr=1e-4).learners(…)``.

    Args:
        dream_id: id of a dream; if another package registers it, "package:Id-v0".
        env_config: arguments of `DreamVectorEnv` except autoreset_mode; obs="features" and horizon=64 by default.
            `model` is a name or folder: every runner loads its own copy.
        real_env_id: id of the game for evaluation; default: the world model's own game, which must be registered (a
            module in an id given here is imported, one in the model's config is not).
        real_env_config: arguments of the real game's env.
        view: observations in evaluation: "real" frames, or the same as the dream's (its obs, the default).
        num_env_runners: Ray workers that sample, each in its own dreams; 0: sample in the algorithm's process.
        num_envs: dreams per runner, in one batch.
        evaluation_interval: iterations between two evaluations.
        evaluation_episodes: per evaluation.
        features_dim, channels: sizes of the policy (see `PixelPPOModule`).
        seed: of training; None: a different one every time.
    """
    dream = _dream_config(dream_id, env_config or {})
    obs = dream["obs"]
    view = view or obs
    if view not in (obs, "real") or (view == "real" and obs != "rgb"):
        raise ValueError(f'view must be the obs of the dream, {obs!r}, or "real" if that is "rgb"; got {view!r}')
    real_env_id = real_env_id or _learned_from(dream["model"])
    if is_dream(_bare(real_env_id)):
        raise ValueError(f"real_env_id must be the id of a real game, but {real_env_id!r} is a dream")
    meta = {"env_id": real_env_id, "view": view, "world_model": "" if view == "real" else dream["model"]}

    config = DreamPPOConfig()
    config.view = view
    config.real_env_config = dict(real_env_config or {})
    config.environment(dream_id, env_config=dream, normalize_actions=False, clip_actions=True)
    config.env_runners(
        num_env_runners=num_env_runners,
        num_envs_per_env_runner=num_envs,
        gym_env_vectorize_mode="vector_entry_point",
        sample_timeout_s=_SAMPLE_SECONDS,
    )
    config.learners(num_learners=0)
    batch = _DEFAULTS.n_steps * num_envs * max(num_env_runners, 1)
    config.training(
        train_batch_size_per_learner=batch,
        minibatch_size=min(_DEFAULTS.batch_size, batch),
        num_epochs=_DEFAULTS.n_epochs,
        lr=_DEFAULTS.learning_rate,
        gamma=_DEFAULTS.gamma,
        lambda_=_DEFAULTS.gae_lambda,
        entropy_coeff=_DEFAULTS.ent_coef,
        clip_param=_DEFAULTS.clip_range,
        grad_clip=0.5,
        use_kl_loss=False,
        vf_loss_coeff=0.5,
        vf_clip_param=float("inf"),  # with RLlib's default of 10 the value stops learning where its error is large
    )
    config.rl_module(
        rl_module_spec=RLModuleSpec(
            module_class=PixelPPOModule if obs == "rgb" else VectorPPOModule,
            model_config={"features_dim": features_dim, "channels": channels, "meta": meta},
        )
    )
    config.evaluation(
        evaluation_interval=evaluation_interval,
        evaluation_num_env_runners=0,
        evaluation_duration=evaluation_episodes,
        evaluation_config={
            "env": real_env_id,
            "explore": True,  # sample, as in training: the likeliest action may push against a wall forever
            # With several parallel games RLlib would count the episodes that end first, which are the short ones.
            "num_envs_per_env_runner": 1,
        },
    )
    config.debugging(seed=seed)
    return config


def _dream_config(dream_id: str, env_config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the dream's env, checked."""
    if not is_dream(_bare(dream_id)):
        raise ValueError(f"dream_id must be the id of a dream, such as VideoGenDream-Doom; {dream_id!r} is not one")
    dream: dict[str, Any] = {"obs": "features", "horizon": 64, "autoreset_mode": "next_step"} | dict(env_config)
    dream["model"] = _named(dream.get("model", gym.spec(_bare(dream_id)).kwargs.get("model")))
    check_observation_kind(dream["obs"])
    if dream["obs"] == "codes":
        raise ValueError(
            'PPO learns from obs="rgb" (frames), "latent" or "features" (vectors), got "codes". Codes are labels, '
            "and distances between them mean nothing."
        )
    return dream


def _named(model: Any) -> str:
    """A world model's name, or the absolute path of its folder, since Ray's workers have other working folders."""
    if not isinstance(model, str | os.PathLike):
        raise TypeError(f"every env runner loads its own model: pass a name or folder, got a {type(model).__name__}")
    folder = checkpoint.resolve(model)
    return str(model) if str(model) in checkpoint.shipped() else str(Path(folder).resolve())


def _learned_from(model: str) -> str:
    """Id of the real game of a world model."""
    folder = checkpoint.resolve(model)
    env_id = checkpoint.load_config(folder, "world_model", WorldModelConfig).env_id
    if not env_id:
        raise ValueError(f"{model} does not name the game from which it was learned: pass real_env_id")
    try:
        return confirmed_id(env_id, str(folder / "config.json"))
    except ValueError as error:
        raise ValueError(
            f"{folder / 'config.json'} names the game {env_id!r}, which is not registered here. Import the "
            f"package that registers it, or, if you trust it, pass real_env_id={env_id!r}"
        ) from error


def _bare(env_id: str) -> str:
    """Import the package before the id and return the id alone: `gym.spec` does not accept "package:Id"."""
    if not isinstance(env_id, str):
        raise TypeError(f"an env must be given by its Gymnasium id, got {env_id!r}")
    package, _, name = env_id.rpartition(":")
    if package:
        import_module(package)
    return name

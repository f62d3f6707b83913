"""One batch of dreams in place of single ones, for programs that make single envs themselves, such as RL Zoo."""

import gymnasium as gym
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor

from worldmodel.agents.sb3.vec_env import SB3VecEnv
from worldmodel.envs.dream.env import DreamEnv
from worldmodel.envs.dream.vector_env import DreamVectorEnv

_PLAIN = (Monitor, OrderEnforcing, PassiveEnvChecker)  # wrappers that leave a dream as it is


def batched(envs: VecEnv, num_envs: int = 64) -> VecEnv:
    """Dreams as those in `envs`, but in one batch, in which a step of all rows is one step of the model.

    In a file of RL Zoo's hyperparameters it is a `vec_env_wrapper`, together with `n_envs: 1`.

    Args:
        envs: a `DummyVecEnv` whose first env is a dream made by `gym.make`; it is closed. Its options, its world and
            its seed are those of the batch.
        num_envs: rows of the batch.

    Raises: ValueError for other envs, and for wrappers around the dream, which the batch would lack.
    """
    first = envs.envs[0] if isinstance(envs, DummyVecEnv) else None
    dream = None if first is None else first.unwrapped
    if not isinstance(dream, DreamEnv) or dream.spec is None:
        found = type(envs).__name__ if dream is None else f"{type(envs).__name__} of {type(dream).__name__}"
        raise ValueError(
            "batched needs a DummyVecEnv of dreams made by gym.make, such as n_envs: 1 of VideoGenDream-Doom, got "
            f"{found}"
        )
    if lost := _wrappers(first):
        raise ValueError(
            f"the dream is wrapped in {', '.join(lost)}, which a batch would not have: use the dream's own options "
            "(horizon instead of max_episode_steps, reward_fn, terminate_when), or wrap the batch"
        )
    options = {name: value for name, value in dream.spec.kwargs.items() if name != "model"}
    batch = SB3VecEnv(DreamVectorEnv(num_envs, model=dream.model, **options))
    if envs._seeds[0] is not None:
        batch.seed(envs._seeds[0])
    envs.close()
    return VecMonitor(batch)


def _wrappers(env: gym.Env) -> list[str]:
    """The names of the wrappers that change a dream, from the outermost inwards."""
    names = []
    while isinstance(env, gym.Wrapper):
        names += [] if isinstance(env, _PLAIN) else [type(env).__name__]
        env = env.env
    return names

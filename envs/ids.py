"""Env ids: looking them up, without loading torch, and those read from files.

An id from a file is usable if it is registered here or confirmed by the caller; its module is never imported without
consent.
"""

import re
from importlib import import_module
from pathlib import Path

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

import worldmodel  # noqa: F401 (registers the env ids)


def confirmed_id(env_id: str, source: str, allow_env: str | None = None) -> str:
    """The id to pass to `gym.make` for the game that a file names, without running code that the file chooses.

    Gymnasium imports the module in "module:Id", so such an id is never passed on unless the caller has named it too.

    Args:
        env_id: as in the file: "Id" or "module:Id".
        source: the file, for the error message.
        allow_env: an id that the caller confirms; its module may be imported.

    Returns: `allow_env` if it equals `env_id`, otherwise the registered "Id".

    Raises: ValueError if the id is neither registered nor confirmed, or if `allow_env` differs from it.
    """
    if allow_env is not None:
        if allow_env != env_id:
            raise ValueError(f"{source} names the game {env_id!r}, but allow_env (--allow-env) is {allow_env!r}")
        return env_id
    plain_id = env_id.rpartition(":")[2]
    if plain_id not in gym.registry:
        raise ValueError(
            f"{source} names the game {env_id!r}, which is not registered here. Import the package that registers it, "
            f"or, if you trust the file to choose code to import, confirm the id: --allow-env {env_id} "
            "(in Python allow_env=…)"
        )
    return plain_id


def is_dream(env_id: str) -> bool:
    """Whether the id is a dream's; an unknown id raises Gymnasium's error, which suggests the nearest."""
    return env_spec(env_id).entry_point == "worldmodel.envs:DreamEnv"


def env_spec(env_id: str) -> EnvSpec:
    """The spec registered under an id, which may name its module, as in "my_games:MyGame-v0"."""
    module, _, plain_id = env_id.rpartition(":")
    if module:
        import_module(module)  # registers it, as gym.make would
    try:
        return gym.spec(plain_id)
    except gym.error.UnregisteredEnv as error:
        if module or plain_id.startswith("VideoGen"):
            raise
        raise type(error)(
            f"{error} A game of your own is named with the module that registers it, as in my_games:{plain_id}"
        ) from error


def is_env_id(name: str) -> bool:
    """Whether a name means an env, even a mistyped one, rather than a world."""
    if Path(name).is_dir():
        return False
    # Worlds of the hub have a "/" in their names.
    like_an_id = name.startswith("VideoGen") or ":" in name or re.fullmatch(r"[^/]+-v\d+", name) is not None
    return name in gym.registry or like_an_id

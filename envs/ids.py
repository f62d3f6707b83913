"""Env ids read from files: usable if registered here or confirmed by the caller; never imported without consent."""

import gymnasium as gym

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

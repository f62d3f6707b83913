"""The contract of every Gymnasium vector env; Gymnasium itself has no such checker."""

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv


def check_vector_env(envs: VectorEnv, steps: int = 12) -> None:
    """Play random actions and check the contract; the env must end an episode within these steps."""
    mode = envs.metadata["autoreset_mode"]
    assert isinstance(mode, AutoresetMode)
    first = _play(envs, steps, mode)
    second = _play(envs, steps, mode)
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b, err_msg="the same seed gave another rollout")


def _play(envs: VectorEnv, steps: int, mode: AutoresetMode) -> list[tuple]:
    envs.action_space.seed(7)
    observations, infos = envs.reset(seed=3)
    _check_observations(envs, observations)
    _check_masks(envs, infos)
    kept = [(observations, observations.copy())]
    played: list[tuple] = [(observations,)]
    waiting = np.zeros(envs.num_envs, bool)  # rows that ended and are reset by the next step
    any_end = False
    for _ in range(steps):
        observations, rewards, terminations, truncations, infos = envs.step(envs.action_space.sample())
        _check_observations(envs, observations)
        assert rewards.shape == (envs.num_envs,) and rewards.dtype.kind == "f", "rewards are floats, one per row"
        for flags in (terminations, truncations):
            assert flags.shape == (envs.num_envs,) and flags.dtype == bool, "end flags are bools, one per row"
        assert not (terminations & truncations).any(), "an episode cannot be terminated and truncated at once"
        _check_masks(envs, infos)
        ended = terminations | truncations
        any_end |= bool(ended.any())
        if mode is AutoresetMode.NEXT_STEP:
            assert not ended[waiting].any(), "a reset step cannot end an episode"
            assert not rewards[waiting].any(), "a reset step earns nothing"
            assert "final_obs" not in infos
            waiting = ended
        elif mode is AutoresetMode.SAME_STEP:
            assert ("final_obs" in infos) == bool(ended.any()), "final_obs comes when an episode ends, and only then"
            if ended.any():
                _check_final(envs, observations, infos, ended)
        elif ended.any():
            kept_before = observations.copy()
            observations, _ = envs.reset(options={"reset_mask": ended})
            np.testing.assert_array_equal(observations[~ended], kept_before[~ended])
        kept.append((observations, observations.copy()))
        played.append((observations, rewards, terminations, truncations))
    assert any_end, "no episode ended; this play checked too little"
    for given, copy in kept:
        np.testing.assert_array_equal(given, copy, err_msg="an observation changed after it was given: not a copy")
    return played


def _check_observations(envs: VectorEnv, observations: np.ndarray) -> None:
    assert observations.dtype == envs.observation_space.dtype, "observations have the dtype of their space"
    assert envs.observation_space.contains(observations), "observations lie in their space"
    assert all(envs.single_observation_space.contains(row) for row in observations)


def _check_masks(envs: VectorEnv, infos: dict) -> None:
    for name, value in infos.items():
        if not name.startswith("_"):
            mask = infos[f"_{name}"]
            assert mask.shape == (envs.num_envs,) and mask.dtype == bool, f"info {name} has a mask with a bool per row"
            if isinstance(value, dict):
                _check_masks(envs, value)
            else:
                assert len(value) == envs.num_envs, f"info {name} has an entry per row"


def _check_final(envs: VectorEnv, observations: np.ndarray, infos: dict, ended: np.ndarray) -> None:
    for name in ("_final_obs", "_final_info"):
        np.testing.assert_array_equal(infos[name], ended, err_msg=f"{name} marks the rows that ended")
    for row in range(envs.num_envs):
        final = infos["final_obs"][row]
        assert (final is not None) == ended[row]
        if final is not None:
            assert envs.single_observation_space.contains(final)
            assert not np.array_equal(final, observations[row]), "final_obs is the last of the old episode"
    for name, mask in infos["final_info"].items():
        if name.startswith("_"):
            np.testing.assert_array_equal(mask, ended, err_msg=f"final_info{name} marks the rows that ended")

"""The checker itself: it must catch the known mistakes of vector envs."""

import numpy as np
import pytest

from tests.tiny import tiny_world
from tests.vector_contract import check_vector_env
from worldmodel.envs.dream.vector_env import DreamVectorEnv


def shared_observations(envs, step):
    observations, *rest = step
    envs.shared = getattr(envs, "shared", observations)
    envs.shared[:] = observations
    return envs.shared, *rest


def both_flags(envs, step):
    observations, rewards, _, truncations, infos = step
    return observations, rewards, truncations.copy(), truncations, infos


def integer_flags(envs, step):
    return *step[:2], step[2].astype(int), *step[3:]


def lost_mask(envs, step):
    return *step[:4], {name: value for name, value in step[4].items() if name != "_nll"}


def lost_final_obs(envs, step):
    return *step[:4], {name: value for name, value in step[4].items() if "final_obs" not in name}


def final_obs_of_the_next_episode(envs, step):
    infos = dict(step[4])
    if "final_obs" in infos:
        infos["final_obs"] = np.array([*step[0], None], object)[:-1]
    return *step[:4], infos


def wrong_dtype(envs, step):
    return step[0].astype(np.float32), *step[1:]


def unseeded_noise(envs, step):
    return step[0], step[1] + np.random.default_rng().random(3), *step[2:]


MISTAKES = [
    (shared_observations, "not a copy"),
    (both_flags, "terminated and truncated at once"),
    (integer_flags, "end flags are bools"),
    (lost_mask, "_nll"),
    (lost_final_obs, "final_obs comes when an episode ends"),
    (final_obs_of_the_next_episode, "last of the old episode"),
    (wrong_dtype, "dtype"),
    (unseeded_noise, "another rollout"),
]


@pytest.mark.parametrize(("mistake", "complaint"), MISTAKES)
def test_a_planted_mistake_is_caught(mistake, complaint):
    class Broken(DreamVectorEnv):
        def step(self, actions):
            return mistake(self, super().step(actions))

    with pytest.raises((AssertionError, KeyError), match=complaint):
        check_vector_env(Broken(3, tiny_world(), horizon=3))


def test_a_reward_on_a_reset_step_is_caught():
    class Broken(DreamVectorEnv):
        def step(self, actions):
            observations, rewards, *rest = super().step(actions)
            return observations, rewards + 1, *rest

    with pytest.raises(AssertionError, match="a reset step earns nothing"):
        check_vector_env(Broken(3, tiny_world(), horizon=3, autoreset_mode="next_step"))

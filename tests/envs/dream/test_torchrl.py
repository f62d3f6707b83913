"""TorchRL takes a dream by its id, as it takes any environment of Gymnasium, and a batch of dreams."""

import numpy as np
import pytest
import torch

from tests.tiny import tiny_world
from worldmodel.envs import DreamVectorEnv


@pytest.mark.filterwarnings("ignore")
def test_torchrl_wraps_and_rolls_out_a_dream(tmp_path):
    pytest.importorskip("torchrl")
    from torchrl.envs.libs.gym import GymEnv
    from torchrl.envs.utils import check_env_specs

    world = tiny_world().save_pretrained(tmp_path / "world")
    env = GymEnv("VideoGenDream-Doom", model=str(world), horizon=3, device="cpu")
    check_env_specs(env)
    steps = env.rollout(5)
    assert steps.batch_size == torch.Size([3]) and steps["next", "truncated"].flatten().tolist() == [False, False, True]
    assert steps["pixels"].dtype == torch.uint8 and steps["next", "reward"].dtype == torch.float32


@pytest.mark.parametrize("mode", ["same_step", "disabled"])
@pytest.mark.filterwarnings("ignore")
def test_torchrl_sees_the_last_step_of_every_dream_of_a_batch(mode):
    pytest.importorskip("torchrl")
    from torchrl.envs import GymWrapper

    seen = []

    class Watched(DreamVectorEnv):
        def step(self, actions):
            seen.append(super().step(actions))
            return seen[-1]

    envs = Watched(2, tiny_world(), "latent", horizon=3, autoreset_mode=mode)
    wrapped = GymWrapper(envs)
    wrapped.set_seed(0)  # the same start twice in a row would otherwise come by chance
    steps = wrapped.rollout(8, break_when_any_done=False)
    assert (
        steps["next", "truncated"].squeeze(-1).tolist() == [[False, False, True, False, False, True, False, False]] * 2
    )
    for t, (observations, rewards, _, _, infos) in enumerate(seen[-8:]):  # after those that find the specs of infos
        last = np.stack(infos["final_obs"]) if "final_obs" in infos else observations
        np.testing.assert_array_equal(steps["next", "observation"][:, t], last)
        np.testing.assert_array_equal(steps["next", "reward"][:, t, 0], rewards)
    begun = steps["observation"][:, [0, 3, 6]]
    assert not torch.equal(begun[:, 1], steps["next", "observation"][:, 2]) and not torch.equal(
        begun[:, 1], begun[:, 2]
    )

"""TorchRL takes a dream by its id, as it takes any environment of Gymnasium."""

import pytest
import torch

from tests.tiny import tiny_world


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

"""Judge a world model of DIAMOND's interface: an adapter with reset and step, here around random weights.

    export PYTHONPATH=.
    videogen-dream evaluate --dream examples.diamond:random_world --real VideoGenReal-DoomHealthGathering \\
      --episodes 5 --horizon 100 --no-plots --out runs/diamond

DIAMOND's WorldModelEnv (github.com/eloialonso/diamond) keeps the last four frames and actions of every dream in
buffers and predicts the next frame, the reward and the end in two calls. `Diamond` uses only these names of it, so it
fits around the trained one as well. `RandomWeights` stands in for it here: the same names and shapes, untrained.

Letters: B dreams, T steps, F frames of a step, H W C pixels.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Diamond:
    """DIAMOND's WorldModelEnv as a world for `videogen-dream evaluate --dream` (docs/dream-vs-real.md).

    DIAMOND clips rewards to -1, 0 and 1: compare it with a game whose rewards are like that.
    """

    context_steps = 4  # the length of its buffers

    def __init__(self, env: Any) -> None:
        self.env = env

    def reset(self, frames: np.ndarray, actions: np.ndarray, seeds: np.ndarray) -> None:
        """Fill the buffers with real steps; where there is only the first frame, it is repeated."""
        torch.manual_seed(int(seeds.sum()))  # DIAMOND draws from torch's global generator
        shown = torch.from_numpy(frames[:, :, -1]).permute(0, 1, 4, 2, 3) / 127.5 - 1  # (B, T, C, H, W) in [-1, 1]
        B, T = shown.shape[:2]
        missing = self.context_steps - T
        self.env.obs_buffer = torch.cat((shown[:, :1].repeat(1, missing, 1, 1, 1), shown), dim=1)
        self.env.act_buffer = torch.zeros(B, self.context_steps, dtype=torch.int64)
        self.env.act_buffer[:, missing:-1] = torch.from_numpy(actions)
        obs, act = self.env.obs_buffer, self.env.act_buffer
        *_, memory = self.env.rew_end_model.predict_rew_end(obs[:, :-1], act[:, :-1], obs[:, 1:])
        self.env.hx_rew_end, self.env.cx_rew_end = memory

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Dream one step; DIAMOND's own `step` would restart ended dreams; the report must not."""
        self.env.act_buffer[:, -1] = torch.from_numpy(actions)
        with torch.no_grad():
            frames, _ = self.env.predict_next_obs()
            rewards, ends = self.env.predict_rew_end(frames.unsqueeze(1))
        self.env.obs_buffer = torch.cat((self.env.obs_buffer[:, 1:], frames.unsqueeze(1)), dim=1)
        self.env.act_buffer = torch.cat((self.env.act_buffer[:, 1:], self.env.act_buffer[:, :1]), dim=1)
        return rewards.numpy(), ends.bool().numpy()


class RewardsAndEnds(nn.Module):
    """Stands in for DIAMOND's rew_end_model: logits of three rewards and of an end, and a memory."""

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(2 * 3 * 16, 32))
        self.act = nn.Embedding(num_actions, 32)
        self.memory = nn.LSTM(32, 16, batch_first=True)
        self.head = nn.Linear(16, 3 + 2)

    def predict_rew_end(
        self, obs: Tensor, act: Tensor, next_obs: Tensor, memory: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """(B, T, C, H, W), (B, T), (B, T, C, H, W) -> logits (B, T, 3) and (B, T, 2), and the memory."""
        both = torch.cat((obs, next_obs), dim=2).flatten(0, 1)
        seen, memory = self.memory(self.look(both).unflatten(0, act.shape) + self.act(act), memory)
        rewards, ends = self.head(seen).split((3, 2), dim=-1)
        return rewards, ends, memory


class RandomWeights:
    """Stands in for DIAMOND's WorldModelEnv: the buffers and methods that `Diamond` uses, untrained."""

    obs_buffer: Tensor  # (B, 4, C, H, W) float32 in [-1, 1]
    act_buffer: Tensor  # (B, 4) int64
    hx_rew_end: Tensor  # (1, B, …)
    cx_rew_end: Tensor

    def __init__(self, num_actions: int) -> None:
        self.denoiser = nn.Conv2d(4 * 3, 3, 3, padding=1)
        self.rew_end_model = RewardsAndEnds(num_actions)

    def predict_next_obs(self) -> tuple[Tensor, list[Tensor]]:
        """The next frame (B, C, H, W), and the steps of its sampling."""
        return self.denoiser(self.obs_buffer.flatten(1, 2)).tanh(), []

    def predict_rew_end(self, next_obs: Tensor) -> tuple[Tensor, Tensor]:
        """Rewards (B,) in {-1, 0, 1} and ends (B,) in {0, 1}, both drawn; `next_obs` is (B, 1, C, H, W)."""
        rewards, ends, (self.hx_rew_end, self.cx_rew_end) = self.rew_end_model.predict_rew_end(
            self.obs_buffer[:, -1:], self.act_buffer[:, -1:], next_obs, (self.hx_rew_end, self.cx_rew_end)
        )
        drawn = [torch.distributions.Categorical(logits=logits[:, 0]).sample() for logits in (rewards, ends)]
        return drawn[0] - 1.0, drawn[1]


def random_world() -> Diamond:
    """The adapter around random weights, for games of up to 16 actions."""
    torch.manual_seed(0)
    return Diamond(RandomWeights(num_actions=16))

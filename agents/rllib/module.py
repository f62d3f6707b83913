"""The networks that RLlib's PPO trains: convolutions for frames, a plain network for code vectors.

Letters: n observations, H W C one frame, A dimensions of an action.
"""

from abc import abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from worldmodel.agents.image_layers import image_layers
from worldmodel.layers.defaults import own_defaults
from worldmodel.layers.precision import autocast


class _ActorCritic(TorchRLModule, ValueFunctionAPI):
    """Policy and value on one encoder; `model_config["features_dim"]` is the width of its last layer."""

    dtype: type  # of the observations

    @own_defaults
    def setup(self) -> None:
        space, actions = self.observation_space, self.action_space
        if not isinstance(space, gym.spaces.Box) or space.dtype != self.dtype:
            raise ValueError(f"{type(self).__name__} needs {np.dtype(self.dtype).name} observations, got {space}")
        features = self.model_config["features_dim"]
        self.encoder = self.build_encoder(space.shape, features)
        self.value_head = nn.Linear(features, 1)
        self.log_std: nn.Parameter | None = None
        if isinstance(actions, gym.spaces.Discrete):
            self.policy_head = nn.Linear(features, int(actions.n))
        else:
            self.policy_head = nn.Linear(features, actions.shape[0])
            self.log_std = nn.Parameter(torch.zeros(actions.shape[0]))
        nn.init.orthogonal_(self.policy_head.weight, gain=0.01)  # starts with nearly uniform actions
        nn.init.zeros_(self.policy_head.bias)

    @abstractmethod
    def build_encoder(self, shape: tuple[int, ...], features: int) -> nn.Module:
        """A network from observations (n, *shape) to (n, features)."""

    @abstractmethod
    def encode(self, observations: Tensor) -> Tensor:
        """Observations of the env (n, *shape) -> (n, features) float32."""

    @own_defaults
    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self._act(self.encode(batch[Columns.OBS]))}

    @own_defaults
    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        features = self.encode(batch[Columns.OBS])
        return {Columns.ACTION_DIST_INPUTS: self._act(features), Columns.EMBEDDINGS: features}

    @own_defaults
    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        """(n,) expected return."""
        features = self.encode(batch[Columns.OBS]) if embeddings is None else embeddings
        return self.value_head(features).squeeze(-1)

    def _act(self, features: Tensor) -> Tensor:
        """Logits of the actions, or mean and log standard deviation (n, 2A)."""
        out = self.policy_head(features)
        return out if self.log_std is None else torch.cat((out, self.log_std.expand_as(out)), dim=-1)


class PixelPPOModule(_ActorCritic):
    """For uint8 frames (H, W, C), H and W divisible by 16; they stay uint8 in RLlib's episodes and batches.

    `model_config["channels"]`: of the first convolution; the others have twice as many.
    """

    dtype = np.uint8

    def build_encoder(self, shape: tuple[int, ...], features: int) -> nn.Module:
        height, width, depth = shape
        return image_layers(height, width, depth, self.model_config["channels"], features)

    def encode(self, observations: Tensor) -> Tensor:
        if observations.dtype != torch.uint8:
            raise ValueError(f"frames must be uint8 in [0, 255], got {observations.dtype}")
        with autocast(observations.device):
            return self.encoder(observations.movedim(-1, 1) / 255).float()


class VectorPPOModule(_ActorCritic):
    """For float32 observations of any shape, such as code vectors (h, w, E)."""

    dtype = np.float32

    def build_encoder(self, shape: tuple[int, ...], features: int) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(int(np.prod(shape)), features),
            nn.ReLU(),
            nn.Linear(features, features),
            nn.ReLU(),
        )

    def encode(self, observations: Tensor) -> Tensor:
        return self.encoder(observations)

"""The policies that PPO trains: convolutions for frames, plain networks for vectors, layers per cell for large grids.

Letters: n envs, H W C one image, h w grid, D features of a cell.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from torch import Tensor, nn

from worldmodel.agents.image_layers import image_layers
from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.layers.precision import autocast, fast_dtype

# Values in a stacked observation. With 2,048 (latents of the shipped worlds) a plain network learns from as few steps
# as a layer per cell, see docs/log.md; with 8,192 its update takes four times as long.
PLAIN_LIMIT = 4096


class ImageFeatures(BaseFeaturesExtractor):
    """Three convolutions for frames of any size divisible by 16, in bf16 on devices where that is fast.

    Forward and backward take 0.8 of the time of Stable-Baselines3's NatureCNN in bf16, 0.35 of its time in float32.
    """

    def __init__(self, observation_space: gym.spaces.Box, features_dim: int, channels: int) -> None:
        super().__init__(observation_space, features_dim)
        depth, height, width = observation_space.shape
        self.convs = image_layers(height, width, depth, channels, features_dim)

    def forward(self, images: Tensor) -> Tensor:
        """(n, C, H, W) in [0, 255] -> (n, features_dim) float32."""
        with autocast(images.device):
            return self.convs(images.to(fast_dtype(images.device)) / 255).float()


class GridFeatures(BaseFeaturesExtractor):
    """One layer shared by all cells of a grid of vectors (obs "latent" or "features"), with concatenated outputs.

    The shared weights see what is in a cell, and the policy's own layers see where. Works with any algorithm of
    Stable-Baselines3, as ``policy_kwargs={"features_extractor_class": GridFeatures}``.
    """

    def __init__(self, observation_space: gym.spaces.Box, channels: int = 64) -> None:
        height, width, depth = observation_space.shape
        super().__init__(observation_space, channels * height * width)
        self.place = nn.Sequential(nn.Linear(depth, channels), nn.ReLU(), nn.Flatten())

    def forward(self, vectors: Tensor) -> Tensor:
        """(n, h, w, D) float32 -> (n, h*w*channels) float32."""
        return self.place(vectors)


class PlainPolicy(ActorCriticPolicy):
    """Stable-Baselines3's policy, but built on torch's default device, such as "meta" to inspect its sizes."""

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = MlpExtractor(
            self.features_dim, self.net_arch, self.activation_fn, device=torch.get_default_device()
        )


class ImagePolicy(PlainPolicy):
    """Passes uint8 frames to `ImageFeatures` unchanged; Stable-Baselines3 would convert them to float32 first."""

    def extract_features(self, obs: Any, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        return self.features_extractor(obs)


class HoldingPolicy(PlainPolicy):
    """Offers no choice while an action is being repeated, which the planes of an observation show (`ActionMemory`).

    In these steps the action's first pair has probability 1 (the env ignores the choice), so that log-probability and
    entropy are 0 and without gradient.

    Args:
        durations: D, in the A x D pairs from which it chooses.
    """

    def __init__(self, *args: Any, durations: int, **kwargs: Any) -> None:
        self._durations = durations
        self._planes = torch.zeros(0)
        super().__init__(*args, **kwargs)

    def forward(self, obs: Any, deterministic: bool = False) -> Any:
        self._look(obs)
        return super().forward(obs, deterministic)

    def evaluate_actions(self, obs: Any, actions: Tensor) -> Any:
        self._look(obs)
        return super().evaluate_actions(obs, actions)

    def get_distribution(self, obs: Any) -> Any:
        self._look(obs)
        return super().get_distribution(obs)

    def _look(self, obs: Tensor) -> None:
        """Store the planes (n, A + 1) of the newest observation, read at one cell."""
        count = int(self.action_space.n) // self._durations + 1
        if obs.dtype == torch.uint8:  # channels first
            self._planes = obs[:, -count:].flatten(2)[..., 0]
        else:
            self._planes = obs.flatten(1)[:, -count:]

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Any:
        logits = self.action_net(latent_pi)
        held, left = self._planes[:, :-1].argmax(-1) * self._durations, self._planes[:, -1] > 0
        chosen = torch.arange(logits.shape[-1], device=logits.device) == held[:, None]
        return self.action_dist.proba_distribution(action_logits=logits.masked_fill(left[:, None] & ~chosen, -1e8))


class HoldingImagePolicy(HoldingPolicy, ImagePolicy):
    """`HoldingPolicy` for uint8 frames."""


def policy_for(space: gym.spaces.Box, config: AgentConfig) -> tuple[type[ActorCriticPolicy], dict[str, Any]]:
    """Policy class and its arguments, for uint8 frames or for float32 grids or vectors."""
    policy, kwargs = _seeing(space, config)
    if not config.durations:
        return policy, kwargs
    holding = HoldingImagePolicy if policy is ImagePolicy else HoldingPolicy
    return holding, kwargs | {"durations": len(config.durations)}


def _seeing(space: gym.spaces.Box, config: AgentConfig) -> tuple[type[ActorCriticPolicy], dict[str, Any]]:
    if space.dtype == np.uint8:
        extractor = {"features_dim": config.features_dim, "channels": config.channels}
        kwargs = {"features_extractor_class": ImageFeatures, "features_extractor_kwargs": extractor}
        return ImagePolicy, kwargs | {"net_arch": [], "normalize_images": False}
    if len(space.shape) == 3 and np.prod(space.shape) > PLAIN_LIMIT:
        extractor = {"channels": 2 * config.channels}
        kwargs = {"features_extractor_class": GridFeatures, "features_extractor_kwargs": extractor}
        return PlainPolicy, kwargs | {"net_arch": [config.features_dim], "activation_fn": nn.ReLU}
    return PlainPolicy, {"net_arch": [config.features_dim] * 2, "activation_fn": nn.ReLU}


def policy_parts(policy: ActorCriticPolicy) -> dict[str, nn.Module]:
    """The policy's modules, each once (its own state_dict lists the features three times)."""
    parts = {"features": policy.features_extractor, "mlp": policy.mlp_extractor}
    parts |= {"action": policy.action_net, "value": policy.value_net}
    if hasattr(policy, "log_std"):
        parts["scale"] = nn.ParameterDict({"log_std": policy.log_std})
    return parts

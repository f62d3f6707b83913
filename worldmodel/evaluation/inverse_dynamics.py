"""A small network that predicts the action from the frames before and after it, to test whether dreams obey actions.

It is trained on real episodes and applied to dreams. A dream is controllable if the network finds the actions that the
dream was conditioned on.

Letters: B rows, T steps, N transitions, F frames of a step, H W C pixels, E features, A actions or their dimensions.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.data import ActionSpec, EpisodeStorage, StoreInfo
from worldmodel.data.clips import pixel_statistics
from worldmodel.evaluation.metrics import r_squared
from worldmodel.layers.defaults import own_defaults
from worldmodel.progress import progress
from worldmodel.settings import PositiveInt, checked_dataclass
from worldmodel.shapes import frames_to_model

_CHUNK = 256  # transitions processed at a time


@checked_dataclass
class InverseDynamicsConfig:
    """Size and training of the network."""

    steps: PositiveInt = 600  # optimiser steps
    batch_size: PositiveInt = 64  # transitions
    learning_rate: float = 2e-3
    channels: PositiveInt = 32  # of the first convolution; the others have twice as many
    features: PositiveInt = 64  # E, width of the last layer, whose values the Frechet distance uses
    seed: int = 0


class InverseDynamics(nn.Module):
    """Predicts the action of a transition from all frames of the step before and the step after."""

    center: Tensor  # () mean of the data's pixels in [-0.5, 0.5]
    spread: Tensor  # () their standard deviation: without scaling, dark games would be learned slowly

    def __init__(self, config: InverseDynamicsConfig, info: StoreInfo) -> None:
        super().__init__()
        self.action = info.action
        self.register_buffer("center", torch.tensor(0.0))
        self.register_buffer("spread", torch.tensor(1.0))
        width = config.channels
        self.body = nn.Sequential(
            nn.Conv2d(2 * info.frames_per_step * info.channels, width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),  # keeps positions: walking looks similar everywhere except for where things move
            nn.Flatten(),
            nn.Linear(2 * width * 16, config.features),
            nn.ReLU(),
        )
        self.head = nn.Linear(config.features, self.action.n)

    def forward(self, pairs: Tensor) -> Tensor:
        """(N, 2F, H, W, C) uint8 -> logits (N, A), or the action's dimensions."""
        return self.head(self.features(pairs))

    def features(self, pairs: Tensor) -> Tensor:
        """(N, 2F, H, W, C) uint8 -> (N, E) float32."""
        x = (frames_to_model(pairs).flatten(1, 2).contiguous() - self.center) / self.spread
        return self.body(x)


def transitions(frames: Tensor) -> Tensor:
    """Concatenate each of the steps (B, T, F, H, W, C) with the next: (B * (T-1), 2F, H, W, C)."""
    return torch.cat((frames[:, :-1], frames[:, 1:]), dim=2).flatten(0, 1)


@own_defaults
def train_inverse_dynamics(
    store: EpisodeStorage, config: InverseDynamicsConfig | None = None, device: torch.device | str = "cpu"
) -> InverseDynamics:
    """Train on transitions of the train split. The same config and data give the same network."""
    config = config or InverseDynamicsConfig()
    rng = np.random.default_rng(config.seed)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = InverseDynamics(config, store.info).to(device)
    mean, variance = pixel_statistics(store)
    model.center.fill_(sum(mean) / len(mean) - 0.5)
    model.spread.fill_(max(variance, 1e-6) ** 0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps + 1)
    loss_of = F.cross_entropy if store.info.action.kind == "discrete" else F.mse_loss
    with progress(config.steps, "step", "inverse dynamics") as bar:
        for _ in range(config.steps):
            batch = store.batch(store.sample_ids(config.batch_size, 1, rng, "train"))
            loss = loss_of(model(transitions(batch.frames).to(device)), batch.actions[:, 0].to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update()
    return model.eval()


@own_defaults
@torch.inference_mode()
def read(model: InverseDynamics, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Steps (B, T, F, H, W, C) uint8 -> predictions (B * (T-1), A) and features (B * (T-1), E), on the CPU."""
    device = next(model.parameters()).device
    features = [model.features(part.to(device)) for part in transitions(frames).split(_CHUNK)]
    return torch.cat([model.head(part).cpu() for part in features]), torch.cat(features).cpu()


def action_score(action: ActionSpec, predictions: Tensor, actions: Tensor) -> float:
    """Accuracy of predicted discrete actions (N,), or share of the variance explained of box actions (N, A)."""
    if action.kind == "discrete":
        return float((predictions.argmax(-1) == actions).float().mean())
    return r_squared(predictions, actions)


def blind_score(action: ActionSpec, actions: Tensor) -> float:
    """`action_score` of always predicting the most frequent of these actions, or their mean."""
    return float(actions.bincount().max() / len(actions)) if action.kind == "discrete" else 0.0

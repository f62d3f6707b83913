"""How actions enter the GPT: one vector per step, through the gain and bias of every norm.

Letters: B batch, T steps, S tokens per step, D width, A numbers of an action, C width of the condition.
Source: VideoGen (arXiv:2104.10157) section 3, conditional norms. Differs: one vector per step instead of one per clip;
zero-initialised, so that training begins with plain norms.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.data import ActionSpec
from worldmodel.layers.precision import Linear


class ActionEmbedding(nn.Module):
    """Actions (B, T) int64 or (B, T, A) float32 -> conditions (B, T, C); `null` stands for no action."""

    center: Tensor  # (A,) box actions: middle and half width of the bounds
    radius: Tensor

    def __init__(self, spec: ActionSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.linear = Linear(spec.num_features, width)
        self.null = nn.Parameter(torch.randn(width) * 0.02)
        if spec.kind == "box":  # actions are scaled to [-1, 1]
            low, high = torch.tensor(spec.low), torch.tensor(spec.high)
            self.register_buffer("center", (low + high) / 2, persistent=False)
            self.register_buffer("radius", (high - low) / 2, persistent=False)

    def forward(self, actions: Tensor) -> Tensor:
        if self.spec.kind == "discrete":
            features = F.one_hot(actions.long(), self.spec.num_features).float()
        else:
            features = (actions.float() - self.center) / self.radius
        return self.linear(features).float()


class ConditionalNorm(nn.Module):
    """LayerNorm whose gain and bias are linear in the step's condition."""

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__()
        self.width = width
        self.modulation = Linear(condition_width, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, T, S, D), condition (B, T, C) -> (B, T, S, D)."""
        gain, bias = self.modulation(condition).unsqueeze(-2).float().chunk(2, dim=-1)
        return torch.addcmul(bias, F.layer_norm(x, (self.width,)), 1.0 + gain)

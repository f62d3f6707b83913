"""Action conditioning of the GPT through the gain and bias of every norm: one vector per step, or one per clip.

Letters: B batch, T steps, S tokens per step, D width, A dimensions of an action, C width of the condition, R features
of the frame vector.
Source: VideoGen (arXiv:2104.10157) section 3, conditional norms: gain and bias are linear in the vector of all actions
of a clip. Differs: zero-initialised, so that training starts with plain norms; "step" has one vector per step instead.
"""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.data import ActionSpec
from worldmodel.layers.precision import Linear
from worldmodel.layers.weight_cache import WeightCache


class Condition(NamedTuple):
    """Conditioning of T inputs."""

    steps: Tensor  # (B, T, C) for the norms
    frames: Tensor | None = None  # (B, R) frame vector for the feed-forward parts

    def join(self, other: "Condition") -> "Condition":
        """Concatenate the rows of both."""
        if self.frames is None or other.frames is None:
            return Condition(torch.cat((self.steps, other.steps)))
        return Condition(torch.cat((self.steps, other.steps)), torch.cat((self.frames, other.frames)))


class ActionEmbedding(nn.Module):
    """Actions (B, T) int64 or (B, T, A) float32 -> conditions (B, T, C); `null` represents a missing action.

    With kind "clip" all `clip_actions` actions of a clip become one vector, (B, 1, C); missing ones are zeros. Without
    a width to embed them in, actions enter the norms as they are, and C is the number of their features.
    """

    center: Tensor  # (A,) for box actions: middle and half width of the bounds
    radius: Tensor

    def __init__(
        self, spec: ActionSpec, width: int, kind: Literal["step", "clip", "none"] = "step", clip_actions: int = 1
    ) -> None:
        super().__init__()
        self.spec, self.kind, self.clip_actions = spec, kind, clip_actions
        features = spec.num_features * (clip_actions if kind == "clip" else 1)
        self.linear = Linear(features, width) if kind != "none" and width else None
        self.width = width or (1 if kind == "none" else features)  # C
        self.null = nn.Parameter(torch.randn(self.width).mul_(0.02))
        if spec.kind == "box":  # actions are scaled to [-1, 1]
            low, high = np.array(spec.low, np.float32), np.array(spec.high, np.float32)
            self.register_buffer("center", torch.tensor((low + high) / 2), persistent=False)
            self.register_buffer("radius", torch.tensor((high - low) / 2), persistent=False)

    def features(self, actions: Tensor) -> Tensor:
        """Encode actions (...) int64 as one-hot vectors, or scale (..., A) float32 to [-1, 1]."""
        if self.spec.kind == "discrete":
            return F.one_hot(actions.long(), self.spec.num_features).float()
        return (actions.float() - self.center) / self.radius

    def forward(self, actions: Tensor) -> Tensor:
        features = self.features(actions)
        if self.kind == "clip":
            missing = self.clip_actions - features.shape[1]
            if missing < 0:
                raise ValueError(
                    f"a clip has at most {self.clip_actions} actions, got {features.shape[1]}; raise max_steps or "
                    "train on shorter segments"
                )
            features = F.pad(features, (0, 0, 0, missing)).flatten(1).unsqueeze(1)
        return features if self.linear is None else self.linear(features).float()

    def inputs(self, actions: Tensor | None, rows: int, inputs: int) -> Tensor:
        """Conditions (B, inputs, C); None: no actions. With one action fewer than inputs, the first input has none."""
        null = self.null.float().expand(rows, inputs, -1)
        if actions is None or self.kind == "none":
            return null
        if self.kind == "clip":
            return self(actions).expand(-1, inputs, -1)
        missing = inputs - actions.shape[1]
        if missing not in (0, 1):
            raise ValueError(f"{inputs} inputs need as many actions, or one fewer, got {actions.shape[1]}")
        return torch.cat((null[:, :1], self(actions)), dim=1) if missing else self(actions)


def hide_rows(known: Tensor, null: Tensor, share: float) -> Tensor:
    """Conditions (B, …) in which the learned null replaces a random share of the rows, for training."""
    hidden = torch.rand(len(known), *[1] * (known.ndim - 1), device=known.device) < share
    return torch.where(hidden, null.float(), known)


class Modulation(NamedTuple):
    """Gain and bias of a conditional norm."""

    gain: Tensor  # (B, T, 1, D) float32
    bias: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> "Modulation":
        """A function of gain and bias, each."""
        return Modulation(change(self.gain), change(self.bias))

    def of_last(self) -> "Modulation":
        """The modulation of the last step."""
        return self.map(lambda part: part[:, -1:])

    def flat(self) -> "Modulation":
        """The modulation of a single step, (B, D) each."""
        return self.map(lambda part: part[:, 0, 0])


class ConditionalNorm(nn.Module):
    """LayerNorm whose gain and bias are linear in the step's condition."""

    ones: Tensor  # (D,) a CPU kernel takes half the time if it gets a gain and a bias, even trivial ones
    zeros: Tensor

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("ones", torch.ones(width), persistent=False)
        self.register_buffer("zeros", torch.zeros(width), persistent=False)
        self.modulation = Linear(condition_width, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def modulate(self, condition: Tensor) -> Modulation:
        """Gain and bias from conditions (B, T, C), shared by all tokens of a step."""
        gain, bias = self.modulation(condition).unsqueeze(-2).float().chunk(2, dim=-1)
        return Modulation(1.0 + gain, bias)

    def forward(self, x: Tensor, modulation: Modulation) -> Tensor:
        """x (B, T, S, D) -> (B, T, S, D)."""
        buffers = self._buffers  # faster than attribute access
        normed = torch.layer_norm(x, (self.width,), buffers["ones"], buffers["zeros"])
        # Without gradients, write into the existing memory: an allocation costs a quarter of the norm.
        out = None if torch.is_grad_enabled() else normed
        return torch.addcmul(modulation.bias, normed, modulation.gain, out=out)


class JoinedNorms:
    """Computes the modulations of all conditional norms of a net, outside training by a single matmul."""

    def __init__(self, norms: Iterable[ConditionalNorm]) -> None:
        self._norms = list(norms)
        self.joint: WeightCache[Linear] = WeightCache()  # one layer with the weights of all norms

    def modulate(self, condition: Tensor) -> list[Modulation]:
        """The modulation of each norm for conditions (B, T, C), in the order of the norms."""
        layers = [norm.modulation for norm in self._norms]
        tensors = [tensor for layer in layers for tensor in (layer.weight, layer.bias)]
        joint = self.joint.of(tensors, lambda: _side_by_side(tensors))
        if joint is None:
            return [norm.modulate(condition) for norm in self._norms]
        out = joint(condition).float().unflatten(-1, (len(self._norms), 2, -1))  # (B, T, norms, 2, D)
        gains, biases = (1.0 + out[..., 0, :]).split(1, dim=2), out[..., 1, :].split(1, dim=2)
        return [Modulation(gain, bias) for gain, bias in zip(gains, biases, strict=True)]


def _side_by_side(tensors: list[Tensor]) -> Linear:
    """Concatenate the outputs of several layers to one layer; `tensors` are weight, bias, weight, …"""
    weight, bias = torch.cat(tensors[::2]), torch.cat(tensors[1::2])
    joint = Linear(weight.shape[1], len(weight), device="meta")
    joint.weight, joint.bias = (nn.Parameter(tensor, requires_grad=False) for tensor in (weight, bias))
    return joint

"""Stand-ins for models and data, all of whose scores are known by hand."""

import warnings
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from worldmodel.evaluation.held_out import encode_segments
from worldmodel.model.batches import CodeBatch, DynamicsLoss


class PixelTokenizer:
    """One code per step: the brightness of its first pixel. Loses `error` levels in decoding."""

    config = SimpleNamespace(data_variance=0.01, temporal="step", piece_steps=1, num_slices=1)

    def __init__(self, error: int = 0) -> None:
        self.error = error

    def encode(self, frames):
        return frames[:, :, 0, :1, :1, :1].long()

    encode_given = encode

    def decode(self, codes):
        return (codes + self.error).to(torch.uint8).unsqueeze(2).expand(*codes.shape[:2], 2, 16, 16, 3)


class KnowsTheActions:
    """A model with loss 1 nat, and 2 nats for steps whose action is not the recorded one (brightness / 2 % 3)."""

    device = torch.device("cpu")
    config = SimpleNamespace(dynamics=SimpleNamespace(lead=0))
    draws_ends = False

    def loss(self, batch):
        wrong = batch.actions != (batch.codes[:, :-1, 0, 0, 0] // 2) % 3
        nats = 1 + (wrong & batch.padding_mask).sum() / batch.padding_mask.sum()
        return DynamicsLoss(nats, nats, *torch.zeros(3))


def known_batch(store, split="all") -> CodeBatch:
    dynamics = SimpleNamespace(frame_condition=0, segment_steps=lambda num_slices: 16)
    config = SimpleNamespace(dynamics=dynamics, tokenizer=PixelTokenizer.config)
    wm = SimpleNamespace(tokenizer=PixelTokenizer(), device="cpu", config=config)
    return encode_segments(wm, store, split, max_segments=10_000)


def steps_batch(rewards: list[float], terminated: list[bool] | None = None) -> CodeBatch:
    """One segment of given rewards and ends; its codes do not matter."""
    steps = len(rewards)
    return CodeBatch(
        codes=torch.zeros(1, steps + 1, 1, 1, 1, dtype=torch.int64),
        actions=torch.zeros(1, steps, dtype=torch.int64),
        rewards=torch.tensor([rewards]),
        terminated=torch.tensor([terminated or [False] * steps]),
        signals=torch.zeros(1, steps + 1, 0),
        padding_mask=torch.ones(1, steps, dtype=torch.bool),
    )


class Foresees:
    """A model whose heads say `reward` + bias and the given probabilities of an end."""

    device = torch.device("cpu")

    def __init__(self, bias=0.0, probability=None, threshold=0.5) -> None:
        self.bias, self.probability = bias, probability
        self.heads = SimpleNamespace(threshold=torch.tensor(threshold))

    def predict(self, batch):
        probability = torch.tensor([self.probability]) if self.probability else batch.terminated.float()
        return batch.rewards + self.bias, probability, None


class Means(nn.Module):
    """An I3D of known logits: mean of each colour, the brightness of the first frame, the largest value."""

    def forward(self, video: Tensor) -> Tensor:
        assert video.shape[1:] == (3, 16, 224, 224)
        first = video[:, :, 0].mean([1, 2, 3]).unsqueeze(1)
        return torch.cat((video.mean([2, 3, 4]), first, video.amax([1, 2, 3, 4]).unsqueeze(1)), 1)


def save_script(module: nn.Module, path: Path) -> Path:
    """Write a module as the TorchScript file that `load_i3d` reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(path)
    return path

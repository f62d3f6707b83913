"""Conditions of the two priors: the given step, and for the bottom also the whole top and the half-steps before.

Letters: B batch, T steps of a clip, h w grid of tokens, E features of a code, D width, n a half-step, W bottom_window.
Source: Predicting Video with VQVAE, section 3.2 and appendix: kernels, strides and widths of the convolutions; the
"conditioning stack identical to" VQ-VAE-2 (arXiv:1906.00446) is a stack of residual blocks. Widths between the
convolutions and inside the blocks are assumed.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.dynamics.pixelcnn.config import PixelCNNConfig
from worldmodel.dynamics.pixelcnn.layout import HALVES
from worldmodel.layers.conv import ResidualBlock, SameConv3d, SameConvTranspose3d, Triple
from worldmodel.layers.precision import Conv3d


def _blocks(config: PixelCNNConfig, kernel: Triple) -> nn.Sequential:
    units = max(1, config.width // 4)
    return nn.Sequential(*(ResidualBlock(config.width, units, kernel) for _ in range(config.condition_layers)))


class CodeTable(nn.Embedding):
    """Codes (B, t, h, w) -> features (B, E, t, h, w); negative codes stand for none, and have zeros."""

    def forward(self, codes: Tensor) -> Tensor:
        features = super().forward(codes.clamp_min(0)) * (codes >= 0)[..., None]
        return features.movedim(-1, 1)


class GivenStep(nn.Module):
    """For the top prior: the codes of the given step -> (B, D, T-1, h, w)."""

    def __init__(self, config: PixelCNNConfig, num_codes: int, code_dim: int) -> None:
        super().__init__()
        width = config.width
        self.top, self.bottom = CodeTable(num_codes, code_dim), CodeTable(num_codes, code_dim)
        self.fold = SameConv3d((1 + HALVES) * code_dim, max(1, width // 2), (1, 4, 4), (1, 2, 2))
        self.spread = SameConv3d(max(1, width // 2), width, (3, 3, 3))
        self.blocks = _blocks(config, (3, 3, 3))

    def forward(self, top: Tensor, bottom: Tensor, slices: int) -> Tensor:
        """Top (B, h, w) and bottom (B, 2, 2h, 2w) of the given step; `slices` predicted ones, T-1."""
        above = self.top(top[:, None]).repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)
        below = self.bottom(bottom).flatten(1, 2).unsqueeze(2)  # the half-steps as channels
        folded = self.fold(torch.cat((above, below), dim=1))
        spread = self.spread(folded.expand(-1, -1, slices, -1, -1))
        return self.blocks(spread.float())


class PastBottom(nn.Module):
    """The W half-steps before one -> (B, D, 1, 2h, 2w), by convolutions that halve the time; zeros stand in front."""

    def __init__(self, config: PixelCNNConfig, num_codes: int, code_dim: int) -> None:
        super().__init__()
        self.window = config.bottom_window
        self.codes = CodeTable(num_codes, code_dim)
        widths = (code_dim, *[config.width] * 4)
        self.convs = nn.ModuleList(
            Conv3d(ins, outs, (4, 3, 3), stride=(2, 1, 1), padding=(0, 1, 1)) for ins, outs in pairwise(widths)
        )

    def forward(self, bottom: Tensor, half: Tensor) -> Tensor:
        """Bottom (B, at least n, 2h, 2w) and n (B,) int64; half-steps from n on are not read."""
        before = half[:, None] + torch.arange(-self.window, 0, device=half.device)
        rows = torch.arange(len(half), device=half.device)[:, None]
        codes = torch.where((before >= 0)[..., None, None], bottom[rows, before.clamp_min(0)], -1)
        x = self.codes(codes)
        for conv in self.convs:
            steps = x.shape[2]
            x = F.relu(conv(F.pad(x, (0, 0, 0, 0, 2 * ((steps + 1) // 2) + 2 - steps, 0))))
        return x


class TopAround(nn.Module):
    """The top of the whole clip at the size of the bottom, for one half-step: (B, 2D, 1, 2h, 2w)."""

    def __init__(self, config: PixelCNNConfig, num_codes: int, code_dim: int) -> None:
        super().__init__()
        self.codes = CodeTable(num_codes, code_dim)
        self.in_time = SameConvTranspose3d(code_dim, config.width, (4, 3, 3), (2, 1, 1))
        self.in_space = SameConvTranspose3d(config.width, config.width, (3, 4, 4), (1, 2, 2))
        self.last = Conv3d(config.width, 2 * config.width, (3, 3, 3), padding=(0, 1, 1))

    def raised(self, top: Tensor) -> Tensor:
        """Top (B, T, h, w) -> (B, D, 2T, 2h, 2w)."""
        return F.relu(self.in_space(F.relu(self.in_time(self.codes(top)))))

    def at(self, raised: Tensor, half: Tensor) -> Tensor:
        """What `raised` says about half-steps n (B,)."""
        around = F.pad(raised, (0, 0, 0, 0, 1, 1)).movedim(2, 1)  # (B, 2T+2, D, 2h, 2w)
        rows = torch.arange(len(half), device=half.device)[:, None]
        three = around[rows, half[:, None] + torch.arange(3, device=half.device)]
        return F.relu(self.last(three.movedim(1, 2)))


class BottomCondition(nn.Module):
    """For the bottom prior: whole top and past half-steps -> (B, D, 1, 2h, 2w)."""

    def __init__(self, config: PixelCNNConfig, num_codes: int, code_dim: int) -> None:
        super().__init__()
        width = config.width
        self.top, self.past = TopAround(config, num_codes, code_dim), PastBottom(config, num_codes, code_dim)
        self.join = SameConv3d(3 * width, width, (1, 3, 3))
        self.blocks = _blocks(config, (1, 3, 3))

    def forward(self, raised: Tensor, bottom: Tensor, half: Tensor) -> Tensor:
        """`raised` by `top.raised`; bottom and n as in `PastBottom`."""
        both = torch.cat((self.top.at(raised, half), self.past(bottom, half)), dim=1)
        return self.blocks(self.join(both).float())

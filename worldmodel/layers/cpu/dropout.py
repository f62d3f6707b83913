"""Dropout whose random numbers cost a CPU a quarter of the time of torch's."""

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """nn.Dropout that draws 16 random bits per element on a CPU, where torch draws a float64.

    The effective probability is `p` rounded to a multiple of 1/65,536.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        if x.device.type != "cpu":
            return super().forward(x)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)  # type: ignore[call-overload]
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)
        dropped = round(self.p * 2**16)
        kept = (bits >= dropped - 2**15).to(x.dtype)
        return x * kept.mul_(2**16 / (2**16 - dropped))

"""Drawing codes: counter-based noise and inversion of the distribution function.

A row's noise is a hash of its seed, its step and the position, so its future depends on neither the batch around it nor
any generator's state. One uniform number per code suffices (docs/decisions/004-inverse-cdf.md).

Letters: B rows, N draws of a row and step, V codes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    """A 32-bit integer hash with full avalanche (the "lowbias32" constants), on int64 tensors."""
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & _MASK
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


def uniforms(seeds: Tensor, counters: Tensor, count: int) -> Tensor:
    """Noise in [0, 1): seeds (B,) and counters (B,) int64 -> (B, count) float32."""
    key = _mix(_mix((seeds ^ (seeds >> 32)) & _MASK) ^ (counters * 0x9E3779B9 & _MASK))
    index = torch.arange(1, count + 1, device=seeds.device)
    bits = _mix(_mix(key[:, None] ^ (index * 0x85EBCA6B & _MASK)) + index & _MASK)
    return (bits >> 8).float() * 2.0**-24


class Draw(NamedTuple):
    codes: Tensor  # (...) int64 in [0, V)
    nll: Tensor  # (...) -log p of the drawn code under the model (temperature 1), nats
    entropy: Tensor  # (...) entropy of the model's distribution, nats


def draw(logits: Tensor, noise: Tensor, temperature: float = 1.0) -> Draw:
    """Draw one code from each distribution.

    Args:
        logits: (..., V) unnormalised log-probabilities.
        noise: (...) float32 in [0, 1).
        temperature: divides the logits; 0 takes the likeliest code.
    """
    if temperature < 0:
        raise ValueError(f"temperature must be at least 0, got {temperature}")
    logs = logits.float().log_softmax(-1)
    probabilities = logs.exp()
    entropy = -(probabilities * logs).sum(-1)
    if temperature == 0:
        codes = logs.argmax(-1)
    else:
        if temperature != 1.0:
            probabilities = (logs / temperature).softmax(-1)
        mass = probabilities.cumsum(-1)
        codes = torch.searchsorted(mass, (noise * mass[..., -1])[..., None], right=True).squeeze(-1)
        codes = codes.clamp_(max=logits.shape[-1] - 1)
    return Draw(codes, -logs.gather(-1, codes[..., None]).squeeze(-1), entropy)

"""Drawing codes: counter-based noise, temperature, top-k, top-p, and inverse transform sampling.

A row's noise is a hash of its seed, step and position, so its future depends neither on the other rows of the batch nor
on a generator's state. One uniform number per code suffices (docs/decisions/004-inverse-cdf.md).

Letters: B rows, N draws per row and step, V codes.
Source: top-p, arXiv:1904.09751; classifier-free guidance, arXiv:2207.12598.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from worldmodel.settings import PositiveInt, Temperature, check_temperature, checked_dataclass

_MASK = 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    """A 32-bit integer hash with full avalanche (the "lowbias32" constants), on int64 tensors."""
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & _MASK
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


def uniforms(seeds: Tensor, counters: Tensor, count: int) -> Tensor:
    """Noise in [0, 1): seeds (B,) and counters (B,) int64 -> (B, count) float32.

    The two halves of a seed are xor-ed, so -1 draws the same as 0: use seeds >= 0.
    """
    key = _mix(_mix((seeds ^ (seeds >> 32)) & _MASK) ^ (counters * 0x9E3779B9 & _MASK))
    index = torch.arange(1, count + 1, device=seeds.device)
    bits = _mix(_mix(key[:, None] ^ (index * 0x85EBCA6B & _MASK)) + index & _MASK)
    return (bits >> 8).float() * 2.0**-24


def as_seeds(seeds: Sequence[int] | Tensor, rows: int, device: torch.device) -> Tensor:
    """One seed per row, (B,) int64 in its own memory; ValueError unless there is one integer per row."""
    given = torch.as_tensor(seeds, device=device)
    if given.shape != (rows,) or given.is_floating_point() or given.dtype == torch.bool:
        raise ValueError(
            f"seeds must be one integer for each of the {rows} rows, got {given.dtype} {tuple(given.shape)}"
        )
    return given.to(torch.int64, copy=True)


@checked_dataclass
class Sampling:
    """How codes are drawn from the model's distribution; the default draws from it unchanged."""

    temperature: Temperature = 1.0  # divides the logits; 0 takes the most likely code
    top_k: PositiveInt | None = None  # draw from the k most likely codes
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None  # draw from the fewest codes that reach this probability
    guidance: float = 1.0  # classifier-free guidance scale: 0 without conditions, 1 with them, above 1 amplified

    @property
    def guided(self) -> bool:
        """True if the model must also run without conditions."""
        return self.guidance != 1.0


class Draw(NamedTuple):
    codes: Tensor  # (...) int64 in [0, V)
    nll: Tensor  # (...) -log p of the drawn code under the model (temperature 1), nats
    entropy: Tensor  # (...) entropy of the model's distribution, nats


def draw(
    logits: Tensor,
    noise: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    given: Tensor | None = None,
) -> Draw:
    """Draw one code from each distribution.

    Args:
        logits: (..., V) unnormalised log-probabilities.
        noise: (...) float32 in [0, 1).
        temperature: divides the logits; 0 takes the most likely code.
        top_k, top_p: as in `Sampling`; both apply to the distribution at this temperature.
        given: (...) int64, observed codes to score instead of drawing.
    """
    check_temperature(temperature)
    logits = logits.float()
    likelihoods = logits.softmax(-1)  # below, few tables of this size: writing one costs more than its sums
    if given is not None:
        codes = given
    elif temperature == 0 or top_k == 1:
        codes = likelihoods.argmax(-1)
    else:
        drawn_by = likelihoods if temperature == 1.0 else (logits / temperature).softmax(-1)
        if top_k is not None or top_p is not None:
            drawn_by = _most_likely(drawn_by, top_k, top_p)
        mass = drawn_by.cumsum(-1)
        codes = torch.searchsorted(mass, (noise * mass[..., -1])[..., None], right=True).squeeze(-1)
        codes = codes.clamp_(max=logits.shape[-1] - 1)
    chosen = logits.gather(-1, codes[..., None]).squeeze(-1)
    if given is None and temperature <= 1:
        nll = -likelihoods.gather(-1, codes[..., None]).squeeze(-1).log()
        total = chosen + nll
    else:  # given codes, or codes drawn at a high temperature, may have a likelihood that rounds to 0
        total = logits.logsumexp(-1)
        nll = total - chosen
    return Draw(codes, nll, total - likelihoods.mul_(logits).sum(-1))


def _most_likely(weights: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """Weights (..., V), unnormalised probabilities that are zero for all but the most likely codes."""
    count = min(top_k or weights.shape[-1], weights.shape[-1])
    values, codes = weights.topk(count, dim=-1)
    if top_p is not None:  # keep a code if those before it do not reach top_p
        before = values.cumsum(-1) - values
        beyond = before >= top_p * values.sum(-1, keepdim=True)
        values = values.masked_fill(beyond & (before > 0), 0.0)  # a tiny top_p may round to 0: one code always stays
    return torch.zeros_like(weights).scatter_(-1, codes, values)

"""Vector quantisation with moving-average codebooks, one per slice of the channels, and restart of unused codes.

Letters: M slices, V codes per slice, E features of one code vector, N latents of a batch.
Source: moving averages, arXiv:1711.00937 appendix A.1; data initialisation and restarts, arXiv:2005.00341; slices,
Latent Video Transformer (arXiv:2006.10704) section 3.1; `rate_weight`, Entropy-constrained vector quantization (Chou,
Lookabaugh and Gray 1989). Differs: the restart threshold is relative to the mean usage, so it fits any batch size; a
restarted code is kept for `_GRACE` batches, which gives it time to be used; rates are those of the running counts.

If torch.distributed is initialised, all processes update alike: counts and sums are totals over their batches, and
initial and restarted codes come from the batch of rank 0. All must then call a codebook in training equally often.
"""

from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, distributed, nn

from worldmodel.settings import NonNegativeFloat, PositiveInt, ShareBelowOne, checked_dataclass

_GRACE = 50  # batches after which a restarted code that is still unused restarts again
_SMOOTH = 1e-7  # Laplace smoothing of the running counts


@checked_dataclass
class CodebookConfig:
    """Size and update speed of a sliced codebook."""

    num_codes: Annotated[int, Field(ge=1, le=2**15)] = 512  # V, codes of each slice, which are stored in 16 bits
    num_slices: PositiveInt = 2  # M
    code_dim: PositiveInt = 32  # E, features of one slice's code vector
    decay: ShareBelowOne = 0.99  # share of the running averages kept per batch, in [0, 1)
    restart_below: ShareBelowOne = 0.2  # codes used less than this share of the mean usage restart; in [0, 1)
    rate_weight: NonNegativeFloat = (
        0.0  # what a nat of a code's rarity costs, in variances of the codes; 0: nearest code
    )


class Quantized(NamedTuple):
    latents: Tensor  # (..., M*E) code vectors, with a straight-through gradient to the encoder
    codes: Tensor  # (..., M) int64 in [0, V)
    commitment: Tensor  # () mean squared distance from latent to code, unweighted


class CodeLookup(NamedTuple):
    """Maps codes to code vectors; callable."""

    vectors: Tensor  # (slices, V, E) of a codebook

    def __call__(self, codes: Tensor) -> Tensor:
        """Codes (..., M) int64 in [0, V) -> the concatenated vectors of all slices, (..., M*E) float32.

        M is the codebook's number of slices, or a multiple of it if a token holds several positions of the grid.
        """
        slices, num_codes, _ = self.vectors.shape
        offsets = torch.arange(slices, device=codes.device) * num_codes
        return F.embedding(codes.unflatten(-1, (-1, slices)) + offsets, self.vectors.flatten(0, 1)).flatten(-3)


class SlicedCodebook(nn.Module):
    """M independent codebooks, each quantising its own slice of the channels; everything in float32."""

    vectors: Tensor  # (M, V, E)
    sums: Tensor  # (M, V, E) running sums of assigned latents
    counts: Tensor  # (M, V) running number of latents per batch
    started: Tensor  # () bool: the codes have been initialised from data

    def __init__(self, config: CodebookConfig) -> None:
        super().__init__()
        self.config = config
        vectors = torch.randn(config.num_slices, config.num_codes, config.code_dim)
        # Everything that training changes is a buffer, so a resumed run equals an uninterrupted one.
        self.register_buffer("vectors", vectors)
        self.register_buffer("sums", vectors.clone())
        self.register_buffer("counts", torch.ones(config.num_slices, config.num_codes))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def _split(self, latents: Tensor) -> Tensor:
        """(..., M*E) -> (M, N, E) float32."""
        config = self.config
        if latents.shape[-1] != config.num_slices * config.code_dim:
            raise ValueError(
                f"latents must end in {config.num_slices} slices x {config.code_dim} features = "
                f"{config.num_slices * config.code_dim}, got {tuple(latents.shape)}"
            )
        return latents.float().reshape(-1, config.num_slices, config.code_dim).transpose(0, 1)

    def _nearest(self, latents_MNE: Tensor) -> Tensor:
        # |x - v|^2 without |x|^2, which is the same for every code.
        norms = self.vectors.square().sum(-1)
        if self.config.rate_weight:
            norms = norms + self.config.rate_weight * self._prices()
        return torch.baddbmm(norms[:, None], latents_MNE, self.vectors.transpose(1, 2), alpha=-2).argmin(-1)

    def _prices(self) -> Tensor:
        """Nats of each code, at its share of the running counts, times the variance of its slice's codes: (M, V).

        Where several codes fit about as well, latents then take the most common one, which a model of the codes can
        predict.
        """
        shares = self.counts / self.counts.sum(-1, keepdim=True)
        mean = (shares[..., None] * self.vectors).sum(1, keepdim=True)
        variance = (shares * (self.vectors - mean).square().sum(-1)).sum(-1, keepdim=True)
        return variance * -shares.clamp_min(_SMOOTH).log()

    def forward(self, latents: Tensor) -> Quantized:
        """Quantise latents (..., M*E); in training mode also update the codebook."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            latents_MNE = self._split(latents)
            if self.training and not self.started:
                self._start(latents_MNE.detach())
            codes_MN = self._nearest(latents_MNE)
            codes = codes_MN.T.reshape(*latents.shape[:-1], self.config.num_slices)
            quantized = self.lookup(codes)
            if self.training:
                self._update(latents_MNE.detach(), codes_MN)
            commitment = F.mse_loss(latents, quantized)
            return Quantized(latents + (quantized - latents).detach(), codes, commitment)

    def encode(self, latents: Tensor) -> Tensor:
        """Index of the nearest code of each slice: (..., M*E) float -> (..., M) int64 in [0, V)."""
        with torch.autocast(latents.device.type, enabled=False):
            return self._nearest(self._split(latents)).T.reshape(*latents.shape[:-1], self.config.num_slices)

    @property
    def lookup(self) -> CodeLookup:
        """Code vectors with concatenated slices: `lookup(codes)`, (..., M) int64 in [0, V) -> (..., M*E) float32."""
        return CodeLookup(self.vectors)

    def _pick(self, latents_MNE: Tensor) -> Tensor:
        """V distinct random latents of the batch for each slice: (M, V, E).

        If there are too few latents, they are repeated with a little noise.
        """
        wanted, found = self.config.num_codes, latents_MNE.shape[1]
        if found < wanted:
            latents_MNE = latents_MNE.repeat(1, -(-wanted // found), 1)
            latents_MNE = latents_MNE + torch.randn_like(latents_MNE) * 0.01 * self.config.code_dim**-0.5
        picks = torch.randperm(latents_MNE.shape[1], device=latents_MNE.device)[:wanted]
        return _from_first(latents_MNE[:, picks])

    @torch.no_grad()
    def _start(self, latents_MNE: Tensor) -> None:
        """Initialise the codes from data."""
        share = _total(latents_MNE.new_tensor(latents_MNE.shape[1])) / self.config.num_codes
        self.vectors.copy_(self._pick(latents_MNE))
        self.counts.copy_(share.expand_as(self.counts))
        self.sums.copy_(self.vectors * share)
        self.started.fill_(True)

    @torch.no_grad()
    def _update(self, latents_MNE: Tensor, codes_MN: Tensor) -> None:
        new = 1.0 - self.config.decay
        ones = torch.ones_like(codes_MN, dtype=self.counts.dtype)
        counts = _total(torch.zeros_like(self.counts).scatter_add_(1, codes_MN, ones))
        index = codes_MN[..., None].expand_as(latents_MNE)
        sums = _total(torch.zeros_like(self.sums).scatter_add_(1, index, latents_MNE))
        self.counts.lerp_(counts, new)
        self.sums.lerp_(sums, new)
        share = counts[0].sum() / self.config.num_codes  # latents per code and batch under uniform usage
        least = self.config.restart_below * share
        dead = self.counts < least
        fresh = least * max(self.config.decay, 0.5) ** -_GRACE  # a decay of 0 would give restarted codes no time
        self.sums.copy_(torch.where(dead[..., None], self._pick(latents_MNE) * fresh, self.sums))
        self.counts.copy_(torch.where(dead, fresh, self.counts))
        total = self.counts.sum(-1, keepdim=True)
        smooth = (self.counts + _SMOOTH) / (total + self.config.num_codes * _SMOOTH) * total
        self.vectors.copy_(self.sums / smooth[..., None])


def _distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _total(tensor: Tensor) -> Tensor:
    """Sum over all processes, in place."""
    if _distributed():
        distributed.all_reduce(tensor)
    return tensor


def _from_first(tensor: Tensor) -> Tensor:
    """Broadcast the tensor of rank 0."""
    tensor = tensor.contiguous()
    if _distributed():
        distributed.broadcast(tensor, src=0)
    return tensor

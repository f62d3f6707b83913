"""VQVAEConfig: shape of the frames, of the tokenizer's network and of its codebook.

Letters: F frames of a step, H W C pixels, h w grid of tokens, T steps of a clip.
"""

from dataclasses import field
from typing import Literal

from worldmodel.layers.conv import NormKind, Triple
from worldmodel.settings import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, checked_dataclass
from worldmodel.tokenizer.codebook import CodebookConfig


def check_multiples(height: int, width: int, multiples: tuple[int, int], remedy: str) -> None:
    """ValueError unless height and width are multiples of the tokenizer's strides."""
    for name, size, multiple in zip(("height", "width"), (height, width), multiples, strict=True):
        if size % multiple:
            raise ValueError(f"{name} must be divisible by {multiple}, its stride, got {size}; {remedy}")


def check_means(data_mean: tuple[float, ...], channels: int) -> None:
    """ValueError unless there is a mean for each channel, or none at all."""
    if data_mean and len(data_mean) != channels:
        raise ValueError(f"data_mean must be empty or have {channels} entries, one per channel, got {data_mean}")


@checked_dataclass
class VQVAEConfig:
    """Shape of the frames, of the network and of its codebook."""

    net: Literal["vqvae"] = "vqvae"
    height: PositiveInt = 64
    width: PositiveInt = 64
    channels: PositiveInt = 3
    frames_per_step: PositiveInt = 2  # F, the temporal stride
    temporal: Literal["step", "causal", "clip"] = "step"  # encode each step alone, with its past, or a whole clip
    clip_steps: PositiveInt = 8  # T, steps of a clip; a causal network trains on this many steps and encodes any number
    stage_widths: tuple[PositiveInt, ...] = (32, 64, 128, 128)  # channels after each halving
    space_stride: tuple[PositiveInt, PositiveInt] | None = None  # of height and width; None: every stage halves both
    patch: PositiveInt = 1  # p: the codes of p x p latents form one token, so that the dynamics have fewer tokens
    residual_units: PositiveInt = 64  # inner channels of a residual block
    residual_layers: NonNegativeInt = 2  # attention residual blocks in each of encoder and decoder
    encoder_layers: NonNegativeInt | None = None  # blocks in the encoder; 0: codes of still regions stay unchanged
    attention: bool = True  # False: replace attention by more residual blocks of about the same total size
    heads: PositiveInt = 2
    norm: NormKind = "layer"
    from_code_kernel: Literal[1, 3] = 3  # kernel size of the decoder's first convolution
    commitment: NonNegativeFloat = 0.25  # weight of the commitment loss
    standardise: bool = True  # the network's pixels have mean 0 and variance 1; False: they are in [-0.5, 0.5]
    data_mean: tuple[float, ...] = ()  # mean pixel in [0, 1] per channel; measured by train-tokenizer, else 0.5
    data_variance: PositiveFloat = 0.06  # variance of all pixels in [0, 1]; measured by train-tokenizer
    codebook: CodebookConfig = field(default_factory=CodebookConfig)

    def __post_init__(self) -> None:
        factors = {"height": self._space[0], "width": self._space[1]}
        if self.temporal != "step":
            factors["time (frames_per_step)"] = self.frames_per_step
        if bad := [f"{name} {factor}" for name, factor in factors.items() if factor < 1 or factor & (factor - 1)]:
            raise ValueError(f"strides must be powers of two, got {', '.join(bad)}")
        stages = max(factors.values()).bit_length() - 1
        if not self.stage_widths or stages != len(self.stage_widths):
            raise ValueError(
                f"stage_widths must have one entry per halving, {stages} for the largest of the strides {factors}, "
                f"got {self.stage_widths}"
            )
        check_multiples(
            self.height, self.width, self._space, "change stage_widths, space_stride or the size of the frames"
        )
        if any(size % self.patch for size in self.latent_grid):
            raise ValueError(f"patch must divide the grid of latents {self.latent_grid}, got {self.patch}")
        check_means(self.data_mean, self.channels)

    @property
    def _space(self) -> tuple[int, int]:
        """Strides of height and width."""
        return self.space_stride or (2 ** len(self.stage_widths), 2 ** len(self.stage_widths))

    @property
    def multiples(self) -> tuple[int, int]:
        """Numbers that height and width must be multiples of."""
        return self._space[0] * self.patch, self._space[1] * self.patch

    @property
    def latent_grid(self) -> tuple[int, int]:
        """(h*p, w*p), the grid of latents that are quantised."""
        return self.height // self._space[0], self.width // self._space[1]

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w), the grid of tokens of a step."""
        return self.latent_grid[0] // self.patch, self.latent_grid[1] // self.patch

    @property
    def num_slices(self) -> int:
        """M, codes per token: those of the codebook's slices for each latent of the patch."""
        return self.codebook.num_slices * self.patch**2

    @property
    def piece_steps(self) -> int:
        """Steps of a training sample."""
        return 1 if self.temporal == "step" else self.clip_steps

    @property
    def strides(self) -> list[Triple]:
        """(t, h, w) of each encoder stage: each axis is halved in the first stages, as often as needed."""
        stages = range(len(self.stage_widths))
        if self.temporal == "step":  # the first stage merges all frames
            times = [self.frames_per_step if i == 0 else 1 for i in stages]
        else:
            times = [2 if 2**i < self.frames_per_step else 1 for i in stages]
        height, width = ([2 if 2**i < stride else 1 for i in stages] for stride in self._space)
        return list(zip(times, height, width, strict=True))

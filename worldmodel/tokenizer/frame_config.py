"""FrameVQVAEConfig: shape of the frames, of the network that encodes each of them alone, and of its codebooks.

Letters: F frames of a step, h w grid of tokens, M slices.
"""

from dataclasses import field
from typing import Literal

from worldmodel.settings import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, checked_dataclass
from worldmodel.tokenizer.codebook import CodebookConfig
from worldmodel.tokenizer.config import check_means, check_multiples


@checked_dataclass
class FrameVQVAEConfig:
    """Shape of the frames, of the network and of its codebooks."""

    net: Literal["frame-vqvae"] = "frame-vqvae"
    height: PositiveInt = 64
    width: PositiveInt = 64
    channels: PositiveInt = 3
    frames_per_step: PositiveInt = 1  # F, each encoded alone
    stage_widths: tuple[PositiveInt, ...] = (128, 256)  # channels after each halving; the last ones are the code vector
    residual_units: PositiveInt = 128  # inner channels of a residual block
    residual_blocks: NonNegativeInt = 2  # in each of encoder and decoder; the paper has 2 for BAIR, 4 for Kinetics
    commitment: NonNegativeFloat = 1.0  # weight of the commitment loss
    data_mean: tuple[float, ...] = ()  # mean pixel in [0, 1] per channel; measured by train-tokenizer, else 0.5
    data_variance: PositiveFloat = 0.06  # variance of all pixels in [0, 1]; measured by train-tokenizer
    codebook: CodebookConfig = field(default_factory=lambda: CodebookConfig(num_slices=4, code_dim=64))  # of a frame

    def __post_init__(self) -> None:
        if not self.stage_widths:
            raise ValueError("stage_widths must have one entry per halving, at least one, got ()")
        books, dim, width = self.codebook.num_slices, self.codebook.code_dim, self.stage_widths[-1]
        if width % books:
            raise ValueError(
                f"codebook.num_slices must divide {width}, the last of stage_widths, got {books}; "
                "change one of the two, and codebook.code_dim to their quotient"
            )
        if books * dim != width:
            raise ValueError(
                f"codebook.code_dim must be {width // books}: the {width} channels of the encoder are the "
                f"{books} code vectors of a frame; got {dim}"
            )
        check_multiples(self.height, self.width, self.multiples, "change stage_widths or the size of the frames")
        check_means(self.data_mean, self.channels)

    @property
    def multiples(self) -> tuple[int, int]:
        """Numbers that height and width must be multiples of."""
        return 2 ** len(self.stage_widths), 2 ** len(self.stage_widths)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w), the grid of tokens of a step."""
        return self.height // self.multiples[0], self.width // self.multiples[1]

    @property
    def num_slices(self) -> int:
        """M, codes per token: those of each frame's codebooks, frame after frame."""
        return self.frames_per_step * self.codebook.num_slices

    @property
    def temporal(self) -> Literal["step"]:
        """Steps are encoded alone, and so are their frames."""
        return "step"

    @property
    def clip_steps(self) -> int:
        """A step is all that is encoded together."""
        return 1

    @property
    def piece_steps(self) -> int:
        """Steps of a training sample."""
        return 1

"""HierarchicalVQVAEConfig: shape of the frames, of the two-level network and of its two codebooks.

Letters: T steps of a clip, h w grid of tokens.
"""

from dataclasses import field
from typing import Literal

from worldmodel.settings import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, checked_dataclass
from worldmodel.tokenizer.codebook import CodebookConfig
from worldmodel.tokenizer.config import check_means, check_multiples


@checked_dataclass
class HierarchicalVQVAEConfig:
    """Shape of the frames, of the network and of its two codebooks. A step is 4 frames."""

    net: Literal["hierarchical-vqvae"] = "hierarchical-vqvae"
    height: PositiveInt = 64
    width: PositiveInt = 64
    channels: PositiveInt = 3
    clip_steps: PositiveInt = 4  # T, steps of a training clip and of a clip of the dynamics; the network takes any T
    stage_widths: tuple[PositiveInt, PositiveInt] = (64, 128)  # channels after the first and the second halving
    residual_units: PositiveInt = 32  # inner channels of a residual block
    residual_blocks: NonNegativeInt = 2  # in each of the two encoders and two decoders
    commitment: NonNegativeFloat = 0.25  # weight of the sum of both levels' commitment losses
    checkpointing: bool = False  # recompute activations in the backward pass: less memory, a third more time
    data_mean: tuple[float, ...] = ()  # mean pixel in [0, 1] per channel; measured by train-tokenizer, else 0.5
    data_variance: PositiveFloat = 0.06  # variance of all pixels in [0, 1]; measured by train-tokenizer
    codebook: CodebookConfig = field(default_factory=lambda: CodebookConfig(num_slices=1, code_dim=64))  # of each level

    def __post_init__(self) -> None:
        check_multiples(self.height, self.width, self.multiples, "change the size of the frames")
        if self.codebook.num_slices != 1:
            raise ValueError(
                f"codebook.num_slices must be 1, got {self.codebook.num_slices}: each level has one codebook, and the "
                "slices of a token are the codes of both levels"
            )
        check_means(self.data_mean, self.channels)

    @property
    def frames_per_step(self) -> int:
        """A step is one top code and two bottom codes in time, which are 4 frames."""
        return 4

    @property
    def multiples(self) -> tuple[int, int]:
        """Numbers that height and width must be multiples of."""
        return 8, 8

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w), the grid of tokens of a step, which is that of the top codes."""
        return self.height // 8, self.width // 8

    @property
    def num_slices(self) -> int:
        """Codes per token: a top code and the 2 x 2 x 2 bottom codes below it."""
        return 9

    @property
    def temporal(self) -> Literal["clip"]:
        """Codes of a step depend on later frames."""
        return "clip"

    @property
    def piece_steps(self) -> int:
        """Steps of a training sample."""
        return self.clip_steps

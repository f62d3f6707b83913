"""PixelCNNConfig: sizes, visible past, conditions and training of the two priors."""

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from worldmodel.settings import AtLeastTwo, NonNegativeInt, PositiveInt, ShareBelowOne, checked_dataclass

_FOR_TRAINING = ("dropout", "bottom_slices", "checkpointing")


@checked_dataclass
class PixelCNNConfig:
    """Sizes and options of the top and the bottom prior; the defaults are those of "pixelcnn-small"."""

    net: Literal["pixelcnn"] = "pixelcnn"
    layers: PositiveInt = 10  # gated layers of each prior
    width: AtLeastTwo = 64  # D, channels of both stacks
    kernel: Annotated[int, Field(ge=3)] = 3  # odd side of the kernels, before the part that is not visible is cut off
    attention_every: NonNegativeInt = 5  # gated layers before each attention over all positions; 0: no attention
    heads: PositiveInt = 4
    past: Literal["full", "raster"] = "full"  # earlier slices are seen on all sides, or only above and to the left
    bottom_window: Annotated[int, Field(ge=1, le=16)] = 4  # half-steps before its own that the bottom prior reads
    condition_layers: NonNegativeInt = 4  # residual blocks of each stack of conditions
    max_steps: AtLeastTwo = 4  # T, steps of a clip, with the given one
    action_condition: Literal["step", "none"] = "step"  # the action that led to a step, or none, as in the paper
    condition_width: PositiveInt = 32  # features of an action's vector
    drop_actions: ShareBelowOne = 0.0  # share of training rows without actions, so that sampling can omit them
    dropout: ShareBelowOne = 0.0  # before the gated layers' last product
    bottom_slices: PositiveInt = 1  # half-steps of each row that the bottom prior is trained on, drawn at random
    checkpointing: bool = False  # recompute the layers in the backward pass: less memory, more time

    def __post_init__(self) -> None:
        if not self.kernel % 2:
            raise ValueError(f"kernel must be odd, got {self.kernel}")
        if self.width % self.heads or self.width % 2 or self.width < 6:
            raise ValueError(
                f"width must be even, at least 6 and divisible by the {self.heads} heads, got {self.width}"
            )

    # The interface of every dynamics' config: the given step enters as codes, and the steps after it are predicted.
    # Longer videos continue clip by clip.
    lead: ClassVar[int] = 0
    frame_condition: ClassVar[int] = 0
    drop_frames: ClassVar[float] = 0.0
    limited: ClassVar[bool] = True
    half: ClassVar[int] = 1
    clip_actions: ClassVar[int] = 1

    @property
    def window(self) -> int:
        """Steps that a prediction can see: the whole clip."""
        return self.max_steps

    @property
    def reach(self) -> int:
        """Positions that a kernel reaches to each side."""
        return self.kernel // 2

    @property
    def about(self) -> str:
        """Order and size in words."""
        attention = f"attention after every {self.attention_every}" if self.attention_every else "no attention"
        return f"PixelCNN priors of top and bottom, {self.layers} layers of {self.width} each, {attention}"

    def segment_steps(self, num_slices: int, asked: int | None = None) -> int:
        """Steps of a training segment after its first: those of a clip."""
        steps = self.max_steps - 1
        if asked not in (None, steps):
            raise ValueError(
                f"a segment is one clip of max_steps {self.max_steps}, {steps} steps after the first, got segment "
                f"{asked}; leave segment out"
            )
        return steps

    def trained_as(self, other: Any) -> "PixelCNNConfig":
        """This config with the training-only settings of another."""
        if type(other) is not type(self):
            return self
        return replace(self, **{name: getattr(other, name) for name in _FOR_TRAINING})

"""GPTConfig: size, order, positions and conditions of the dynamics."""

from dataclasses import field, replace
from typing import Any, Literal

from worldmodel.dynamics.gpt.frame_encoder import FrameEncoderConfig
from worldmodel.settings import AtLeastTwo, NonNegativeInt, PositiveInt, Probability, ShareBelowOne, checked_dataclass

_FOR_TRAINING = ("dropout", "context_noise", "token_noise", "own_draws", "own_draws_passes", "checkpointing")


@checked_dataclass
class GPTConfig:
    """Size, order, positions and conditions of the dynamics; defaults for dreams (the paper's are in `presets`)."""

    net: Literal["gpt"] = "gpt"
    order: Literal["block", "raster"] = "block"
    layers: PositiveInt = 4
    width: AtLeastTwo = 192  # D
    heads: PositiveInt = 4
    window: AtLeastTwo = 8  # W, number of steps that a token can see, including its own
    dropout: ShareBelowOne = 0.0  # after attention and feed-forward
    context_noise: ShareBelowOne = 0.03  # share of context codes replaced by random ones in training, against drift
    token_noise: ShareBelowOne = 0.0  # share of context tokens (all their codes) replaced by others of the batch
    own_draws: Probability = 0.0  # share of context steps that training replaces by the model's samples (see contexts)
    own_draws_passes: PositiveInt = 1  # n: sample repeatedly, so that up to n successive context steps are its own
    condition_width: NonNegativeInt = 32  # features into which the norms embed actions; 0: actions as they are
    code_head_width: NonNegativeInt = 128  # hidden units of the code head; 0: one linear layer, as in the paper
    echo: bool = False  # feed the previous step's code at each position to the code head (for fixed cameras)
    position: Literal["rotary-time", "learned", "space", "time", "sine", "none"] = "rotary-time"
    max_steps: AtLeastTwo = 8  # longest context, if limited by positions in time or by clip actions
    attention: Literal["full", "axial"] = "full"
    refine: NonNegativeInt = 0  # block order: extra passes; a step is drawn in refine + 1 groups (module refine)
    checkerboard: bool = False  # block order: draw half of the tokens first, then the others given these (checkerboard)
    learn_start: bool = False  # block order: also learn p(first step), to generate from nothing; raster always does
    action_condition: Literal["step", "clip", "none"] = "step"  # one action vector per step, one per clip, or none
    frame_condition: NonNegativeInt = 0  # first steps whose frames a ResNet encodes as one conditioning vector
    frame_condition_frames: NonNegativeInt = 0  # number of their frames, the last ones, that are read; 0: all
    frame_encoder: FrameEncoderConfig = field(default_factory=FrameEncoderConfig)
    drop_actions: ShareBelowOne = 0.0  # share of training rows without actions, so that sampling can omit them
    drop_frames: ShareBelowOne = 0.0  # share of training rows without the frame vector
    checkpointing: bool = False  # recompute the blocks in the backward pass: less memory, more time

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(f"width / heads must be an even integer, got width {self.width} and {self.heads} heads")
        if self.own_draws_passes > 1 and not self.own_draws:
            raise ValueError(f"own_draws_passes {self.own_draws_passes} needs own_draws above 0")
        if self.refine and self.order == "raster":
            raise ValueError(f"refine must be 0 in raster order, got {self.refine}")
        if self.order == "raster" and self.attention == "axial" and self.layers < 3:
            raise ValueError(f"axial attention in raster order needs at least 3 layers, got {self.layers}")
        if self.checkerboard and (self.order == "raster" or self.refine or not self.code_head_width):
            raise ValueError(
                "checkerboard needs order 'block', refine 0 and a code_head_width above 0, got order "
                f"{self.order!r}, refine {self.refine} and code_head_width {self.code_head_width}"
            )
        if self.limited and self.max_steps > self.window:
            raise ValueError(
                f"max_steps must be from 2 to window with position {self.position!r} and {self.action_condition!r} "
                f"actions, got max_steps {self.max_steps} and window {self.window}"
            )
        if self.limited and self.frame_condition > self.half:
            raise ValueError(
                f"frame_condition must be at most max_steps // 2 = {self.half} with a limited context, "
                f"got {self.frame_condition}"
            )

        if self.frame_condition_frames and not self.frame_condition:
            raise ValueError(f"frame_condition_frames {self.frame_condition_frames} needs frame_condition above 0")

    @property
    def predicts_at_once(self) -> bool:
        """True if a whole step is predicted before any of its codes is drawn."""
        return self.order == "block" and self.attention == "full" and not self.refine

    @property
    def lead(self) -> int:
        """1 if a sequence begins with a learned start token, whose output predicts the first step; else 0."""
        return int(self.order == "raster" or self.learn_start)

    @property
    def whole_steps(self) -> bool:
        """True if blocks read whole steps, so that their tokens see all of the last step."""
        return self.order == "block" or self.attention == "axial"

    @property
    def axial_layers(self) -> tuple[int, int, int]:
        """In raster order with axial attention, layers that read earlier steps, the rows above, and a token's row."""
        quarter = max(1, self.layers // 4)
        return self.layers - 2 * quarter, quarter, quarter

    @property
    def timed(self) -> bool:
        """True if positions in time come from a table of `max_steps` entries."""
        return self.position in ("learned", "time", "sine")

    @property
    def limited(self) -> bool:
        """True if the context is limited to `max_steps`; when full, it restarts from its last half."""
        return self.timed or self.action_condition == "clip"

    @property
    def half(self) -> int:
        """Number of steps that a limited context keeps when it restarts."""
        return self.max_steps // 2

    @property
    def clip_actions(self) -> int:
        """Number of actions in the vector of a clip."""
        return self.max_steps - self.lead

    @property
    def about(self) -> str:
        """Order and size in words."""
        return f"{self.order} order, {self.layers} layers of {self.width}, window {self.window}"

    def segment_steps(self, num_slices: int, asked: int | None = None) -> int:
        """Steps of a training segment of single steps: as many as asked, else 16 or what the context holds."""
        longest = self.max_steps - self.lead  # a full context, where that is limited
        if self.limited and (asked or 0) > longest:
            raise ValueError(
                f"segment must be at most {longest} steps with a context of max_steps {self.max_steps}, got {asked}"
            )
        return asked or (min(16, longest) if self.limited else 16)

    def trained_as(self, other: Any) -> "GPTConfig":
        """This config with the settings of another that may change when a model is trained further.

        These are the settings of training alone, the window unless the context is limited, and what may be added but
        not removed: a checkerboard, and layers after the last one (not to an axial decoder).
        """
        if type(other) is not type(self):
            return self
        names = _FOR_TRAINING if self.limited or other.limited else (*_FOR_TRAINING, "window", "max_steps")
        if other.checkerboard:  # its weights are zero at first
            names = (*names, "checkerboard")
        if other.layers > self.layers and not (self.order == "raster" and self.attention == "axial"):
            names = (*names, "layers")
        return replace(self, **{name: getattr(other, name) for name in names})

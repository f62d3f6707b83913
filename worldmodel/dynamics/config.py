"""GPTConfig: size, order, positions and conditions of the dynamics."""

from dataclasses import dataclass, field, replace
from typing import Literal

from worldmodel.dynamics.frame_encoder import FrameEncoderConfig
from worldmodel.settings import check_settings

_FOR_TRAINING = ("dropout", "context_noise", "token_noise", "own_draws", "own_draws_passes", "checkpointing")


@dataclass(frozen=True, kw_only=True, slots=True)
class GPTConfig:
    """Size, order, positions and conditions of the dynamics; the defaults are a dream's (`presets` has the paper's)."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    order: Literal["block", "raster"] = "block"
    layers: int = 4
    width: int = 192  # D
    heads: int = 4
    window: int = 8  # W, steps that a token can see, its own included
    dropout: float = 0.0  # after attention and feed-forward
    context_noise: float = 0.03  # share of the given codes replaced at random in training, against drift
    token_noise: float = 0.0  # share of the given tokens, all their codes, replaced by others of the batch
    own_draws: float = 0.0  # share of the given steps replaced in training by draws of the model (module contexts)
    own_draws_passes: int = 1  # n: draws follow draws, so that up to n given steps in a row are a dream
    condition_width: int = 32  # of the vector through which an action reaches the norms
    code_head_width: int = 128  # hidden units of the code head; 0: one linear layer, as in the paper (one slice only)
    echo: bool = False  # the code head is told each place's code of the step before: for cameras that stand still
    position: Literal["rotary-time", "learned", "space", "time", "sine", "none"] = "rotary-time"
    max_steps: int = 8  # longest context, where positions in time or clip actions limit it
    attention: Literal["full", "axial"] = "full"
    refine: int = 0  # block: passes after the first; a step's tokens are drawn in refine + 1 groups (module refine)
    learn_start: bool = False  # block: learn p(first step) too, so that video can begin from nothing; raster does
    action_condition: Literal["step", "clip", "none"] = "step"  # a vector per step, one per clip, or not read
    frame_condition: int = 0  # given first steps whose frames a ResNet turns into one vector
    frame_encoder: FrameEncoderConfig = field(default_factory=FrameEncoderConfig)
    drop_actions: float = 0.0  # share of training rows whose actions are hidden, so that sampling can go without
    drop_frames: float = 0.0  # share of training rows whose given frames are hidden
    checkpointing: bool = False  # compute the blocks again in the backward pass: less memory, more time

    def __post_init__(self) -> None:
        check_settings(
            self,
            least={
                "layers": 1,
                "width": 2,
                "heads": 1,
                "window": 2,
                "condition_width": 1,
                "code_head_width": 0,
                "max_steps": 2,
                "refine": 0,
                "frame_condition": 0,
                "own_draws_passes": 1,
            },
            share=("dropout", "context_noise", "token_noise", "drop_actions", "drop_frames"),
            at_most_one=("own_draws",),
        )
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(
                f"width / heads must be an even whole number, got width {self.width} and {self.heads} heads"
            )
        if self.own_draws_passes > 1 and not self.own_draws:
            raise ValueError(f"own_draws_passes {self.own_draws_passes} needs own_draws above 0")
        if self.refine and self.order == "raster":
            raise ValueError(f"refine must be 0 in raster order, got {self.refine}")
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

    @property
    def lead(self) -> int:
        """1 if a sequence begins with a learned start, whose output is the first step's; else 0."""
        return int(self.order == "raster" or self.learn_start)

    @property
    def timed(self) -> bool:
        """True if positions in time come from a table of `max_steps` entries."""
        return self.position in ("learned", "time", "sine")

    @property
    def limited(self) -> bool:
        """True if the context cannot outgrow `max_steps`: when full, it begins again from its last half."""
        return self.timed or self.action_condition == "clip"

    @property
    def half(self) -> int:
        """Steps that a limited context keeps when it begins again."""
        return self.max_steps // 2

    @property
    def clip_actions(self) -> int:
        """Actions in the vector of a clip."""
        return self.max_steps - self.lead

    def trained_as(self, other: "GPTConfig") -> "GPTConfig":
        """This model with the settings of another that are for its training alone, and its window if that is free."""
        names = _FOR_TRAINING if self.limited or other.limited else (*_FOR_TRAINING, "window", "max_steps")
        return replace(self, **{name: getattr(other, name) for name in names})

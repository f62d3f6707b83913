"""SubscaleConfig: slices, size, attention and conditions of the Latent Video Transformer.

Letters: F latent frames of a step, n books of a latent frame, M = F*n codes of a token, D width.
"""

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator

from worldmodel.settings import AtLeastTwo, PositiveInt, ShareBelowOne, checked_dataclass

_FOR_TRAINING = ("training_slices", "context_noise", "checkpointing")


def _odd(size: int) -> int:
    if size < 1 or size % 2 == 0:
        raise ValueError(f"a kernel must have odd sizes, so that it has a centre, got {size}")
    return size


Odd = Annotated[int, AfterValidator(_odd)]


@checked_dataclass
class SubscaleConfig:
    """Slices, size, attention and conditions of a `SubscaleTransformer`; defaults for dreams (the paper's: `presets`).

    A slice is every s_t-th latent frame, every s_h-th row and every s_w-th column of a clip. With `subscale=None` every
    latent frame is a slice: only such a model can dream.
    """

    net: Literal["subscale"] = "subscale"
    subscale: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None  # (s_t, s_h, s_w); None: single frame
    # Latent frames of a clip, needed with `subscale`. In single-frame order, the number of frames that the slice
    # embedding distinguishes; None: it counts the past frames that the kernel sees.
    clip_frames: AtLeastTwo | None = None
    kernel: tuple[Odd, Odd, Odd] = (7, 1, 1)  # (t, h, w) of the encoder's convolution, centred on the current slice
    books: PositiveInt | None = None  # n, codes of a position of a latent frame; None: M, so that a step is one frame
    layers: PositiveInt = 3  # blocks of the encoder, and as many of the decoder
    width: AtLeastTwo = 192  # D
    heads: PositiveInt = 4
    head_width: PositiveInt = 48  # features of a head
    code_width: PositiveInt = 64  # features of a code at the input of encoder and decoder
    code_head_width: PositiveInt = 128  # hidden units of the code head
    attention: Literal["query-key", "key", "relative"] = "query-key"  # what weights read beside relative distances
    block: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None  # (t, h, w) of attention's blocks; None: a slice
    dead_taps: bool = False  # also hold kernel entries that never see a code, which the published sizes count
    # For one book: rare codes have fewer weights at the decoder's input, at the output, or at both; outputs may share
    # the input's embeddings, or also its projections.
    code_input: Literal["embedding", "adaptive"] = "embedding"
    code_output: Literal["softmax", "tied", "adaptive", "adaptive-tied", "adaptive-tied-projection"] = "softmax"
    cutoffs: tuple[PositiveInt, ...] = ()  # how many frequent codes lie before each next cluster; (): measured
    training_slices: PositiveInt | None = None  # random slices of a row that a training step predicts; None: all
    learn_start: bool = False  # also learn p(first step), to generate from nothing
    context_noise: ShareBelowOne = (
        0.0  # share of the encoder's codes replaced by random ones in training, against drift
    )
    action_condition: Literal["step", "none"] = "step"  # the action that led into a frame conditions every norm
    condition_width: PositiveInt = 32  # width of the vector that conditions the norms on the action
    drop_actions: ShareBelowOne = 0.0  # share of training rows without actions, so that sampling can omit them
    checkpointing: bool = False  # recompute the blocks in the backward pass: less memory, more time

    def __post_init__(self) -> None:
        tied = self.code_output in ("adaptive-tied", "adaptive-tied-projection")
        if (tied and self.code_input != "adaptive") or (self.code_output == "tied" and self.code_input == "adaptive"):
            wanted = "adaptive" if tied else "embedding"
            raise ValueError(
                f"code_output {self.code_output!r} shares the weights of code_input {wanted!r}, got {self.code_input!r}"
            )
        if self.subscale is None:
            if self.kernel[0] < 3:
                raise ValueError(
                    f"a kernel of single frames must be at least 3 long in time to see a past frame, got {self.kernel}"
                )
            return
        if self.clip_frames is None:
            raise ValueError(f"subscale {self.subscale} cuts clips of a fixed length: set clip_frames")
        if self.clip_frames % self.subscale[0]:
            raise ValueError(
                f"clip_frames must be divisible by s_t = {self.subscale[0]} of subscale {self.subscale}, got "
                f"{self.clip_frames}"
            )

    # The interface of every dynamics' config: first frames enter as codes only, and the context has no limit at which
    # it would restart.
    frame_condition: ClassVar[int] = 0
    drop_frames: ClassVar[float] = 0.0
    limited: ClassVar[bool] = False
    max_steps: ClassVar[int] = 0
    half: ClassVar[int] = 0
    clip_actions: ClassVar[int] = 1

    @property
    def lead(self) -> int:
        """1 if the first step is predicted, too; else 0."""
        return int(self.learn_start)

    @property
    def single_frame(self) -> bool:
        """True if every latent frame is a slice, so that frames follow each other and a dream is possible."""
        return self.subscale is None

    @property
    def context_frames(self) -> int:
        """Number of past latent frames that the encoder's kernel sees in single-frame order."""
        return self.kernel[0] // 2

    @property
    def slice_entries(self) -> int:
        """Number of entries of the slice embedding."""
        if self.subscale is not None:
            return self.subscale[0] * self.subscale[1] * self.subscale[2]
        return self.clip_frames or self.context_frames + 1

    @property
    def adaptive(self) -> bool:
        """True if codes are cut into clusters by their frequency."""
        return self.code_input == "adaptive" or self.code_output.startswith("adaptive")

    @property
    def norm_inputs(self) -> int:
        """Width of the condition of the norms; 0 without actions, where they are plain norms."""
        return 0 if self.action_condition == "none" else self.condition_width

    @property
    def about(self) -> str:
        """Order and size in words."""
        order = "single-frame" if self.subscale is None else f"{' x '.join(map(str, self.subscale))} subscale"
        return f"{order} order, {self.layers} + {self.layers} layers of {self.width}, {self.attention} attention"

    def segment_steps(self, num_slices: int, asked: int | None = None) -> int:
        """Steps of a training segment after its first: those of a clip; in single-frame order as many as asked.

        By default a segment of single frames lets two steps see all past frames that the kernel reaches.
        """
        frames = self.frames_per_step(num_slices)
        if self.subscale is None:
            default = (
                -(-(self.clip_frames or 0) // frames) - 1 if self.clip_frames else -(-self.context_frames // frames) + 2
            )
            return asked or max(default, 1)
        assert self.clip_frames is not None
        if self.clip_frames % frames:
            raise ValueError(
                f"clip_frames must be divisible by the {frames} latent frames of a step, got {self.clip_frames}"
            )
        steps = self.clip_frames // frames - 1
        if asked not in (None, steps):
            raise ValueError(
                f"a segment is one clip of {self.clip_frames} latent frames, {steps} steps after the first, got "
                f"segment {asked}; leave segment out"
            )
        return steps

    def trained_as(self, other: Any) -> "SubscaleConfig":
        """This config with the training-only settings of another."""
        if type(other) is not type(self):
            return self
        return replace(self, **{name: getattr(other, name) for name in _FOR_TRAINING})

    def frames_per_step(self, num_slices: int) -> int:
        """F, latent frames of a step with M = `num_slices` codes a token; ValueError if `books` does not divide M."""
        books = self.books or num_slices
        if num_slices % books:
            raise ValueError(
                f"books must divide the {num_slices} codes of a token, got {books}; a token holds the codes of every "
                "frame of a step side by side"
            )
        if books > 1 and (self.adaptive or self.code_output == "tied"):
            raise ValueError(
                f"code_input {self.code_input!r} with code_output {self.code_output!r} is for one book, got {books}: "
                "every book has its own frequent codes. Train a tokenizer of one, or set books to 1 if these are frames"
            )
        return num_slices // books

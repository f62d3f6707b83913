"""Sizes of the tables' trainings: the presets "smoke", "small" and "paper".

Source: VideoGPT (arXiv:2104.10157) tables 8 and 9; VideoGen's submission (OpenReview 3InxcRQsYLf) section 4; for the
other two papers the presets of `worldmodel.tokenizer` and `worldmodel.dynamics`.
"""

from dataclasses import field, replace
from typing import Any, TypeVar

from worldmodel.dynamics import FrameEncoderConfig, GPTConfig, HeadsConfig, PixelCNNConfig, SubscaleConfig
from worldmodel.dynamics import preset as dynamics_preset
from worldmodel.evaluation.inverse_dynamics import InverseDynamicsConfig
from worldmodel.settings import checked_dataclass
from worldmodel.tokenizer import CodebookConfig, FrameVQVAEConfig, HierarchicalVQVAEConfig
from worldmodel.tokenizer.presets import preset as tokenizer_preset
from worldmodel.training.ablations.papers import PAPER
from worldmodel.training.fit import LoopConfig
from worldmodel.training.paper_loops import (
    HIERARCHY_LOOP,
    LVT_PRIOR_LOOP,
    LVT_TOKENIZER_LOOP,
    PAPER_PRIOR_LOOP,
    PAPER_TOKENIZER_LOOP,
    PIXELCNN_LOOP,
)

_Config = TypeVar("_Config")


@checked_dataclass
class Base:
    """The model of which each table of a paper varies one thing."""

    latents: tuple[int, int, int]
    num_codes: int
    prior: GPTConfig


@checked_dataclass
class LVTScale:
    """Sizes of the Latent Video Transformer's trainings; a tokenizer's batch counts single frames."""

    tokenizer: FrameVQVAEConfig
    prior: SubscaleConfig  # with the books of table "papers"
    tokenizer_loop: LoopConfig
    prior_loop: LoopConfig


@checked_dataclass
class PixelCNNScale:
    """Sizes of the trainings of the hierarchy and its priors."""

    tokenizer: HierarchicalVQVAEConfig
    prior: PixelCNNConfig
    tokenizer_loop: LoopConfig
    prior_loop: LoopConfig


@checked_dataclass
class Scale:
    """Sizes of a preset's trainings; what the papers fix is written in the tables."""

    coarser: int  # how many times larger the strides of height and width are than the paper's
    widths: tuple[int, int]  # least and last channels of the tokenizer; a stage has half of the next one's
    residual_units: int
    residual_layers: int
    code_dim: int  # of all slices together
    codes: tuple[int, int, int]  # sizes of the codebook that table "codes" compares; the middle one is the base
    prior: GPTConfig  # but for latents and codes
    depths: tuple[int, int, int, int]  # layers that table "depth" compares; one of them is the base
    videogen: Base | None = None  # base of VideoGen's own tables; None: that of the others
    latents: tuple[str, ...]  # rows of table "latents" that are trained, by their names in the paper
    tokenizer_loop: LoopConfig
    prior_loop: LoopConfig
    muon: bool
    lvt: LVTScale
    pixelcnn: PixelCNNScale
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    clip_stride: int | None = None  # steps between the clips that a prior learns from; None: half a clip
    data_steps: int | None = None  # env steps to train on, the first ones of the store; None: all
    samples: int = 256  # clips in every distance
    samplings: int = 1  # how often samples are drawn; above 1, distances are means over them, with their deviation
    inverse_dynamics: InverseDynamicsConfig = field(default_factory=InverseDynamicsConfig)

    def with_seed(self, seed: int) -> "Scale":
        """The same trainings with another seed."""

        def seeded(part: Any) -> Any:
            loops = {name: replace(getattr(part, name), seed=seed) for name in ("tokenizer_loop", "prior_loop")}
            return replace(part, **loops)

        return replace(seeded(self), lvt=seeded(self.lvt), pixelcnn=seeded(self.pixelcnn))


_TINY = GPTConfig(
    order="raster",
    layers=3,
    width=24,
    heads=2,
    window=16,
    context_noise=0.0,
    condition_width=8,
    code_head_width=0,
    position="learned",
    action_condition="none",
    frame_encoder=FrameEncoderConfig(width=4, depths=(1, 1)),
)
_SMALL = replace(_TINY, layers=4, width=96, heads=4, frame_encoder=FrameEncoderConfig(width=8, depths=(1, 1, 1)))
_PAPER = replace(
    _TINY, layers=16, width=576, heads=4, dropout=0.2, condition_width=32, frame_encoder=FrameEncoderConfig()
)


def _as(kind: type[_Config], config: object) -> _Config:
    """A preset of worldmodel, whose type says only that it is some config."""
    assert isinstance(config, kind)
    return config


_SMOKE_LOOP = LoopConfig(steps=30, batch_size=4, learning_rate=3e-3, warmup=5)
_SMALL_TOKENIZER_LOOP = LoopConfig(steps=700, batch_size=4, learning_rate=3e-3)
_SMALL_PRIOR_LOOP = LoopConfig(steps=400, batch_size=4, learning_rate=6e-3, weight_decay=0.1)
_TINY_LVT = SubscaleConfig(
    books=2, layers=1, width=24, heads=2, head_width=12, code_width=8, code_head_width=16, condition_width=8
)
_TINY_PIXELCNN = PixelCNNConfig(
    layers=2, width=16, attention_every=1, heads=2, condition_layers=1, condition_width=8, bottom_slices=1
)
PRESETS: dict[str, Scale] = {
    "smoke": Scale(
        coarser=2,
        widths=(8, 12),
        residual_units=8,
        residual_layers=1,
        code_dim=8,
        codes=(8, 16, 32),
        prior=_TINY,
        depths=(1, 2, 3, 4),
        latents=("8x16x16", "4x32x32", "8x32x32"),
        tokenizer_loop=_SMOKE_LOOP,
        prior_loop=_SMOKE_LOOP,
        muon=True,
        heads=HeadsConfig(token_width=4, width=16),
        lvt=LVTScale(
            tokenizer=FrameVQVAEConfig(
                stage_widths=(8, 8, 16),
                residual_units=8,
                residual_blocks=1,
                codebook=CodebookConfig(num_codes=16, num_slices=4, code_dim=4),
            ),
            prior=_TINY_LVT,
            tokenizer_loop=_SMOKE_LOOP,
            prior_loop=_SMOKE_LOOP,
        ),
        pixelcnn=PixelCNNScale(
            tokenizer=HierarchicalVQVAEConfig(
                stage_widths=(8, 12),
                residual_units=8,
                residual_blocks=1,
                codebook=CodebookConfig(num_codes=16, num_slices=1, code_dim=8),
            ),
            prior=_TINY_PIXELCNN,
            tokenizer_loop=_SMOKE_LOOP,
            prior_loop=_SMOKE_LOOP,
        ),
        data_steps=2_000,
        samples=16,
        inverse_dynamics=InverseDynamicsConfig(steps=30, channels=8, features=8),
    ),
    "small": Scale(
        coarser=4,
        widths=(16, 48),
        residual_units=32,
        residual_layers=2,
        code_dim=32,
        codes=(64, 256, 1024),
        prior=_SMALL,
        depths=(1, 2, 4, 8),
        latents=("4x16x16", "8x16x16", "4x32x32", "16x16x16", "8x32x32"),
        tokenizer_loop=_SMALL_TOKENIZER_LOOP,
        prior_loop=_SMALL_PRIOR_LOOP,
        muon=True,
        heads=HeadsConfig(token_width=8, width=64),
        lvt=LVTScale(
            tokenizer=replace(_as(FrameVQVAEConfig, tokenizer_preset("lvt-small")), frames_per_step=1),
            prior=SubscaleConfig(
                books=2, layers=2, width=96, heads=4, head_width=24, code_width=32, code_head_width=64
            ),
            tokenizer_loop=replace(_SMALL_TOKENIZER_LOOP, batch_size=32),
            prior_loop=_SMALL_PRIOR_LOOP,
        ),
        pixelcnn=PixelCNNScale(
            tokenizer=_as(HierarchicalVQVAEConfig, tokenizer_preset("pixelcnn-small")),
            prior=replace(_as(PixelCNNConfig, dynamics_preset("pixelcnn-small").model), layers=5, width=48),
            tokenizer_loop=_SMALL_TOKENIZER_LOOP,
            prior_loop=_SMALL_PRIOR_LOOP,
        ),
        data_steps=12_000,
        samples=128,
    ),
    "paper": Scale(
        coarser=1,
        widths=(240, 240),
        residual_units=128,
        residual_layers=4,
        code_dim=256,
        codes=(256, 1024, 4096),
        prior=_PAPER,
        depths=(2, 4, 8, 16),
        videogen=Base(latents=(8, 16, 16), num_codes=2048, prior=replace(_PAPER, layers=22, width=384)),
        latents=tuple(row for row in PAPER["latents"] if row != "1x64x64"),  # a single step is no sequence
        tokenizer_loop=PAPER_TOKENIZER_LOOP,
        prior_loop=PAPER_PRIOR_LOOP,
        muon=False,
        lvt=LVTScale(
            tokenizer=_as(FrameVQVAEConfig, tokenizer_preset("lvt-paper")),
            prior=_as(SubscaleConfig, dynamics_preset("lvt-paper").model),
            tokenizer_loop=LVT_TOKENIZER_LOOP,
            prior_loop=LVT_PRIOR_LOOP,
        ),
        pixelcnn=PixelCNNScale(
            tokenizer=_as(HierarchicalVQVAEConfig, tokenizer_preset("pixelcnn-paper")),
            prior=_as(PixelCNNConfig, dynamics_preset("pixelcnn-paper").model),
            tokenizer_loop=HIERARCHY_LOOP,
            prior_loop=PIXELCNN_LOOP,
        ),
        samplings=10,
        clip_stride=1,
    ),
}

"""The comparisons of the VideoGen papers as lists of trainings: what each table varies, at three sizes.

Every table varies one thing around one base, which all tables share; at the paper's size VideoGen's own tables have
VideoGen's. Rows keep the names that they have in the paper; a small preset has coarser latents, fewer layers and fewer
codes in their place, in the same order.

Letters: t h w latent grid of a clip, M slices.
Source: VideoGPT (arXiv:2104.10157) tables 3 to 9; VideoGen's submission (OpenReview 3InxcRQsYLf) section 4.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from worldmodel.data import StoreInfo
from worldmodel.dynamics import FrameEncoderConfig, GPTConfig, HeadsConfig, PixelCNNConfig
from worldmodel.errors import did_you_mean
from worldmodel.evaluation.inverse_dynamics import InverseDynamicsConfig
from worldmodel.settings import checked_dataclass
from worldmodel.tokenizer import CodebookConfig, TokenizerConfig, VQVAEConfig
from worldmodel.training.ablations.papers import PAPER, WORDS
from worldmodel.training.fit import LoopConfig
from worldmodel.training.paper_loops import PAPER_PRIOR_LOOP, PAPER_TOKENIZER_LOOP
from worldmodel.training.train_dynamics import DynamicsTraining
from worldmodel.training.train_tokenizer import TokenizerTraining

CLIP_FRAMES = 16
TABLES = tuple(WORDS)
_BASE = (8, 32, 32)  # the latents that every other table of VideoGPT has
_VIDEOGENS = ("transformer", "positions", "conditions")  # tables of VideoGen's submission


@checked_dataclass
class Base:
    """What the tables of a paper vary one thing of."""

    latents: tuple[int, int, int]
    num_codes: int
    prior: GPTConfig


@checked_dataclass
class Scale:
    """How large the trainings of a preset are; what the paper fixes is written in `_tokenizer` and `_dynamics`."""

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
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    clip_stride: int | None = None  # steps between the clips that a prior learns from; None: half a clip
    data_steps: int | None = None  # env steps that are learned from, the first ones of the store; None: all
    samples: int = 256  # clips in every distance
    inverse_dynamics: InverseDynamicsConfig = field(default_factory=InverseDynamicsConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One row of a table."""

    name: str  # the row in the paper
    here: str  # the row at this size; equal at the paper's own
    tokenizer: TokenizerTraining | None  # None: not trained, for the reason in `here`
    dynamics: DynamicsTraining | None = None  # None: the table is about tokenizers

    @property
    def tokenizer_folder(self) -> str:
        """A name that describes the tokenizer and is unique to its settings."""
        assert self.tokenizer is not None
        model = self.tokenizer.model
        words = f"tokenizer-{latent_name(model)}-{model.codebook.num_codes}codes"
        return (
            words
            + ("" if getattr(model, "attention", True) else "-noattention")
            + f"-{_digest(asdict(self.tokenizer))}"
        )

    @property
    def dynamics_folder(self) -> str:
        """The same for the prior and its tokenizer."""
        assert self.dynamics is not None
        model = self.dynamics.model
        kind: list[str] = [model.net] if isinstance(model, PixelCNNConfig) else [model.attention]
        kind += [model.position] if isinstance(model, GPTConfig) else []
        words = [f"{model.layers}layers", *kind]
        words += [f"{model.action_condition}actions"] if model.action_condition != "none" else []
        words += ["firstframe"] if model.frame_condition else []
        settings = {"tokenizer": self.tokenizer_folder, "dynamics": asdict(self.dynamics)}
        return f"prior-{'-'.join(words)}-{_digest(settings)}"


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def latent_name(model: TokenizerConfig) -> str:
    """Codes of a clip, "8x32x32", and "x4" behind it with four slices."""
    slices = model.num_slices
    sizes = [CLIP_FRAMES // model.frames_per_step, *model.grid, *([slices] if slices > 1 else [])]
    return "x".join(map(str, sizes))


_TINY = GPTConfig(
    order="raster",
    layers=2,
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
        tokenizer_loop=LoopConfig(steps=30, batch_size=4, learning_rate=3e-3, warmup=5),
        prior_loop=LoopConfig(steps=30, batch_size=4, learning_rate=3e-3, warmup=5),
        muon=True,
        heads=HeadsConfig(token_width=4, width=16),
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
        tokenizer_loop=LoopConfig(steps=700, batch_size=4, learning_rate=3e-3),
        prior_loop=LoopConfig(steps=400, batch_size=4, learning_rate=6e-3, weight_decay=0.1),
        muon=True,
        heads=HeadsConfig(token_width=8, width=64),
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
        clip_stride=1,
    ),
}


def variants(table: str, scale: Scale, info: StoreInfo) -> list[Variant]:
    """The rows of a table for play like that of `info`."""
    if table not in TABLES:
        raise ValueError(f"unknown table {table!r}.{did_you_mean(table, (*TABLES, 'all'))}")

    base = Base(latents=_BASE, num_codes=scale.codes[1], prior=scale.prior)
    if table in _VIDEOGENS and scale.videogen is not None:
        base = scale.videogen
        scale = replace(scale, prior=base.prior)

    def row(name: str, here: str = "", latents: str = "", dynamics: bool = True, prior=None, **changes) -> Variant:
        shape = tuple(map(int, latents.split("x"))) if latents else base.latents
        tokenizer = _tokenizer(scale, info, shape, **{"num_codes": base.num_codes} | changes)
        training = _dynamics(scale, tokenizer, **(prior or {})) if dynamics else None
        latent = latent_name(tokenizer.model) if latents else ""
        return Variant(name=name, here=here or latent or name, tokenizer=tokenizer, dynamics=training)

    if table == "attention":
        return [row(name, dynamics=False, attention=name == "axial") for name in ("none", "axial")]
    if table == "depth":
        return [
            row(name, str(layers), prior={"layers": layers})
            for name, layers in zip(PAPER["depth"], scale.depths, strict=True)
        ]
    if table == "transformer":
        return [row(name, prior={"attention": name}) for name in ("full", "axial")]
    if table == "positions":
        rows = {"space and time": "learned", "space": "space", "time": "time", "sine": "sine", "none": "none"}
        return [row(name, prior={"position": position}) for name, position in rows.items()]
    if table == "latents":
        missing = Variant(name="", here="not trained", tokenizer=None)
        return [
            row(name, latents=name) if name in scale.latents else replace(missing, name=name)
            for name in PAPER["latents"]
        ]
    if table == "codes":
        return [row(name, str(codes), num_codes=codes) for name, codes in zip(PAPER["codes"], scale.codes, strict=True)]
    if table == "codebooks":
        return [
            row(name, latents=name.rpartition("x")[0], slices=int(name.rpartition("x")[2]))
            for name in PAPER["codebooks"]
        ]
    if (frames := CLIP_FRAMES // base.latents[0]) < info.frames_per_step:
        raise ValueError(
            f"table {table!r} needs the action of every step of {frames} frames, and this play has steps of "
            f"{info.frames_per_step}, whose first parts in a clip have an action before it; collect play with "
            f"frames_per_step {frames} or less"
        )
    return [
        row("none"),
        row("first frame", prior={"frame_condition": 1, "frame_condition_frames": 1}),
        row("actions, one vector per clip", prior={"action_condition": "clip"}),
        row("actions, one vector per step", prior={"action_condition": "step"}),
    ]


def _tokenizer(
    scale: Scale,
    info: StoreInfo,
    latents: tuple[int, ...],
    num_codes: int,
    slices: int = 1,
    attention: bool = True,
) -> TokenizerTraining:
    """For the latents (t, h, w) that the paper makes of 16 frames of 64 x 64 pixels."""
    time, space = CLIP_FRAMES // latents[0], 64 // latents[1] * scale.coarser
    stages = max(time, space).bit_length() - 1
    least, last = scale.widths
    model = VQVAEConfig(
        height=info.height,
        width=info.width,
        channels=info.channels,
        frames_per_step=time,
        temporal="clip",
        clip_steps=latents[0],
        stage_widths=tuple(max(least, last >> (stages - 1 - stage)) for stage in range(stages)),
        space_stride=(space, space),
        residual_units=scale.residual_units,
        residual_layers=scale.residual_layers,
        attention=attention,
        codebook=CodebookConfig(num_codes=num_codes, num_slices=slices, code_dim=max(1, scale.code_dim // slices)),
    )
    return TokenizerTraining(model=model, loop=scale.tokenizer_loop, muon=scale.muon)


def _dynamics(scale: Scale, tokenizer: TokenizerTraining, **changes) -> DynamicsTraining:
    clip = tokenizer.model.clip_steps
    # Several codes per position need a hidden layer, so that each can be predicted given the others.
    hidden = scale.prior.width if tokenizer.model.codebook.num_slices > 1 else 0
    model = replace(scale.prior, window=clip, max_steps=clip, code_head_width=hidden, **changes)
    return DynamicsTraining(
        model=model,
        heads=scale.heads,
        loop=scale.prior_loop,
        muon=scale.muon,
        clip_stride=scale.clip_stride or max(1, clip // 2),
        event_share=0.0,
        validation_segments=128,
    )

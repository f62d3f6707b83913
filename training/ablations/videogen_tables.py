"""The comparisons of VideoGPT and VideoGen as lists of trainings: what each table varies, at three sizes.

Every table varies one thing around one base, which all tables share; at the paper's size VideoGen's own tables have
VideoGen's. Rows keep the names that they have in the paper; a small preset has coarser latents, fewer layers and fewer
codes in their place, in the same order.

Letters: t h w latent grid of a clip, M slices.
Source: VideoGPT (arXiv:2104.10157) tables 3 to 9; VideoGen's submission (OpenReview 3InxcRQsYLf) section 4.
"""

from dataclasses import replace

from worldmodel.data import StoreInfo
from worldmodel.dynamics import DynamicsConfig
from worldmodel.tokenizer import CodebookConfig, VQVAEConfig
from worldmodel.training.ablations.papers import PAPER
from worldmodel.training.ablations.scale import Base, Scale
from worldmodel.training.ablations.variant import CLIP_FRAMES, Variant, latent_name
from worldmodel.training.encode_store import CLIP_STRIDE
from worldmodel.training.fit import LoopConfig
from worldmodel.training.train_dynamics import DynamicsTraining
from worldmodel.training.train_tokenizer import TokenizerTraining

_BASE = (8, 32, 32)  # the latents that every other table of VideoGPT has
_VIDEOGENS = ("transformer", "positions", "conditions")  # tables of VideoGen's submission


def videogen_rows(table: str, scale: Scale, info: StoreInfo) -> list[Variant]:
    """The rows of a table of VideoGPT or VideoGen for episodes like those of `info`."""
    base = Base(latents=_BASE, num_codes=scale.codes[1], prior=scale.prior)
    if table in _VIDEOGENS and scale.videogen is not None:
        base = scale.videogen
        scale = replace(scale, prior=base.prior)

    def row(name: str, here: str = "", latents: str = "", dynamics: bool = True, prior=None, **changes) -> Variant:
        shape = tuple(map(int, latents.split("x"))) if latents else base.latents
        tokenizer = videogen_tokenizer(scale, info, shape, **{"num_codes": base.num_codes} | changes)
        training = videogen_prior(scale, tokenizer, **(prior or {})) if dynamics else None
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
    check_actions(table, CLIP_FRAMES // base.latents[0], info)
    return [
        row("none"),
        row("first frame", prior={"frame_condition": 1, "frame_condition_frames": 1}),
        row("actions, one vector per clip", prior={"action_condition": "clip", "condition_width": 0}),
        row("actions, one vector per step", prior={"action_condition": "step"}),
    ]


def check_actions(table: str, frames: int, info: StoreInfo) -> None:
    """ValueError if episodes do not have the action of every step of `frames` frames."""
    if frames < info.frames_per_step:
        raise ValueError(
            f"table {table!r} needs the action of every step of {frames} frames, and these episodes have steps of "
            f"{info.frames_per_step}, whose first parts in a clip have an action before it; collect episodes with "
            f"frames_per_step {frames} or less"
        )


def videogen_tokenizer(
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


def videogen_prior(scale: Scale, tokenizer: TokenizerTraining, **changes) -> DynamicsTraining:
    clip = tokenizer.model.clip_steps
    # Several codes per position need a hidden layer, so that each can be predicted given the others.
    hidden = scale.prior.width if tokenizer.model.codebook.num_slices > 1 else 0
    model = replace(scale.prior, window=clip, max_steps=clip, code_head_width=hidden, **changes)
    return prior_training(scale, model, scale.prior_loop, clip)


def prior_training(scale: Scale, model: DynamicsConfig, loop: LoopConfig, clip: int | None) -> DynamicsTraining:
    """The training of a prior on clips of `clip` steps, or (None) on steps that are coded alone."""
    return DynamicsTraining(
        model=model,
        heads=scale.heads,
        loop=loop,
        muon=scale.muon,
        clip_stride=CLIP_STRIDE if clip is None else scale.clip_stride or max(1, clip // 2),
        event_share=0.0,
        validation_segments=128,
    )

"""The comparisons of the other two papers, and of all three with each other, as lists of trainings.

Source: Latent Video Transformer (arXiv:2006.10704) tables 1, 2, 7, 8; Predicting Video with VQVAE (arXiv:2103.01950),
which gives no figures.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from worldmodel.data import StoreInfo
from worldmodel.training.ablations.scale import Base, Scale
from worldmodel.training.ablations.variant import CLIP_FRAMES, Variant
from worldmodel.training.ablations.videogen_tables import (
    check_actions,
    prior_training,
    videogen_prior,
    videogen_tokenizer,
)
from worldmodel.training.fit import LoopConfig
from worldmodel.training.train_tokenizer import TokenizerTraining

LVT_GIVEN = 5  # frames that the Latent Video Transformer is given where its FVD is measured
_STEP = 4  # frames of a step of the hierarchy, which its priors are given
# Of each order: subscale and kernel.
_ORDERS: dict[str, dict[str, Any]] = {
    "single frame": {"subscale": None, "kernel": (7, 1, 1)},
    "spatial": {"subscale": (1, 2, 2), "kernel": (1, 3, 3)},
    "spatiotemporal": {"subscale": (4, 2, 2), "kernel": (5, 3, 3)},
}
# Rows of the paper's table 8: input and output of the decoder.
_ADAPTIVE = {
    "embedding, softmax": ("embedding", "softmax"),
    "embedding, tied softmax": ("embedding", "tied"),
    "adaptive input, softmax": ("adaptive", "softmax"),
    "embedding, adaptive softmax": ("embedding", "adaptive"),
    "adaptive input, adaptive softmax": ("adaptive", "adaptive"),
    "adaptive input, adaptive softmax, tied embeddings": ("adaptive", "adaptive-tied"),
    "adaptive input, adaptive softmax, tied embeddings and projections": ("adaptive", "adaptive-tied-projection"),
}


def _lvt_codebooks(scale: Scale, info: StoreInfo) -> list[Variant]:
    return [
        Variant(name=str(books), here=str(books), tokenizer=_frame_tokenizer(scale, info, books)) for books in (1, 4)
    ]


def _lvt_subscale(scale: Scale, info: StoreInfo) -> list[Variant]:
    return [
        _lvt(f"{order}, n_c {books}", scale, info, books, **changes)
        for books in (1, 4)
        for order, changes in _ORDERS.items()
    ]


def _lvt_attention(scale: Scale, info: StoreInfo) -> list[Variant]:
    return [_lvt(attention, scale, info, 4, attention=attention) for attention in ("query-key", "key", "relative")]


def _lvt_adaptive(scale: Scale, info: StoreInfo) -> list[Variant]:
    return [
        _lvt(name, scale, info, 1, code_input=given, code_output=output) for name, (given, output) in _ADAPTIVE.items()
    ]


def _pixelcnn(scale: Scale, info: StoreInfo) -> list[Variant]:
    rows: dict[str, dict[str, Any]] = {
        "past in full, window 4, attention": {},
        "past in raster order": {"past": "raster"},
        "window 2": {"bottom_window": 2},
        "no attention": {"attention_every": 0},
    }
    return [_hierarchy(name, scale, info, **changes) for name, changes in rows.items()]


def _papers(scale: Scale, info: StoreInfo) -> list[Variant]:
    """The models of the three papers with actions, trained on equally many steps of equally many frames."""
    check_actions("papers", _STEP, info)
    base = scale.videogen or Base(latents=(8, 32, 32), num_codes=scale.codes[1], prior=scale.prior)
    check_actions("papers", CLIP_FRAMES // base.latents[0], info)
    clips = videogen_tokenizer(scale, info, base.latents, base.num_codes)
    prior = {"action_condition": "clip", "condition_width": 0, "frame_condition": 1, "frame_condition_frames": 1}
    videogen = Variant(
        name="VideoGen",
        here="VideoGen, 1 given frame",
        tokenizer=clips,
        dynamics=videogen_prior(replace(scale, prior=base.prior), clips, **prior),
        given_frames=clips.model.frames_per_step,
        judged_from=_STEP,
    )
    lvt = _lvt(
        "Latent Video Transformer",
        scale,
        info,
        scale.lvt.prior.books or 1,
        frames=info.frames_per_step,
        given=_STEP,
        action_condition="step",
    )
    hierarchy = _hierarchy("Predicting Video with VQVAE", scale, info, action_condition="step")
    return [videogen, _as_long(lvt, scale), _as_long(hierarchy, scale)]


def _as_long(row: Variant, scale: Scale) -> Variant:
    """The row trained like VideoGen's: as many steps of as many frames."""
    assert row.tokenizer is not None and row.dynamics is not None
    model = row.tokenizer.model
    piece = model.frames_per_step * model.piece_steps

    def loop(own: LoopConfig, base: LoopConfig, frames: int) -> LoopConfig:
        return replace(own, steps=base.steps, batch_size=base.batch_size * CLIP_FRAMES // frames)

    return replace(
        row,
        here=f"{row.name}, {row.given_frames} given frames",
        tokenizer=replace(row.tokenizer, loop=loop(row.tokenizer.loop, scale.tokenizer_loop, piece)),
        dynamics=replace(row.dynamics, loop=loop(row.dynamics.loop, scale.prior_loop, CLIP_FRAMES)),
    )


def _lvt(
    name: str, scale: Scale, info: StoreInfo, books: int, *, frames: int = 1, given: int = LVT_GIVEN, **changes: Any
) -> Variant:
    settings: dict[str, Any] = {"books": books, "clip_frames": CLIP_FRAMES, "action_condition": "none"} | changes
    return Variant(
        name=name,
        here=name,
        tokenizer=_frame_tokenizer(scale, info, books, frames),
        dynamics=prior_training(scale, replace(scale.lvt.prior, **settings), scale.lvt.prior_loop, None),
        given_frames=given,
        judged_from=given,
    )


def _frame_tokenizer(scale: Scale, info: StoreInfo, books: int, frames: int = 1) -> TokenizerTraining:
    base = scale.lvt.tokenizer
    codebook = replace(base.codebook, num_slices=books, code_dim=base.stage_widths[-1] // books)
    model = replace(
        base,
        height=info.height,
        width=info.width,
        channels=info.channels,
        frames_per_step=frames,
        codebook=codebook,
    )
    return TokenizerTraining(model=model, loop=scale.lvt.tokenizer_loop, muon=scale.muon)


def _hierarchy(name: str, scale: Scale, info: StoreInfo, **changes: Any) -> Variant:
    settings: dict[str, Any] = {"max_steps": CLIP_FRAMES // _STEP, "action_condition": "none"} | changes
    model = replace(
        scale.pixelcnn.tokenizer,
        height=info.height,
        width=info.width,
        channels=info.channels,
        clip_steps=CLIP_FRAMES // _STEP,
    )
    return Variant(
        name=name,
        here=name,
        tokenizer=TokenizerTraining(model=model, loop=scale.pixelcnn.tokenizer_loop, muon=scale.muon),
        dynamics=prior_training(
            scale, replace(scale.pixelcnn.prior, **settings), scale.pixelcnn.prior_loop, CLIP_FRAMES // _STEP
        ),
        given_frames=_STEP,
        judged_from=_STEP,
    )


OTHER_TABLES: Mapping[str, Callable[[Scale, StoreInfo], list[Variant]]] = {
    "lvt-codebooks": _lvt_codebooks,
    "lvt-subscale": _lvt_subscale,
    "lvt-attention": _lvt_attention,
    "lvt-adaptive": _lvt_adaptive,
    "pixelcnn": _pixelcnn,
    "papers": _papers,
}

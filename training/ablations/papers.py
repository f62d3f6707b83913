"""What the papers found in the comparisons that `ablate` repeats: figures, and words where figures are missing.

Source: VideoGPT (arXiv:2104.10157) tables 3 to 7 on BAIR; VideoGen's submission (OpenReview 3InxcRQsYLf) section 4,
whose own ablation tables are missing from its text, so that only its words remain; Latent Video Transformer
(arXiv:2006.10704) tables 1 to 3, 7 and 8 on BAIR. Lower is better in every metric here.
"""

from typing import NamedTuple


class Figure(NamedTuple):
    """A number as printed, and its spread after a ±; 0 if none is given."""

    value: float
    spread: float = 0.0

    def __str__(self) -> str:
        return f"{self.value:g} ± {self.spread:g}" if self.spread else f"{self.value:g}"


COPY = "copy the last frame"  # a row that needs no learning, in tables whose samples are given frames
_LVT_COPY = {COPY: {"fvd": Figure(320.9)}}  # table 3 of the Latent Video Transformer
_SINGLE_1 = {"bits_per_code": Figure(1.28), "fvd": Figure(258.89, 2.85)}
_SINGLE_4 = {"bits_per_code": Figure(1.53), "fvd": Figure(125.76, 2.90)}

# table -> row, by the row's name in `tables` -> metric -> figure.
PAPER: dict[str, dict[str, dict[str, Figure]]] = {
    "attention": {
        "none": {"nmse": Figure(0.0041), "r_fvd": Figure(15.3)},
        "axial": {"nmse": Figure(0.0033), "r_fvd": Figure(14.9)},
    },
    "depth": {
        "2": {"bits_per_code": Figure(2.84), "fvd": Figure(120.4, 6.0)},
        "4": {"bits_per_code": Figure(2.52), "fvd": Figure(110.0, 2.4)},
        "8": {"bits_per_code": Figure(2.39), "fvd": Figure(103.3, 2.2)},
        "16": {"bits_per_code": Figure(2.05), "fvd": Figure(103.6, 2.0)},
    },
    "latents": {
        "4x16x16": {"r_fvd": Figure(82.1), "fvd": Figure(135.4, 3.7), "fvd_star": Figure(81.8, 2.3)},
        "16x8x8": {"r_fvd": Figure(108.1), "fvd": Figure(166.9, 3.1), "fvd_star": Figure(81.6, 2.2)},
        "8x16x16": {"r_fvd": Figure(49.9), "fvd": Figure(124.7, 2.7), "fvd_star": Figure(90.2, 2.4)},
        "1x64x64": {"r_fvd": Figure(41.6), "fvd": Figure(126.7, 3.1), "fvd_star": Figure(98.1, 3.6)},
        "4x32x32": {"r_fvd": Figure(28.3), "fvd": Figure(104.6, 2.7), "fvd_star": Figure(90.6, 2.7)},
        "16x16x16": {"r_fvd": Figure(32.8), "fvd": Figure(113.4, 2.5), "fvd_star": Figure(94.9, 1.7)},
        "2x64x64": {"r_fvd": Figure(22.4), "fvd": Figure(124.3, 1.4), "fvd_star": Figure(104.4, 2.5)},
        "8x32x32": {"r_fvd": Figure(14.9), "fvd": Figure(103.6, 2.0), "fvd_star": Figure(94.6, 1.5)},
        "4x64x64": {"r_fvd": Figure(15.7), "fvd": Figure(109.4, 2.1), "fvd_star": Figure(102.3, 2.8)},
        "16x32x32": {"r_fvd": Figure(10.1), "fvd": Figure(118.4, 3.2), "fvd_star": Figure(113.8, 3.3)},
    },
    "codes": {
        "256": {"r_fvd": Figure(18.2), "fvd": Figure(103.8, 3.7), "bits_per_code": Figure(1.55)},
        "1024": {"r_fvd": Figure(14.9), "fvd": Figure(103.6, 2.0), "bits_per_code": Figure(2.05)},
        "4096": {"r_fvd": Figure(11.3), "fvd": Figure(103.9, 5.1), "bits_per_code": Figure(2.60)},
    },
    "codebooks": {
        "8x32x32x1": {"r_fvd": Figure(14.9), "fvd": Figure(103.6, 2.0), "bits_per_code": Figure(2.05)},
        "16x16x16x2": {"r_fvd": Figure(17.2), "fvd": Figure(106.3, 1.7), "bits_per_code": Figure(2.41)},
        "8x16x16x4": {"r_fvd": Figure(17.7), "fvd": Figure(131.4, 2.9), "bits_per_code": Figure(2.68)},
        "4x16x16x8": {"r_fvd": Figure(23.1), "fvd": Figure(135.7, 3.3), "bits_per_code": Figure(2.97)},
    },
    "conditions": {"none": {"fvd": Figure(192.0)}, "first frame": {"fvd": Figure(112.0), "fvd_star": Figure(94.0)}},
    "lvt-codebooks": {
        "1": {"mse": Figure(0.0016), "r_fvd": Figure(222.71)},
        "4": {"mse": Figure(0.0004), "r_fvd": Figure(47.41)},
    },
    "lvt-subscale": {
        "single frame, n_c 1": _SINGLE_1,
        "spatial, n_c 1": {"bits_per_code": Figure(1.79), "fvd": Figure(524.43, 9.41)},
        "spatiotemporal, n_c 1": {"bits_per_code": Figure(1.25), "fvd": Figure(275.71, 5.41)},
        "single frame, n_c 4": _SINGLE_4,
        "spatial, n_c 4": {"bits_per_code": Figure(2.99), "fvd": Figure(920.37, 7.71)},
        "spatiotemporal, n_c 4": {"bits_per_code": Figure(1.62), "fvd": Figure(145.85, 1.68)},
        **_LVT_COPY,
    },
    "lvt-attention": {
        "query-key": {**_SINGLE_4, "seconds_per_clip": Figure(35)},
        "key": {"bits_per_code": Figure(1.57), "fvd": Figure(130.27, 4.26), "seconds_per_clip": Figure(32)},
        "relative": {"bits_per_code": Figure(1.58), "fvd": Figure(141.62, 4.34), "seconds_per_clip": Figure(30)},
        **_LVT_COPY,
    },
    "lvt-adaptive": {
        "embedding, softmax": _SINGLE_1,
        "embedding, tied softmax": {"bits_per_code": Figure(1.27), "fvd": Figure(265.10, 3.85)},
        "adaptive input, softmax": {"bits_per_code": Figure(1.26), "fvd": Figure(259.73, 6.35)},
        "embedding, adaptive softmax": {"bits_per_code": Figure(1.37), "fvd": Figure(265.99, 4.16)},
        "adaptive input, adaptive softmax": {"bits_per_code": Figure(1.36), "fvd": Figure(259.88, 5.25)},
        "adaptive input, adaptive softmax, tied embeddings": {
            "bits_per_code": Figure(1.35),
            "fvd": Figure(259.55, 8.50),
        },
        "adaptive input, adaptive softmax, tied embeddings and projections": {
            "bits_per_code": Figure(1.34),
            "fvd": Figure(264.79, 4.27),
        },
        **_LVT_COPY,
    },
}

# table -> pairs (better, worse) that the text states without figures, and the metric it speaks of.
STATED: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {
    "transformer": {"fvd": (("full", "axial"),)},
    "positions": {"fvd": (("space and time", "space"), ("space and time", "time"), ("space and time", "sine"))},
}

WORDS = {
    "attention": "VideoGPT table 3, BAIR: axial attention in the VQ-VAE, against more convolutions of the same size.",
    "depth": "VideoGPT table 4, BAIR: layers of the prior.",
    "transformer": "VideoGen, in words only (its table is missing): full attention beats the axial transformer on FVD.",
    "positions": (
        "VideoGen, in words only (its table is missing): adding both space and time positions is crucial; sines and "
        "cosines do about as well, with a slightly worse FVD. A prior without positions is not mentioned."
    ),
    "latents": "VideoGPT table 5, BAIR: latent size of a clip of 16 frames, time x height x width.",
    "codes": "VideoGPT table 6, BAIR: codes of the codebook.",
    "codebooks": "VideoGPT table 7, BAIR: sliced codebooks at a constant number of codes per clip.",
    "conditions": (
        "VideoGen, section 4, BAIR: FVD 192 unconditional (230 with a smaller transformer), 112 given one frame. Both "
        "papers train unconditional and action-conditioned priors on ViZDoom, but give no figures for it."
    ),
    "lvt-codebooks": "Latent Video Transformer table 1, BAIR: codebooks of the frame autoencoder.",
    "lvt-subscale": (
        "Latent Video Transformer table 2, BAIR: order in which the codes of a clip are drawn, with 1 and 4 codebooks. "
        "Five frames are given; copying the last one is from table 3."
    ),
    "lvt-attention": (
        "Latent Video Transformer table 7, BAIR: what the weights of attention read beside distances. Its seconds are "
        "those of one clip of 16 frames, five given, on a V100."
    ),
    "lvt-adaptive": (
        "Latent Video Transformer table 8, BAIR: adaptive input and softmax, which brought no gain. Its rows of the "
        "other two orders are in lvt-subscale."
    ),
    "pixelcnn": (
        "Predicting Video with VQVAE states no figures for these: whether earlier slices are seen in full, how many "
        "half-steps the bottom prior reads, and attention. Four frames are given."
    ),
    "papers": (
        "The models of the three papers on the same episodes, with actions: as many optimiser steps, and as many "
        "frames in a batch. Predictions are compared from the fifth frame on; copying repeats the fourth."
    ),
}

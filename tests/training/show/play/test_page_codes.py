"""The map of codes on the page, in a real browser."""

import dataclasses

import numpy as np
import torch

from tests.tiny import tiny_config
from tests.training.show.play.browsing import (
    needs_browser,
)
from worldmodel.tokenizer import VQVAE, CodebookConfig, FrameVQVAE, FrameVQVAEConfig
from worldmodel.training.show.play.looking import code_colors, palette

pytestmark = needs_browser


def frames_alone(**changes) -> FrameVQVAE:
    codebook = CodebookConfig(num_codes=16, num_slices=8 // changes["frames_per_step"] // 2, code_dim=4)
    widths = (4, 4 * codebook.num_slices)
    return FrameVQVAE(FrameVQVAEConfig(height=16, width=16, stage_widths=widths, codebook=codebook, **changes))


def patches(patch: int) -> VQVAE:
    return VQVAE(dataclasses.replace(tiny_config().tokenizer, patch=patch, stage_widths=(8, 8)))


def test_every_code_has_its_own_place_in_the_map_of_its_slice_and_frame(visit):
    torch.manual_seed(0)
    several = [frames_alone(frames_per_step=2), frames_alone(frames_per_step=4), patches(1), patches(2)]
    with visit() as page:
        for tokenizer in several:
            drawn = code_colors(tokenizer)
            codes = torch.randint(tokenizer.num_codes, (*tokenizer.grid, tokenizer.num_slices))
            latents = tokenizer._unfold(codes) if isinstance(tokenizer, VQVAE) else codes
            colors = np.concatenate([palette(tokenizer)] * (drawn["slices"] // len(tokenizer.lookup.vectors)))
            wanted = np.stack([colors[place][latents[..., place]] for place in range(latents.shape[-1])])
            found = page.evaluate(
                """async ([codes, grid, about, [maps, rows, columns]]) => {
                  const {drawCodes, readPalette} = await import("./pictures.js");
                  const canvas = document.createElement("canvas");
                  drawCodes(canvas, codes, grid, null, {...about, palette: readPalette(about.palette)});
                  const pen = canvas.getContext("2d"), cell = canvas.height / rows, gap = Math.round(cell / 3);
                  const at = (...place) => Array.from(pen.getImageData(...place, 1, 1).data.slice(0, 3));
                  const each = (count, make) => Array.from({length: count}, (_, place) => make(place));
                  return each(maps, map => each(rows, row => each(columns, column =>
                    at(map * (columns * cell + gap) + (column + 0.5) * cell, (row + 0.5) * cell))));
                }""",
                [codes.flatten().tolist(), list(codes.shape), drawn, wanted.shape[:3]],
            )
            assert found == wanted.tolist(), tokenizer.config

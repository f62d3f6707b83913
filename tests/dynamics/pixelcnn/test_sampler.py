"""Letters: n videos, t slices, S positions of a slice, T steps of a clip."""

import pytest
import torch

from tests.dynamics.pixelcnn.pairs import condition_of, draw_naively, make_prior, randomise
from worldmodel.dynamics.pixelcnn.sampler import RowSampler
from worldmodel.dynamics.sampling import Sampling

CASES = [
    *(("top", 3, {"past": past, "attention_every": every}) for past in ("full", "raster") for every in (0, 1)),
    ("top", 3, {"kernel": 5, "layers": 3}),
    ("bottom", 1, {}),
    ("bottom", 1, {"attention_every": 0, "kernel": 5}),
]


def noise_of(rows: int, slices: int, size: int) -> torch.Tensor:
    return torch.rand(rows, slices, size, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def draw(prior, condition: torch.Tensor, noise: torch.Tensor, options: Sampling) -> torch.Tensor:
    sampler = RowSampler(prior, condition, options)
    return torch.stack([sampler.draw(time, noise[:, time]) for time in range(noise.shape[1])], dim=1)


@pytest.mark.parametrize(("level", "slices", "changes"), CASES, ids=str)
def test_kept_rows_draw_the_codes_of_whole_passes(level, slices, changes):
    prior = make_prior(level, slices, (2, 3), num_codes=16, **changes)
    condition = condition_of(prior, 3, slices) * torch.tensor([1.0, 0.5, 2.0]).view(3, 1, 1, 1, 1)
    noise = noise_of(3, slices, 6)
    for options in (Sampling(), Sampling(temperature=0.7, top_k=5)):
        drawn = draw(prior, condition, noise, options)
        assert torch.equal(drawn, draw_naively(prior, condition, noise, options))
    assert len(drawn.unique()) > 3


@torch.inference_mode()
def test_a_row_of_a_batch_equals_the_row_alone():
    prior = make_prior("top", 2, (2, 3), num_codes=16)
    noise, condition = noise_of(4, 2, 6), torch.randn(4, 12, 2, 2, 3, generator=torch.Generator().manual_seed(1))
    together = draw(prior, condition, noise, Sampling())
    for row in range(4):
        one = slice(row, row + 1)
        assert torch.equal(draw(prior, condition[one], noise[one], Sampling()), together[one])


def test_guidance_draws_the_codes_of_whole_passes_and_is_off_at_one():
    prior = make_prior("top", 2, (2, 3), num_codes=16)
    with_action, without = torch.randn(2, 2, 12, 2, 2, 3, generator=torch.Generator().manual_seed(1))
    noise, both = noise_of(2, 2, 6), torch.cat((with_action, without))
    strong = draw(prior, both, noise, Sampling(guidance=3.0))
    with torch.inference_mode():
        assert torch.equal(strong, draw_naively(prior, both, noise, Sampling(guidance=3.0)))
    plain = draw(prior, with_action, noise, Sampling())
    assert not torch.equal(strong, plain)
    assert torch.equal(draw(prior, both, noise, Sampling(guidance=1.0 + 1e-7)), plain)
    assert torch.equal(draw(prior, both, noise, Sampling(guidance=0.0)), draw(prior, without, noise, Sampling()))


@pytest.mark.slow
def test_a_larger_grid_draws_the_codes_of_whole_passes():
    prior = make_prior("top", 3, (8, 8), num_codes=64, layers=10, width=48, heads=4, attention_every=5)
    randomise(prior)
    condition, noise = condition_of(prior, 2, 3), noise_of(2, 3, 64)
    with torch.inference_mode():
        assert torch.equal(draw(prior, condition, noise, Sampling()), draw_naively(prior, condition, noise, Sampling()))

import math

import pytest
import torch

from worldmodel.dynamics.sampling import Sampling, draw, uniforms


def test_noise_is_uniform_and_uncorrelated():
    noise = uniforms(torch.arange(200), torch.full((200,), 3), 50)
    assert noise.min() >= 0 and noise.max() < 1
    assert noise.mean().item() == pytest.approx(0.5, abs=0.01)
    assert noise.var().item() == pytest.approx(1 / 12, abs=0.003)
    neighbours = torch.corrcoef(torch.stack((noise[:, :-1].flatten(), noise[:, 1:].flatten())))[0, 1]
    rows = torch.corrcoef(torch.stack((noise[:-1].flatten(), noise[1:].flatten())))[0, 1]
    assert abs(neighbours) < 0.03 and abs(rows) < 0.03


def test_noise_depends_only_on_seed_and_counter():
    seeds, counters = torch.tensor([5, 9, 2**40 + 1]), torch.tensor([0, 7, 7])
    together = uniforms(seeds, counters, 8)
    for row in range(3):
        assert torch.equal(uniforms(seeds[row : row + 1], counters[row : row + 1], 8)[0], together[row])
    assert len({tuple(row.tolist()) for row in together}) == 3


def test_codes_are_drawn_with_their_probabilities():
    probabilities = torch.tensor([0.1, 0.0, 0.6, 0.3])
    noise = (torch.arange(1000) + 0.5) / 1000
    drawn = draw(probabilities.log().expand(1000, 4), noise)
    shares = torch.bincount(drawn.codes, minlength=4) / 1000
    assert torch.allclose(shares, probabilities, atol=0.002)


def test_temperature_sharpens_and_zero_takes_the_most_likely():
    logits = torch.tensor([0.0, 1.0]).expand(1000, 2)
    noise = (torch.arange(1000) + 0.5) / 1000
    share = draw(logits, noise, temperature=0.5).codes.float().mean().item()
    assert share == pytest.approx(1 / (1 + math.exp(-2)), abs=0.002)
    assert draw(logits, noise, temperature=0).codes.all()
    with pytest.raises(ValueError, match="temperature"):
        draw(logits, noise, temperature=-1)


def shares_of(probabilities: list[float], **options) -> torch.Tensor:
    """Relative frequency of each code."""
    noise = (torch.arange(1000) + 0.5) / 1000
    drawn = draw(torch.tensor(probabilities).log().expand(1000, -1), noise, **options)
    return torch.bincount(drawn.codes, minlength=len(probabilities)) / 1000


def test_top_k_draws_from_the_k_most_likely_by_their_probabilities():
    p = [0.1, 0.4, 0.2, 0.3]
    assert torch.allclose(shares_of(p, top_k=2), torch.tensor([0, 4 / 7, 0, 3 / 7]), atol=0.002)
    assert torch.equal(shares_of(p, top_k=1), shares_of(p, temperature=0.0))
    assert torch.equal(shares_of(p, top_k=9), shares_of(p))


def test_top_p_draws_from_the_fewest_codes_that_reach_p():
    p = [0.1, 0.4, 0.2, 0.3]
    assert torch.allclose(shares_of(p, top_p=0.6), torch.tensor([0, 4 / 7, 0, 3 / 7]), atol=0.002)
    assert torch.allclose(shares_of(p, top_p=0.75), torch.tensor([0, 4 / 9, 2 / 9, 3 / 9]), atol=0.002)
    for tiny in (0.01, 1e-50):  # the latter is 0 in float32
        assert torch.equal(shares_of(p, top_p=tiny), shares_of(p, temperature=0.0))
    assert torch.allclose(shares_of(p, top_p=1.0), torch.tensor(p), atol=0.002)


def test_top_k_and_top_p_work_at_the_temperature():
    p = [0.1, 0.4, 0.2, 0.3]
    hot = torch.tensor(p).pow(0.5)
    assert torch.allclose(shares_of(p, temperature=2.0, top_k=4), hot / hot.sum(), atol=0.002)
    assert shares_of(p, temperature=0.01, top_p=0.9)[1] == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"temperature": 1e-40},
        {"guidance": math.inf},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
    ],
    ids=str,
)
def test_impossible_options_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Sampling(**bad)


def test_nll_and_entropy_are_those_of_the_model_at_any_temperature():
    logits = torch.tensor([[0.2, 0.3, 0.5]]).log()
    drawn = draw(logits, torch.tensor([0.9]), temperature=0.7)
    assert drawn.codes.item() == 2
    assert drawn.nll.item() == pytest.approx(-math.log(0.5), abs=1e-5)
    assert drawn.entropy.item() == pytest.approx(-sum(p * math.log(p) for p in (0.2, 0.3, 0.5)), abs=1e-5)


def test_an_unlikely_code_drawn_at_high_temperature_has_a_finite_likelihood():
    drawn = draw(torch.tensor([[200.0, 0.0, 0.0, 0.0]]), torch.tensor([0.99]), temperature=100.0)
    assert drawn.codes.item() == 3 and drawn.nll.item() == pytest.approx(200) and drawn.entropy.isfinite()


def test_noise_next_to_one_stays_in_range():
    assert draw(torch.zeros(1, 512), torch.tensor([1 - 2**-24])).codes.item() == 511

import pytest
import torch

from worldmodel.tokenizer import CodebookConfig, SlicedCodebook


def make_codebook(**changes) -> SlicedCodebook:
    torch.manual_seed(0)
    return SlicedCodebook(CodebookConfig(**{"num_codes": 8, "num_slices": 2, "code_dim": 4} | changes))


def train(codebook: SlicedCodebook, batches: torch.Tensor, seed: int) -> SlicedCodebook:
    torch.manual_seed(seed)
    for latents in batches:
        codebook(latents)
    return codebook


def test_each_slice_takes_its_nearest_code():
    codebook = make_codebook()
    latents = torch.randn(5, 8)
    codes = codebook.encode(latents)
    for m, part in enumerate(latents.split(4, dim=-1)):
        assert torch.equal(codes[:, m], torch.cdist(part, codebook.vectors[m]).argmin(-1))


def test_lookup_gives_the_vectors_of_the_codes():
    codebook = make_codebook()
    codes = torch.tensor([[[3, 5]]])
    assert torch.equal(codebook.lookup(codes)[0, 0], torch.cat((codebook.vectors[0, 3], codebook.vectors[1, 5])))


def test_gradients_pass_straight_through():
    codebook = make_codebook().eval()
    latents = torch.randn(3, 8, requires_grad=True)
    quantized = codebook(latents)
    quantized.latents.sum().backward()
    assert torch.equal(latents.grad, torch.ones_like(latents))
    assert torch.allclose(quantized.latents, codebook.lookup(quantized.codes), atol=1e-6)


def test_first_codes_are_latents_of_the_data():
    codebook = make_codebook(decay=0.0, restart_below=0.0)
    latents = torch.randn(16, 8) + 10
    codebook._start(codebook._split(latents))
    for m, part in enumerate(latents.split(4, dim=-1)):
        assert torch.cdist(codebook.vectors[m], part).min(-1).values.max() < 1e-5


def test_moving_averages_by_hand():
    codebook = make_codebook(num_codes=1, num_slices=1, decay=0.9)
    codebook.started.fill_(True)
    codebook.vectors.zero_()
    codebook.sums.zero_()
    codebook.counts.fill_(1.0)
    codebook(torch.full((3, 4), 2.0))
    # counts: 0.9 * 1 + 0.1 * 3 = 1.2; sums: 0.1 * 6 = 0.6
    assert codebook.counts.item() == pytest.approx(1.2)
    assert torch.allclose(codebook.vectors, torch.tensor(0.5))


def test_unused_codes_restart_at_latents_of_the_batch():
    codebook = make_codebook(num_slices=1, decay=0.5)
    codebook.started.fill_(True)
    codebook.vectors[0, 1:] = 1000.0
    latents = torch.randn(32, 4)
    train(codebook, latents.expand(8, -1, -1), seed=0)
    assert codebook.vectors.abs().max() < 10
    assert len(codebook.encode(latents).unique()) > 4


def test_evaluation_changes_nothing():
    codebook = make_codebook().eval()
    before = {name: tensor.clone() for name, tensor in codebook.state_dict().items()}
    codebook(torch.randn(32, 8))
    assert all(torch.equal(before[name], tensor) for name, tensor in codebook.state_dict().items())


def test_resumed_training_equals_unbroken_training():
    early, late = torch.randn(6, 32, 8).chunk(2)
    unbroken = train(train(make_codebook(), early, seed=1), late, seed=2)
    resumed = make_codebook()
    resumed.load_state_dict(train(make_codebook(), early, seed=1).state_dict())
    assert torch.equal(train(resumed, late, seed=2).vectors, unbroken.vectors)


def test_codebook_stays_in_float32_under_autocast():
    codebook = make_codebook()
    with torch.autocast("cpu", torch.bfloat16):
        quantized = codebook(torch.randn(32, 8).to(torch.bfloat16))
    assert quantized.latents.dtype == torch.float32 and codebook.vectors.dtype == torch.float32


@pytest.mark.parametrize("bad", [{"num_codes": 0}, {"decay": 1.0}, {"restart_below": -0.1}])
def test_impossible_sizes_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        CodebookConfig(**bad)


def test_latents_of_another_width_are_refused():
    with pytest.raises(ValueError, match="2 slices x 4 features = 8"):
        make_codebook().encode(torch.randn(3, 7))

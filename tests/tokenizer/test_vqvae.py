import pytest
import torch

from tests.tiny import tiny_config
from worldmodel.tokenizer import VQVAE, VQVAEConfig


def make_vqvae() -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(tiny_config().tokenizer).eval()


def make_frames(seed: int = 0, batch: int = 2, steps: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (batch, steps, 2, 16, 16, 3), generator=generator, dtype=torch.uint8)


def test_codes_and_frames_have_the_documented_shapes():
    vqvae = make_vqvae()
    codes = vqvae.encode(make_frames())
    assert codes.shape == (2, 3, 2, 2, 2) and codes.dtype == torch.int64
    assert vqvae.grid == (2, 2) and vqvae.code_dim == 8
    assert codes.min() >= 0 and codes.max() < vqvae.num_codes
    frames = vqvae.decode(codes)
    assert frames.shape == (2, 3, 2, 16, 16, 3) and frames.dtype == torch.uint8
    assert vqvae.code_vectors(codes).shape == (2, 3, 2, 2, 8)


def test_each_step_is_coded_on_its_own():
    vqvae = make_vqvae()
    frames, others = make_frames(0), make_frames(1)
    mixed = frames.clone()
    mixed[:, 1] = others[:, 1]
    codes, changed = vqvae.encode(frames), vqvae.encode(mixed)
    assert torch.equal(codes[:, [0, 2]], changed[:, [0, 2]])
    assert not torch.equal(codes[:, 1], changed[:, 1])


def test_both_frames_of_a_step_reach_its_latents():
    vqvae = make_vqvae()
    frames = make_frames(batch=1, steps=1)
    x = frames[:, 0].movedim(-1, 1).float() / 255 - 0.5
    for place in (0, 1):
        changed = x.clone()
        changed[:, :, place] += 0.2
        assert not torch.allclose(vqvae._latents(changed), vqvae._latents(x))


def test_encoding_is_the_same_twice():
    vqvae = make_vqvae()
    assert torch.equal(vqvae.encode(make_frames()), vqvae.encode(make_frames()))


def test_a_batch_codes_like_its_rows():
    vqvae = make_vqvae()
    frames = make_frames()
    assert torch.equal(vqvae.encode(frames)[1:], vqvae.encode(frames[1:]))


def test_encoder_and_decoder_share_one_position_table():
    vqvae = make_vqvae()
    assert sum("tables" in name for name, _ in vqvae.named_parameters()) == 2  # height and width, once


def test_loss_falls_on_one_batch():
    vqvae = make_vqvae().train()
    optimizer = torch.optim.Adam(vqvae.parameters(), lr=1e-2)
    flat = torch.arange(0, 240, 40, dtype=torch.uint8).view(2, 3, 1, 1, 1, 1).expand(2, 3, 2, 16, 16, 3)
    losses = []
    for _ in range(80):
        loss = vqvae.loss(flat)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss.nmse.item())
    assert min(losses[-10:]) < 0.5 * losses[0]


def test_nmse_is_the_error_over_the_variance_of_the_data():
    vqvae = make_vqvae()
    frames = make_frames()
    error = (frames.float() - vqvae.decode(vqvae.encode(frames)).float()).div(255).square().mean()
    assert torch.isclose(vqvae.loss(frames).nmse, error / vqvae.config.data_variance, rtol=0.01)


def test_frames_of_another_size_are_refused():
    with pytest.raises(ValueError, match="16"):
        make_vqvae().encode(torch.zeros(1, 1, 2, 32, 32, 3, dtype=torch.uint8))


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="divisible by 16"):
        VQVAEConfig(height=60)

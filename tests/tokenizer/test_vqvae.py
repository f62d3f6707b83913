from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_config
from tests.tokenizer.fitting import check_that_one_batch_is_fitted
from worldmodel.shapes import frames_to_model
from worldmodel.tokenizer import VQVAE, CodebookConfig, VQVAEConfig
from worldmodel.tokenizer.files import load_tokenizer, save_tokenizer

MODES = ["step", "causal", "clip"]


def make_vqvae() -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(tiny_config().tokenizer).eval()


def make_mode(temporal: str, **changes) -> VQVAE:
    """16 x 16 frames as 4 x 4 positions; clips of 3 steps."""
    settings = {
        "height": 16,
        "width": 16,
        "temporal": temporal,
        "clip_steps": 3,
        "stage_widths": (8, 12),
        "residual_units": 8,
        "residual_layers": 1,
        "codebook": CodebookConfig(num_codes=16, num_slices=2, code_dim=4),
    }
    torch.manual_seed(0)
    vqvae = VQVAE(VQVAEConfig(**settings | changes)).eval()
    for parameter in vqvae.parameters():  # far from zero, so that every influence is visible
        if parameter.ndim > 1:
            parameter.data.mul_(2)
    return vqvae


def make_input(vqvae: VQVAE, seed: int = 0, steps: int = 3) -> torch.Tensor:
    """(2, C, T*F, H, W) in [-0.5, 0.5]."""
    return frames_to_model(make_frames(seed, steps=steps, frames=vqvae.frames_per_step).flatten(1, 2))


def make_frames(seed: int = 0, batch: int = 2, steps: int = 3, frames: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (batch, steps, frames, 16, 16, 3), generator=generator, dtype=torch.uint8)


def test_codes_and_frames_have_the_documented_shapes():
    vqvae = make_vqvae()
    codes = vqvae.encode(make_frames())
    assert codes.shape == (2, 3, 2, 2, 2) and codes.dtype == torch.int64
    assert vqvae.grid == (2, 2) and vqvae.code_dim == 8
    assert codes.min() >= 0 and codes.max() < vqvae.num_codes
    frames = vqvae.decode(codes)
    assert frames.shape == (2, 3, 2, 16, 16, 3) and frames.dtype == torch.uint8
    assert vqvae.lookup(codes).shape == (2, 3, 2, 2, 8)


@pytest.mark.parametrize("temporal", MODES)
def test_a_patch_of_latents_is_one_token_whose_slices_are_their_codes(temporal):
    codebook = CodebookConfig(num_codes=16, num_slices=2, code_dim=4)
    fine, folded = (make_mode(temporal, patch=patch, codebook=codebook) for patch in (1, 2))
    frames = make_frames()
    codes, tokens = fine.encode(frames), folded.encode(frames)
    assert tokens.shape == (2, 3, 2, 2, 8) and folded.grid == (2, 2) and folded.code_dim == 32
    for row, column in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        slices = slice(4 * row + 2 * column, 4 * row + 2 * column + 2)
        assert torch.equal(tokens[..., slices], codes[:, :, row::2, column::2])
    assert torch.equal(folded.decode(tokens), fine.decode(codes))
    vectors = fine.lookup(codes)[:, :, 0::2, 1::2]
    assert torch.equal(folded.lookup(tokens)[..., 8:16], vectors)
    assert torch.equal(folded.loss(frames).codes, tokens)
    maps = folded.code_maps(tokens)
    assert list(maps) == ["slice 0", "slice 1"] and torch.equal(maps["slice 1"], codes[..., 1].unsqueeze(2))


def test_a_patch_must_divide_the_grid_of_latents():
    with pytest.raises(ValueError, match=r"patch must divide the grid of latents \(4, 4\), got 3"):
        make_mode("step", patch=3)


def test_each_step_is_encoded_on_its_own():
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


@pytest.mark.parametrize(("layers", "local"), [(0, True), (1, False), (None, False)])
def test_an_encoder_without_blocks_has_a_small_receptive_field(layers, local):
    vqvae = make_mode("step", encoder_layers=layers)
    assert len(vqvae.decoder.blocks) == 1 and len(vqvae.encoder.blocks) == (0 if local else 1)
    x = make_input(vqvae)
    other = x.clone()
    other[..., :2] = -other[..., :2]  # the columns on the left
    with torch.inference_mode():
        one, two = vqvae._latents(x), vqvae._latents(other)
    assert not torch.equal(one[..., 0, :], two[..., 0, :])
    assert torch.equal(one[..., 3, :], two[..., 3, :]) == local  # the positions on the right


@pytest.mark.parametrize("field", ["residual_layers", "encoder_layers"])
def test_negative_numbers_of_blocks_are_refused(field):
    with pytest.raises(ValueError, match=f"{field} must be at least 0"):
        VQVAEConfig(**{field: -1})


def test_encoding_is_deterministic():
    vqvae = make_vqvae()
    assert torch.equal(vqvae.encode(make_frames()), vqvae.encode(make_frames()))


def test_a_batch_is_encoded_like_its_rows():
    vqvae = make_vqvae()
    frames = make_frames()
    assert torch.equal(vqvae.encode(frames)[1:], vqvae.encode(frames[1:]))


def test_encoder_and_decoder_share_one_position_table():
    vqvae = make_vqvae()
    assert sum("tables" in name for name, _ in vqvae.named_parameters()) == 2  # height and width, once


@pytest.mark.parametrize("temporal", MODES)
def test_loss_falls_on_one_batch(temporal):
    check_that_one_batch_is_fitted(make_mode(temporal), (2, 16, 16, 3), (2, 3, 4, 4, 2), steps=35)


def test_nmse_is_the_error_over_the_variance_of_the_data():
    vqvae = make_vqvae()
    frames = make_frames()
    error = (frames.float() - vqvae.decode(vqvae.encode(frames)).float()).div(255).square().mean()
    assert torch.isclose(vqvae.loss(frames).nmse, error / vqvae.config.data_variance, rtol=0.01)


@pytest.mark.parametrize("temporal", MODES)
def test_the_loss_without_weights_is_the_mean_squared_error_bit_for_bit(temporal):
    vqvae, frames = make_mode(temporal), make_frames()
    gradients = []
    for own in (True, False):
        vqvae.zero_grad()
        if own:
            nmse = vqvae.loss(frames).nmse
        else:
            x = vqvae._inputs(frames)
            seen = vqvae._pixels(vqvae.codebook(vqvae._latents(x)).latents)
            nmse = torch.nn.functional.mse_loss(seen, x) / vqvae.config.data_variance
        nmse.backward()
        gradients.append([nmse.detach(), *(p.grad.clone() for p in vqvae.parameters() if p.grad is not None)])
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))


@pytest.mark.parametrize("temporal", MODES)
def test_pixel_errors_are_weighted(temporal):
    vqvae, frames = make_mode(temporal), make_frames()
    plain, ones = vqvae.loss(frames), vqvae.loss(frames, torch.ones(frames.shape[:-1]))
    assert torch.allclose(plain.nmse, ones.nmse) and torch.equal(plain.codes, ones.codes)
    x = vqvae._inputs(frames)
    seen = vqvae._pixels(vqvae.codebook(vqvae._latents(x)).latents).detach()
    errors = vqvae._to_pieces((seen - x).square().movedim(1, -1).mean(-1).reshape(frames.shape[:-1]))
    weights = torch.zeros(frames.shape[:-1])
    weights[1, 2, 0, 5, 7] = 10.0
    wanted = 10.0 * errors.reshape(weights.shape)[1, 2, 0, 5, 7] / weights.numel() / vqvae.config.data_variance
    loss = vqvae.loss(frames, weights)
    assert torch.isclose(loss.nmse, wanted, rtol=1e-4)
    assert torch.isclose(loss.total - loss.nmse, plain.total - plain.nmse)


def test_frames_of_another_size_are_refused():
    with pytest.raises(ValueError, match="16"):
        make_vqvae().encode(torch.zeros(1, 1, 2, 32, 32, 3, dtype=torch.uint8))


@pytest.mark.parametrize("temporal", MODES)
def test_every_mode_gives_codes_and_frames_of_each_step(temporal):
    vqvae = make_mode(temporal)
    codes = vqvae.encode(make_frames())
    assert codes.shape == (2, 3, 4, 4, 2) and codes.dtype == torch.int64
    frames = vqvae.decode(codes)
    assert frames.shape == (2, 3, 2, 16, 16, 3) and frames.dtype == torch.uint8


@pytest.mark.parametrize("temporal", MODES)
@pytest.mark.parametrize("changes", [{}, {"norm": "batch"}, {"attention": False}, {"from_code_kernel": 1}])
def test_a_saved_tokenizer_loads_the_same(tmp_path, temporal, changes):
    vqvae = make_mode(temporal, **changes).train()
    vqvae.loss(make_frames())  # moves the codebook and the batch statistics
    save_tokenizer(tmp_path / "saved", vqvae.eval())
    loaded = load_tokenizer(tmp_path / "saved")
    assert loaded.config == vqvae.config
    assert torch.equal(loaded.encode(make_frames()), vqvae.encode(make_frames()))
    assert torch.equal(loaded.decode(loaded.encode(make_frames())), vqvae.decode(vqvae.encode(make_frames())))


def test_every_code_and_frame_of_a_clip_depends_on_all_of_it():
    vqvae = make_mode("clip")
    x, other = make_input(vqvae), make_input(vqvae, seed=1)
    latents = vqvae._latents(x)
    for place in range(6):
        changed = x.clone()
        changed[:, :, place] = other[:, :, place]
        assert not torch.isclose(vqvae._latents(changed), latents, atol=1e-5).all((0, 2, 3, 4)).any()
    pixels = vqvae._pixels(latents)
    for step in range(3):
        changed = latents.clone()
        changed[:, step] += 1
        assert not torch.isclose(vqvae._pixels(changed), pixels, atol=1e-5).all((0, 1, 3, 4)).any()


def test_a_clip_encodes_time_by_its_positions():
    """With identical frames, the latents of middle steps differ only by their positions."""
    vqvae = make_mode("clip", clip_steps=7, residual_layers=0)
    assert len(vqvae.position.tables) == 3 and vqvae.position.shape == (7, 4, 4)
    vqvae = make_mode("clip", clip_steps=15)
    x = make_input(vqvae, steps=1)[:, :, :1].expand(-1, -1, 30, -1, -1)
    latents = vqvae._latents(x)
    assert not torch.allclose(latents[:, 6], latents[:, 8], atol=1e-5)
    vqvae.position.tables[0].data.zero_()
    latents = vqvae._latents(x)
    assert torch.allclose(latents[:, 6], latents[:, 8], atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_clip_of_another_length_is_refused(steps):
    vqvae = make_mode("clip")
    with pytest.raises(ValueError, match=f"a clip has 3 steps, got {steps}"):
        vqvae.encode(make_frames(steps=steps))
    with pytest.raises(ValueError, match=f"a clip has 3 steps, got {steps}"):
        vqvae.decode(torch.zeros(1, steps, 4, 4, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=f"a clip has 3 steps, got {steps}"):
        vqvae.loss(make_frames(steps=steps))


FORMS = [
    {},
    {"frames_per_step": 1},
    {"frames_per_step": 4},
    {"norm": "batch"},
    {"attention": False},
    {"space_stride": (4, 2)},
]


@pytest.mark.parametrize("temporal", ["step", "causal"])
@pytest.mark.parametrize("changes", FORMS)
def test_a_later_step_does_not_change_earlier_ones(temporal, changes):
    vqvae = make_mode(temporal, **changes)
    frames, others = (make_frames(seed, steps=5, frames=vqvae.frames_per_step) for seed in range(2))
    changed = torch.cat((frames[:, :3], others[:, 3:]), dim=1)
    codes, others = vqvae.encode(frames), vqvae.encode(changed)
    assert torch.equal(codes[:, :3], others[:, :3]) and not torch.equal(codes[:, 3], others[:, 3])
    seen, others = vqvae.decode(codes), vqvae.decode(others)
    assert torch.equal(seen[:, :3], others[:, :3]) and not torch.equal(seen[:, 3], others[:, 3])


def test_causal_codes_and_frames_depend_on_the_step_before():
    vqvae = make_mode("causal")
    x = make_input(vqvae)
    changed = x.clone()
    changed[:, :, 1] = make_input(vqvae, seed=1)[:, :, 1]  # the last frame of the first step
    latents = vqvae._latents(x)
    assert not torch.allclose(vqvae._latents(changed)[:, 1], latents[:, 1], atol=1e-4)
    later = latents.clone()
    later[:, 0] += 1
    assert not torch.allclose(vqvae._pixels(later)[:, :, 2:4], vqvae._pixels(latents)[:, :, 2:4], atol=1e-4)


def test_batch_norm_learns_in_training_only():
    vqvae = make_mode("clip", norm="batch")
    assert not any(isinstance(module, torch.nn.LayerNorm) for module in vqvae.modules())
    before = vqvae.encoder.norm.running_mean.clone()
    vqvae.loss(make_frames())
    assert torch.equal(vqvae.encoder.norm.running_mean, before)
    vqvae.train().loss(make_frames())
    assert not torch.equal(vqvae.encoder.norm.running_mean, before)


def test_axes_are_halved_in_the_first_stages():
    paper = make_mode("clip").config
    assert paper.strides == [(2, 2, 2), (1, 2, 2)]
    assert replace(paper, frames_per_step=4, space_stride=(2, 2)).strides == [(2, 2, 2), (2, 1, 1)]
    assert replace(paper, temporal="step", frames_per_step=3).strides == [(3, 2, 2), (1, 2, 2)]


def test_the_decoder_of_a_clip_doubles_axes_in_its_first_stages_too():
    assert [conv.stride for conv in make_mode("clip").up] == [(2, 2, 2), (1, 2, 2)]
    assert [conv.stride for conv in make_mode("causal").up] == [(1, 2, 2), (2, 2, 2)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"frames_per_step": 3}, "powers of two, got time .* 3"),
        ({"space_stride": (4, 3)}, "powers of two, got width 3"),
        ({"space_stride": (4, 8)}, "one entry per halving, 3"),
        ({"frames_per_step": 8}, "one entry per halving, 3"),
        ({"space_stride": (2, 2)}, "one entry per halving, 1"),
        ({"stage_widths": ()}, "one entry per halving"),
        ({"clip_steps": 0}, "at least 1"),
        ({"stage_widths": (8, 16)}, "divisible by 3, the number of axes"),
    ],
)
def test_impossible_clips_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        make_mode("clip", **bad)


def test_codes_of_another_grid_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 4, 2\)"):
        make_mode("clip").decode(torch.zeros(1, 3, 4, 2, 2, dtype=torch.int64))


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="divisible by 16"):
        VQVAEConfig(height=60)

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from tests.tokenizer.fitting import check_that_one_batch_is_fitted
from worldmodel.tokenizer import CodebookConfig, HierarchicalVQVAE, HierarchicalVQVAEConfig, preset
from worldmodel.tokenizer.hierarchical import join_levels, split_levels


def make_config(**changes) -> HierarchicalVQVAEConfig:
    """Clips of three steps of 16 x 24 frames, so 2 x 3 top and 4 x 6 bottom positions."""
    settings = {
        "height": 16,
        "width": 24,
        "clip_steps": 3,
        "stage_widths": (4, 6),
        "residual_units": 4,
        "residual_blocks": 1,
        "codebook": CodebookConfig(num_codes=64, num_slices=1, code_dim=5),
    }
    return HierarchicalVQVAEConfig(**settings | changes)


def make_net(**changes) -> HierarchicalVQVAE:
    torch.manual_seed(0)
    net = HierarchicalVQVAE(make_config(**changes)).eval()
    for parameter in net.parameters():  # far from zero, so that every influence is visible
        if parameter.ndim > 1:
            parameter.data.mul_(2)
    return net


def make_frames(seed: int = 0, batch: int = 2, steps: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (batch, steps, 4, 16, 24, 3), generator=generator, dtype=torch.uint8)


def test_the_papers_clip_has_4x32x32_top_and_8x64x64_bottom_codes():
    config = replace(preset("pixelcnn-paper"), stage_widths=(1, 1), residual_blocks=0)  # its shapes, in less time
    codes = HierarchicalVQVAE(config).encode(torch.zeros(1, 4, 4, 256, 256, 3, dtype=torch.uint8))
    assert codes.shape == (1, 4, 32, 32, 9) == (1, config.clip_steps, *config.grid, config.num_slices)
    top, bottom = split_levels(codes)
    assert top.shape == (1, 4, 32, 32) and bottom.shape == (1, 8, 64, 64)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_any_number_of_steps_is_encoded(steps):
    net = make_net()
    codes = net.encode(make_frames(steps=steps))
    assert codes.shape == (2, steps, 2, 3, 9) and codes.dtype == torch.int64
    assert codes.min() >= 0 and codes.max() < net.num_codes
    frames = net.decode(codes)
    assert frames.shape == (2, steps, 4, 16, 24, 3) and frames.dtype == torch.uint8
    assert net.grid == (2, 3) and net.num_slices == 9 and net.code_dim == 45


def test_a_token_holds_its_top_code_and_the_eight_bottom_codes_below_it():
    top = torch.arange(2 * 2 * 3).view(1, 2, 2, 3)
    bottom = torch.arange(4 * 4 * 6).view(1, 4, 4, 6)
    codes = join_levels(top, bottom)
    below = bottom[0, 2:4, 0:2, 4:6].flatten()  # step 1, row 0, column 2
    assert codes[0, 1, 0, 2].tolist() == [int(top[0, 1, 0, 2]), *below.tolist()]
    assert all(torch.equal(*pair) for pair in zip(split_levels(codes), (top, bottom), strict=True))


def test_maps_of_codes_are_the_two_levels():
    top, bottom = torch.arange(2 * 2 * 3).view(1, 2, 2, 3), torch.arange(4 * 4 * 6).view(1, 4, 4, 6)
    maps = make_net().code_maps(join_levels(top, bottom))
    assert torch.equal(maps["top"][:, :, 0], top) and torch.equal(maps["bottom"].flatten(1, 2), bottom)


def test_lookup_gives_the_vectors_of_both_levels():
    net = make_net()
    codes = torch.tensor([[3, 1, 2, 3, 4, 5, 6, 7, 8]])
    top, bottom = net.top_codebook.vectors[0], net.bottom_codebook.vectors[0]
    assert torch.equal(net.lookup(codes), torch.cat((top[3], bottom[1:9].flatten()))[None])


def test_the_given_steps_codes_do_not_depend_on_later_frames():
    net, frames = make_net(), make_frames()
    changed = torch.cat((frames[:, :1], make_frames(seed=1)[:, 1:]), dim=1)
    codes, others = net.encode_given(frames), net.encode_given(changed)
    assert torch.equal(codes[:, 0], others[:, 0]) and not torch.equal(codes[:, 1:], others[:, 1:])
    assert torch.equal(codes[:, :1], net.encode(frames[:, :1]))
    assert torch.equal(codes[:, 1:], net.encode(frames)[:, 1:])


def test_a_changed_frame_moves_codes_before_it():
    """The network is not causal: codes of a whole clip would reveal frames that are to be predicted."""
    net, frames = make_net(), make_frames()
    changed = frames.clone()
    changed[:, 1, 0] = make_frames(seed=1)[:, 1, 0]
    codes, others = net.encode(frames), net.encode(changed)
    for level in (codes[:, 0, ..., :1] != others[:, 0, ..., :1], codes[:, 0, ..., 1:] != others[:, 0, ..., 1:]):
        assert level.any()


def test_the_bottom_level_is_quantised_given_the_top():
    net = make_net()
    features = net._features(torch.zeros(1, 3, 12, 16, 24))
    top = net.top_codebook.lookup(torch.zeros(1, 3, 2, 3, 1, dtype=torch.int64))
    others = net.top_codebook.lookup(torch.ones(1, 3, 2, 3, 1, dtype=torch.int64))
    assert not torch.allclose(net._bottom_latents(top, features), net._bottom_latents(others, features))


def test_both_levels_reach_every_part_of_the_picture():
    net = make_net()
    top, bottom = torch.randn(1, 3, 2, 3, 5, requires_grad=True), torch.randn(1, 6, 4, 6, 5, requires_grad=True)
    net._pixels(top, bottom).square().sum().backward()
    assert all(vectors.grad.abs().sum(-1).gt(0).all() for vectors in (top, bottom))
    x = torch.zeros(1, 3, 12, 16, 24, requires_grad=True)
    net._top_latents(net._features(x)).square().sum().backward()
    assert x.grad.abs().sum(1).gt(0).all()


def test_the_top_alone_ignores_bottom_codes():
    net = make_net()
    codes = net.encode(make_frames())
    others = codes.clone()
    others[..., 1:] = (others[..., 1:] + 1) % 64
    assert torch.equal(net.decode_top(codes), net.decode_top(others))
    assert not torch.equal(net.decode(codes), net.decode(others))
    others[..., 0] = (others[..., 0] + 1) % 64
    assert not torch.equal(net.decode_top(codes), net.decode_top(others))
    net.bottom_codebook.vectors.zero_()
    assert torch.equal(net.decode_top(codes), net.decode(codes))


def test_a_batch_is_encoded_like_its_rows():
    net, frames = make_net(), make_frames()
    codes = net.encode(frames)
    assert torch.equal(codes[1:], net.encode(frames[1:]))
    assert torch.equal(net.decode(codes)[1:], net.decode(codes[1:]))


def test_training_on_one_batch_reduces_the_loss():
    check_that_one_batch_is_fitted(make_net(), (4, 16, 24, 3), (2, 3, 2, 3, 9), steps=40)


def test_the_loss_is_the_normalised_error_and_both_commitments():
    net, frames = make_net(commitment=0.5), make_frames()
    loss = net.loss(frames)
    error = (frames.float() - net.decode(net.encode(frames)).float()).div(255).square().mean()
    assert torch.isclose(loss.nmse, error / net.config.data_variance, rtol=0.01)
    top, bottom = net._quantise(net._inputs(frames))
    assert torch.isclose(loss.commitment, top.commitment + bottom.commitment)
    assert torch.isclose(loss.total, loss.nmse + 0.5 * loss.commitment)
    assert torch.equal(loss.codes, net.encode(frames))


def test_pixel_errors_are_weighted():
    net, frames = make_net(), make_frames()
    ones = torch.ones(frames.shape[:-1])
    assert torch.allclose(net.loss(frames).nmse, net.loss(frames, ones).nmse)
    one_row = torch.zeros_like(ones)
    one_row[1] = 2.0
    assert torch.isclose(net.loss(frames, one_row).nmse, net.loss(frames[1:]).nmse, rtol=1e-4)
    assert not torch.isclose(net.loss(frames, one_row).nmse, net.loss(frames).nmse, rtol=1e-4)


def test_training_moves_both_codebooks_and_evaluation_neither():
    net, frames = make_net(), make_frames()
    before = [book.vectors.clone() for book in (net.top_codebook, net.bottom_codebook)]
    net.loss(frames)
    net.train().encode(frames)
    assert torch.equal(net.top_codebook.vectors, before[0]) and torch.equal(net.bottom_codebook.vectors, before[1])
    net.loss(frames)
    assert not torch.equal(net.top_codebook.vectors, before[0])
    assert not torch.equal(net.bottom_codebook.vectors, before[1])


def saved_bytes_and_gradients(checkpointing: bool) -> tuple[int, list[torch.Tensor]]:
    """What the backward pass keeps of a training step outside recomputed parts, and the step's gradients."""
    codebook = CodebookConfig(num_codes=4, num_slices=1, code_dim=4)
    changes = {"stage_widths": (64, 64), "residual_blocks": 4, "codebook": codebook}
    net = make_net(checkpointing=checkpointing, **changes).train()
    own = {parameter.data_ptr() for parameter in net.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = net.loss(make_frames())
        total = sum(kept.values())
    loss.total.backward()
    return total, [parameter.grad for parameter in net.parameters()]


def test_checkpointing_keeps_fewer_activations_and_the_same_gradients():
    (much, wanted), (little, found) = saved_bytes_and_gradients(False), saved_bytes_and_gradients(True)
    assert all(torch.allclose(one, two, rtol=1e-4, atol=1e-6) for one, two in zip(wanted, found, strict=True))
    assert little < 0.5 * much


MEMORY = """
import resource, sys, torch
from dataclasses import replace
from worldmodel.tokenizer import build, preset
torch.set_num_threads(1)
train = sys.argv[1] == "train"
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
before = peak()
net = build(replace(preset("pixelcnn-paper"), checkpointing=train)).train(train)
frames = torch.randint(256, (1, 4, 4, 256, 256, 3), dtype=torch.uint8)
if train:
    net.loss(frames).total.backward()
else:
    with torch.inference_mode():
        net.decode(net.encode(frames))
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("work", "gigabytes"), [("encode and decode", 1.0), ("train", 3.0)])
def test_a_clip_of_the_papers_size_fits_in_memory(work, gigabytes):
    done = subprocess.run([sys.executable, "-c", MEMORY, work], capture_output=True, text=True, check=True)
    assert 0 < float(done.stdout) <= gigabytes


def test_hidden_weights_are_those_between_hidden_layers():
    net = make_net()
    hidden = {id(weight) for weight in net.hidden_weights()}
    others = [name for name, weight in net.named_parameters() if weight.ndim > 1 and id(weight) not in hidden]
    assert others == ["bottom_encoder.0.weight", "to_top.weight", "to_bottom.weight"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"height": 20}, "height must be divisible by 8, its stride, got 20"),
        ({"width": 28}, "width must be divisible by 8, its stride, got 28"),
        ({"codebook": CodebookConfig(num_slices=2)}, "num_slices must be 1, got 2"),
        ({"stage_widths": (8, 8, 8)}, "stage_widths .*2 items"),
        ({"data_mean": (0.5,)}, "3 entries, one per channel"),
        ({"clip_steps": 0}, "clip_steps must be at least 1"),
    ],
)
def test_impossible_sizes_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        replace(make_config(), **bad)


def test_frames_and_codes_of_another_shape_are_refused():
    net = make_net()
    with pytest.raises(ValueError, match=r", 4, 16, 24, 3\).*got \(2, 3, 2, 16, 24, 3\)"):
        net.encode(make_frames()[:, :, :2])
    with pytest.raises(ValueError, match=r"\(2, 3, 9\)"):
        net.decode(torch.zeros(1, 3, 2, 3, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"\(B, T, h, w, M\)"):
        net.decode_top(torch.zeros(3, 2, 3, 9, dtype=torch.int64))

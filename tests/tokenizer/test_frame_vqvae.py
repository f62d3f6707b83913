from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.tokenizer.fitting import check_that_one_batch_is_fitted
from worldmodel.tokenizer import CodebookConfig, FrameVQVAE, FrameVQVAEConfig, preset


def make_net(frames_per_step: int = 2, **changes) -> FrameVQVAE:
    """16 x 16 frames as 4 x 4 positions of two codebooks."""
    settings = {
        "height": 16,
        "width": 16,
        "frames_per_step": frames_per_step,
        "stage_widths": (6, 8),
        "residual_units": 4,
        "codebook": CodebookConfig(num_codes=16, num_slices=2, code_dim=4),
    }
    torch.manual_seed(0)
    net = FrameVQVAE(FrameVQVAEConfig(**settings | changes)).eval()
    for parameter in net.parameters():  # far from zero, so that every influence is visible
        if parameter.ndim > 1:
            parameter.data.mul_(2)
    return net


def make_frames(seed: int = 0, batch: int = 2, steps: int = 3, frames: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (batch, steps, frames, 16, 16, 3), generator=generator, dtype=torch.uint8)


def weights(config: FrameVQVAEConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in FrameVQVAE(config).parameters())


def test_the_papers_networks_have_their_sizes():
    assert weights(preset("lvt-paper")) == weights(preset("lvt-paper-n1")) == 3_553_795
    assert weights(replace(preset("lvt-paper"), residual_blocks=4)) == 4_866_051


@pytest.mark.parametrize("name", ["lvt-paper", "lvt-paper-n1"])
def test_the_papers_codebooks_are_as_large_for_every_number_of_slices(name):
    with torch.device("meta"):
        assert FrameVQVAE(preset(name)).codebook.vectors.numel() == 131_072


def test_codes_and_frames_have_the_documented_shapes():
    net = make_net()
    codes = net.encode(make_frames())
    assert codes.shape == (2, 3, 4, 4, 4) and codes.dtype == torch.int64
    assert net.grid == (4, 4) and net.num_slices == 4 and net.code_dim == 16 and net.num_codes == 16
    assert codes.min() >= 0 and codes.max() < net.num_codes
    frames = net.decode(codes)
    assert frames.shape == (2, 3, 2, 16, 16, 3) and frames.dtype == torch.uint8
    assert net.lookup(codes).shape == (2, 3, 4, 4, 16)


def test_maps_of_codes_have_a_picture_for_each_frame():
    net = make_net()
    codes = net.encode(make_frames())
    maps = net.code_maps(codes)
    assert list(maps) == ["slice 0", "slice 1"] and maps["slice 1"].shape == (2, 3, 2, 4, 4)
    assert torch.equal(maps["slice 1"][:, :, 0], codes[..., 1]) and torch.equal(maps["slice 1"][:, :, 1], codes[..., 3])


def test_a_changed_frame_changes_only_its_own_codes():
    net, frames = make_net(), make_frames()
    changed = frames.clone()
    changed[1, 1, 0] = make_frames(seed=1)[1, 1, 0]
    codes, others = net.encode(frames), net.encode(changed)
    same = torch.ones_like(codes, dtype=torch.bool)
    same[1, 1, ..., :2] = False  # the slices of the step's first frame
    assert torch.equal(codes[same], others[same]) and not torch.equal(codes, others)


def test_changed_codes_change_only_the_pixels_of_their_frame():
    net = make_net()
    codes = net.encode(make_frames())
    changed = codes.clone()
    changed[1, 1, ..., 2:] = (changed[1, 1, ..., 2:] + 1) % 16  # of the step's second frame
    frames, others = net.decode(codes), net.decode(changed)
    same = torch.ones_like(frames, dtype=torch.bool)
    same[1, 1, 1] = False
    assert torch.equal(frames[same], others[same]) and not torch.equal(frames, others)


def test_codes_of_two_frames_are_two_codes_of_one_frame_side_by_side():
    two, one = make_net(2), make_net(1)
    one.load_state_dict(two.state_dict())
    frames = make_frames()
    single = frames.unflatten(2, (2, 1)).flatten(1, 2)  # (B, 2T, 1, H, W, C)
    codes, singles = two.encode(frames), one.encode(single)
    assert torch.equal(codes[..., :2], singles[:, 0::2]) and torch.equal(codes[..., 2:], singles[:, 1::2])
    assert torch.equal(two.lookup(codes)[..., 8:], one.lookup(singles[:, 1::2]))
    assert torch.equal(two.decode(codes), one.decode(singles).flatten(1, 2).unflatten(1, (-1, 2)))


def plain_stack(x: torch.Tensor, stack: torch.nn.Sequential) -> torch.Tensor:
    """A 3 x 3 convolution and x + [ReLU, 3 x 3, ReLU, 1 x 1], in two dimensions."""
    x = F.conv2d(x, stack[0].weight.squeeze(2), stack[0].bias, padding=1)
    for block in stack[1:]:
        y = F.conv2d(x.relu(), block.conv.weight.squeeze(2), block.conv.bias, padding=1)
        x = x + F.conv2d(y.relu(), block.conv1.weight.squeeze(2), block.conv1.bias)
    return x


def test_the_network_is_that_of_the_paper_in_two_dimensions():
    net = make_net(1, data_mean=(0.2, 0.3, 0.4), data_variance=0.04)
    x = torch.rand(2, 3, 16, 16) - 0.5
    mean = torch.tensor((0.2, 0.3, 0.4)).view(3, 1, 1) - 0.5
    y = (x - mean) / 0.2
    for conv in net.down:
        y = F.conv2d(y, conv.weight.squeeze(2), conv.bias, stride=2, padding=1).relu()
    latents = plain_stack(y, net.encoder).movedim(1, -1)
    torch.testing.assert_close(net._latents(x.unsqueeze(2)), latents, rtol=1e-4, atol=1e-4)
    y = plain_stack(latents.movedim(-1, 1), net.decoder)
    for conv in net.up:
        y = F.conv_transpose2d(y.relu(), conv.weight.squeeze(2), conv.bias, stride=2, padding=1)
    torch.testing.assert_close(net._pixels(latents).squeeze(2), mean + 0.2 * y, rtol=1e-4, atol=1e-4)


def test_a_batch_is_encoded_like_its_rows():
    net, frames = make_net(), make_frames()
    codes = net.encode(frames)
    assert torch.equal(codes[1:], net.encode(frames[1:])) and torch.equal(codes[:, 1:2], net.encode(frames[:, 1:2]))
    assert torch.equal(net.decode(codes)[1:], net.decode(codes[1:]))


@pytest.mark.parametrize(("rows", "steps"), [(0, 3), (2, 0)])
def test_no_rows_and_no_steps_have_no_codes_and_no_frames(rows, steps):
    net = make_net().eval()
    frames = make_frames(batch=1)[:, :1].expand(rows, steps, -1, -1, -1, -1)
    codes = net.encode(frames)
    assert codes.shape == (rows, steps, *net.grid, net.num_slices)
    assert net.decode(codes).shape == frames.shape


def test_every_pixel_of_a_frame_lies_under_some_code_and_every_code_under_some_pixel():
    """The grid covers the frame: no stride or padding loses a border."""
    net = make_net(1, residual_blocks=0)
    x = torch.zeros(1, 3, 1, 16, 16, requires_grad=True)
    net._latents(x).square().sum().backward()
    assert x.grad.abs().sum(1).gt(0).all()
    latents = torch.randn(1, 4, 4, 8, requires_grad=True)
    net._pixels(latents).square().sum().backward()
    assert latents.grad.abs().sum(-1).gt(0).all()


def test_training_on_one_batch_reduces_the_loss():
    check_that_one_batch_is_fitted(make_net(), (2, 16, 16, 3), (2, 3, 4, 4, 4), steps=40)


def test_the_loss_is_the_normalised_error_and_the_weighted_commitment():
    net, frames = make_net(commitment=0.5), make_frames()
    loss = net.loss(frames)
    error = (frames.float() - net.decode(net.encode(frames)).float()).div(255).square().mean()
    assert torch.isclose(loss.nmse, error / net.config.data_variance, rtol=0.01)
    assert torch.isclose(loss.total, loss.nmse + 0.5 * loss.commitment)
    assert torch.equal(loss.codes, net.encode(frames))


def test_pixel_errors_are_weighted():
    net, frames = make_net(), make_frames()
    ones = torch.ones(frames.shape[:-1])
    assert torch.allclose(net.loss(frames).nmse, net.loss(frames, ones).nmse)
    one_frame = torch.zeros_like(ones)
    one_frame[1, 2, 1] = 12.0  # the mean weight of twelve frames is 1
    part = net.loss(frames[1:, 2:])  # of two frames
    first = torch.zeros(1, 1, 2, 16, 16)
    first[:, :, 1] = 2.0
    assert torch.isclose(net.loss(frames, one_frame).nmse, net.loss(frames[1:, 2:], first).nmse, rtol=1e-4)
    assert not torch.isclose(net.loss(frames, one_frame).nmse, part.nmse, rtol=1e-4)


def test_training_moves_the_codebooks_and_evaluation_does_not():
    net, frames = make_net(), make_frames()
    before = net.codebook.vectors.clone()
    net.loss(frames)
    net.train().encode(frames)
    assert torch.equal(net.codebook.vectors, before)
    net.loss(frames)
    assert not torch.equal(net.codebook.vectors, before)


def test_hidden_weights_are_all_kernels_but_the_first():
    net = make_net()
    hidden = {id(weight) for weight in net.hidden_weights()}
    others = [name for name, weight in net.named_parameters() if weight.ndim > 1 and id(weight) not in hidden]
    assert others == ["down.0.weight"] and all(weight.ndim == 5 for weight in net.hidden_weights())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"height": 62}, "height must be divisible by 4, its stride, got 62"),
        ({"width": 66}, "width must be divisible by 4, its stride, got 66"),
        ({"codebook": CodebookConfig(num_slices=3, code_dim=64)}, "num_slices must divide 256.* got 3"),
        ({"codebook": CodebookConfig(num_slices=2, code_dim=64)}, "code_dim must be 128.* got 64"),
        ({"stage_widths": ()}, "one entry per halving"),
        ({"data_mean": (0.5,)}, "3 entries, one per channel"),
        ({"frames_per_step": 0}, "frames_per_step must be at least 1"),
    ],
)
def test_impossible_sizes_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        FrameVQVAEConfig(**bad)


def test_frames_and_codes_of_another_shape_are_refused():
    net = make_net()
    with pytest.raises(ValueError, match=r", 2, 16, 16, 3\).*got \(1, 1, 1, 16, 16, 3\)"):
        net.encode(make_frames(batch=1, steps=1, frames=1))
    with pytest.raises(ValueError, match=r"\(4, 4, 4\)"):
        net.decode(torch.zeros(1, 3, 4, 4, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"\[0, 16\), got 0 to 16"):
        net.decode(torch.tensor([0, 16]).expand(1, 1, 4, 4, 2, 2).flatten(4))

from dataclasses import replace

import pytest
import torch

from worldmodel.tokenizer import TokenizerConfig, VQVAEConfig, build, preset
from worldmodel.tokenizer.presets import PRESETS

VIDEOGEN = [name for name, config in PRESETS.items() if isinstance(config, VQVAEConfig)]


def weights(config: TokenizerConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build(config).parameters())


def millions(config: TokenizerConfig) -> float:
    return weights(config) / 1e6


@pytest.mark.parametrize(("name", "size"), [("videogen-2x4x4", 23.2), ("videogen-2x2x2", 15.8), ("public-4x4x4", 21.1)])
def test_the_papers_networks_have_their_sizes(name, size):
    assert millions(preset(name)) == pytest.approx(size, rel=0.01)


@pytest.mark.parametrize("name", VIDEOGEN)
def test_without_attention_a_network_is_about_as_large(name):
    assert millions(replace(preset(name), attention=False)) == pytest.approx(millions(preset(name)), rel=0.05)


def test_the_papers_grids():
    """16 frames: 8 x 16 x 16 codes, 8 x 32 x 32, and 4 x 32 x 32 of the larger frames."""
    sizes = {name: (preset(name).clip_steps, *preset(name).grid) for name in VIDEOGEN}
    assert sizes["videogen-2x4x4"] == (8, 16, 16)
    assert sizes["videogen-2x2x2"] == (8, 32, 32)
    assert sizes["public-4x4x4"] == (4, 32, 32)
    assert all(preset(name).clip_steps * preset(name).frames_per_step == 16 for name in VIDEOGEN)


@pytest.mark.parametrize("name", ["clip-small", "causal-small", "doom-tiny", "doom-small", "doom-wide", "push-small"])
def test_small_presets_encode_frames(name):
    torch.manual_seed(0)
    vqvae = build(preset(name)).eval()
    frames = torch.randint(256, (1, 8, 2, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        codes = vqvae.encode(frames)
        assert codes.shape == (1, 8, *vqvae.grid, vqvae.num_slices)
        assert vqvae.decode(codes).shape == frames.shape
    assert (
        vqvae.config.temporal
        == {"clip": "clip", "causal": "causal", "doom": "step", "push": "step"}[name.split("-")[0]]
    )


def test_the_papers_networks_see_pixels_from_minus_to_plus_one_half_and_others_standardised_ones():
    unchanged = {name for name in VIDEOGEN if not preset(name).standardise}
    assert unchanged == {"videogen-2x4x4", "videogen-2x2x2", "bair-paper", "public-4x4x4", "moving-mnist"}
    measured = {"data_mean": (0.2, 0.3, 0.4), "data_variance": 0.01}
    seen = {}
    for standardise in (True, False):
        vqvae = build(VQVAEConfig(standardise=standardise, **measured)).eval()
        frames = torch.zeros(1, 1, 2, 64, 64, 3, dtype=torch.uint8)
        vqvae.down[0].register_forward_pre_hook(lambda _, inputs, key=standardise: seen.update({key: inputs[0]}))
        with torch.inference_mode():
            vqvae.encode(frames)
    assert torch.all(seen[False] == -0.5)
    torch.testing.assert_close(seen[True][0, :, 0, 0, 0], torch.tensor((-2.0, -3.0, -4.0)))


def test_the_small_presets_give_32_64_and_192_codes_per_step():
    assert preset("doom-tiny") == VQVAEConfig()
    codes = {name: preset(name).grid[0] * preset(name).grid[1] * preset(name).num_slices for name in PRESETS}
    assert codes["doom-tiny"] == 32 and codes["doom-small"] == codes["doom-wide"] == 64 and codes["push-small"] == 192


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("lvt-paper", 3_553_795),
        ("lvt-paper-n1", 3_553_795),
        ("lvt-small", 954_691),
        ("pixelcnn-paper", 4_389_187),
        ("pixelcnn-small", 1_333_539),
    ],
)
def test_the_tokenizers_of_the_other_two_papers_have_their_weights(name, size):
    assert weights(preset(name)) == size


def test_the_small_tokenizers_of_the_other_two_papers_encode_frames():
    for name, steps, per_step in (("lvt-small", 3, 2), ("pixelcnn-small", 2, 4)):
        torch.manual_seed(0)
        net = build(preset(name)).eval()
        frames = torch.randint(256, (1, steps, per_step, 64, 64, 3), dtype=torch.uint8)
        with torch.inference_mode():
            codes = net.encode(frames)
            assert codes.shape == (1, steps, 8, 8, {"lvt-small": 4, "pixelcnn-small": 9}[name])
            assert net.decode(codes).shape == frames.shape


def test_a_small_frame_tokenizer_has_128_codes_a_frame():
    config = preset("lvt-small")
    assert config.grid[0] * config.grid[1] * config.num_slices / config.frames_per_step == 128


def test_an_unknown_preset_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="Did you mean 'videogen-2x4x4'"):
        preset("videogen-2x4x5")

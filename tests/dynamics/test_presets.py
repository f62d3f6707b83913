import itertools
from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_config
from worldmodel.data import ActionSpec
from worldmodel.dynamics import PRESETS, FrameEncoderConfig, GPTConfig, Sampling, preset
from worldmodel.dynamics.generation import check_request
from worldmodel.dynamics.gpt.frame_encoder import FrameEncoder
from worldmodel.model import WorldModelConfig
from worldmodel.tokenizer import preset as tokenizer_preset

ACTIONS = ActionSpec(kind="box", n=4, low=(-1.0,) * 4, high=(1.0,) * 4)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("name", "millions"), [("videogen-paper", 39.9), ("videogen-2x2x2", 64.4)])
def test_the_papers_sizes_have_the_papers_number_of_parameters(name, millions):
    with torch.device("meta"):
        model = preset(name).build(ACTIONS)
    assert count(model) == pytest.approx(millions * 1e6, rel=0.01)


@pytest.mark.parametrize(
    ("name", "top", "bottom"), [("pixelcnn-small", 1_484_256, 2_236_352), ("pixelcnn-paper", 180_487_936, 297_866_752)]
)
def test_the_two_priors_have_the_number_of_parameters_that_their_page_lists(name, top, bottom):
    """Our choice: the paper gives no number of layers, width or number of weights."""
    with torch.device("meta"):
        pair = preset(name).build(ACTIONS)
    assert (count(pair.top), count(pair.bottom)) == (top, bottom)


def test_the_papers_prior_has_the_papers_settings():
    model = preset("videogen-paper").model
    assert (model.layers, model.width, model.heads, model.order) == (22, 384, 4, "raster")
    assert (model.position, model.attention, model.max_steps, model.dropout) == ("learned", "full", 8, 0.2)
    with torch.device("meta"):
        conditions = {"action_condition": "clip", "frame_condition": 1, "frame_condition_frames": 1}
        gpt = preset("videogen-paper", **conditions).build(ACTIONS)
    assert gpt.norm.modulation.in_features == 7 * 4  # all actions of a clip, as they are
    assert gpt.frame_encoder.stem.in_channels == 3  # one frame
    assert gpt.blocks[0].forward_part.frame.in_features == 512


def test_the_frame_encoder_is_resnet_34():
    with torch.device("meta"):
        encoder = FrameEncoder(FrameEncoderConfig(), read=1, channels=3)
    assert count(encoder) == pytest.approx(21.28e6, rel=0.01)  # without the classifier's 1000 outputs
    assert FrameEncoderConfig().features == 512


def test_every_preset_can_be_trained():
    for name, chosen in PRESETS.items():
        with torch.device("meta"):
            gpt = chosen.build(ACTIONS)
        assert gpt.tokens_per_step == chosen.latents[1] * chosen.latents[2], name
        assert chosen.model.max_steps >= chosen.latents[0] or not chosen.model.limited, name


def test_the_papers_robot_prior_is_conditioned_on_one_frame_and_all_actions_or_less():
    chosen = preset("bair-paper")
    model = chosen.model
    unconditional = {"action_condition": "none", "frame_condition": 0, "frame_condition_frames": 0}
    assert replace(model, drop_actions=0.0, drop_frames=0.0, **unconditional) == preset("videogen-paper").model
    with torch.device("meta"):
        gpt = chosen.build(ActionSpec(kind="box", n=8, low=(-1.0,) * 8, high=(1.0,) * 8, frames=2))
    assert gpt.norm.modulation.in_features == 7 * 8  # flattened: four dimensions for each frame after the first step
    assert gpt.frame_encoder.stem.in_channels == 3
    assert gpt.blocks[0].forward_part.frame.in_features == 512
    for frames, actions in itertools.product((False, True), repeat=2):
        check_request(model, frames, actions, Sampling())


def test_the_norms_of_the_papers_robot_prior_respond_to_every_entry_of_a_clips_actions():
    torch.manual_seed(0)
    gpt = preset("bair-paper", layers=1).build(ActionSpec(kind="box", n=8, low=(-1.0,) * 8, high=(1.0,) * 8, frames=2))
    torch.nn.init.normal_(gpt.norm.modulation.weight)
    clips = torch.rand(200, 7, 8) * 2 - 1
    gains = gpt.norm.modulate(gpt.condition(200, 8, clips).steps[:, :1]).gain.flatten(1)
    assert torch.linalg.matrix_rank(gains - gains.mean(0), rtol=1e-4) == 7 * 8


@pytest.mark.parametrize("name", ["doom-tiny", "doom-small", "doom-wide", "push-small", "bair-paper"])
def test_a_preset_fits_the_tokenizer_of_its_name(name):
    tokenizer, chosen = tokenizer_preset(name), preset(name)
    assert chosen.latents[1:] == tokenizer.grid and chosen.num_codes == tokenizer.codebook.num_codes
    assert chosen.num_slices == tokenizer.num_slices
    assert chosen.code_dim == tokenizer.num_slices * tokenizer.codebook.code_dim


def test_the_tiny_doom_preset_is_the_default():
    assert preset("doom-tiny").model == GPTConfig() == WorldModelConfig(action=tiny_config().action).dynamics


@pytest.mark.parametrize(("frames", "actions"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("name", ["doom-small", "push-small"])
def test_the_small_presets_generate_video_from_all_combinations_of_conditions(name, frames, actions):
    check_request(preset(name).model, frames, actions, Sampling())


def test_a_wrong_name_gets_a_suggestion():
    with pytest.raises(ValueError, match="videogen-paper"):
        preset("videogen-papers")


def test_a_frame_encoder_requires_its_number_of_frames():
    encoder = FrameEncoder(FrameEncoderConfig(width=4, depths=(1, 2)), read=2, channels=3)
    frames = torch.zeros(3, 1, 2, 16, 16, 3, dtype=torch.uint8)
    assert encoder(frames).shape == (3, 8)
    with pytest.raises(ValueError, match="2 first frames"):
        encoder(frames.expand(-1, 2, -1, -1, -1, -1))


def test_of_the_first_frames_only_the_last_ones_are_read():
    encoder = FrameEncoder(FrameEncoderConfig(width=4, depths=(1, 2)), read=1, channels=3, given=2)
    frames = torch.randint(0, 256, (3, 1, 2, 16, 16, 3), dtype=torch.uint8)
    seen = encoder(frames)
    others = frames.clone()
    others[:, :, 0] = 255 - others[:, :, 0]
    assert torch.equal(encoder(others), seen)
    others[:, :, 1] = 255 - others[:, :, 1]
    assert not torch.allclose(encoder(others), seen)


def test_more_frames_than_the_first_steps_have_are_refused():
    with pytest.raises(ValueError, match="frame_condition_frames must be at most the 2 frames of 1 first steps, got 3"):
        preset("cpu-tiny", frame_condition=1, frame_condition_frames=3).build(ACTIONS)


@pytest.mark.parametrize(
    "bad",
    [
        {"max_steps": 9, "position": "learned"},
        {"max_steps": 1, "action_condition": "clip"},
        {"frame_condition": 5, "position": "sine"},
        {"drop_actions": 1.0},
        {"frame_condition_frames": 1},
    ],
    ids=str,
)
def test_impossible_conditions_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        replace(GPTConfig(), **bad)

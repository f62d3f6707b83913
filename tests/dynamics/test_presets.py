import itertools
from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_config
from worldmodel.data import ActionSpec
from worldmodel.dynamics import PRESETS, FrameEncoderConfig, GPTConfig, Sampling, preset
from worldmodel.dynamics.frame_encoder import FrameEncoder
from worldmodel.dynamics.generation import check_request
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


def test_the_papers_prior_has_the_papers_settings():
    model = preset("videogen-paper").model
    assert (model.layers, model.width, model.heads, model.order) == (22, 384, 4, "raster")
    assert (model.position, model.attention, model.max_steps, model.dropout) == ("learned", "full", 8, 0.2)
    with torch.device("meta"):
        gpt = preset("videogen-paper", action_condition="clip", frame_condition=1).build(ACTIONS)
    assert gpt.action.linear.in_features == 7 * 4  # all actions of a clip
    assert gpt.blocks[0].forward_part.frame.in_features == 512


def test_the_frame_encoder_is_resnet_34():
    with torch.device("meta"):
        encoder = FrameEncoder(FrameEncoderConfig(), channels=3)
    assert count(encoder) == pytest.approx(21.28e6, rel=0.01)  # without the classifier's 1000 outputs
    assert FrameEncoderConfig().features == 512


def test_every_preset_can_be_trained():
    for name, chosen in PRESETS.items():
        with torch.device("meta"):
            gpt = chosen.build(ACTIONS)
        assert gpt.tokens_per_step == chosen.latents[1] * chosen.latents[2], name
        assert chosen.model.max_steps >= chosen.latents[0] or not chosen.model.limited, name


def test_the_papers_robot_prior_is_conditioned_on_one_step_of_frames_and_all_actions_or_less():
    chosen = preset("bair-paper")
    model = chosen.model
    assert replace(model, action_condition="none", drop_actions=0.0, frame_condition=0, drop_frames=0.0) == (
        preset("videogen-paper").model
    )
    with torch.device("meta"):
        gpt = chosen.build(ActionSpec(kind="box", n=8, low=(-1.0,) * 8, high=(1.0,) * 8, frames=2))
    assert gpt.action.linear.in_features == 7 * 8  # flattened: four dimensions for each frame after the first step
    assert gpt.blocks[0].forward_part.frame.in_features == 512
    for frames, actions in itertools.product((False, True), repeat=2):
        check_request(model, frames, actions, Sampling())


@pytest.mark.parametrize("name", ["doom-tiny", "doom-small", "push-small", "bair-paper"])
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
    encoder = FrameEncoder(FrameEncoderConfig(width=4, depths=(1, 2)), channels=6)
    frames = torch.zeros(3, 1, 2, 16, 16, 3, dtype=torch.uint8)
    assert encoder(frames).shape == (3, 8)
    with pytest.raises(ValueError, match="6 channels"):
        encoder(frames.expand(-1, 2, -1, -1, -1, -1))


@pytest.mark.parametrize(
    "bad",
    [
        {"max_steps": 9, "position": "learned"},
        {"max_steps": 1, "action_condition": "clip"},
        {"frame_condition": 5, "position": "sine"},
        {"drop_actions": 1.0},
    ],
    ids=str,
)
def test_impossible_conditions_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        replace(GPTConfig(), **bad)

"""Sizes of the presets, and settings that are refused."""

from dataclasses import replace

import pytest
import torch

from tests.dynamics.subscale.nets import make_net
from worldmodel.data import ActionSpec
from worldmodel.dynamics import PRESETS, SubscaleConfig, preset
from worldmodel.tokenizer import preset as tokenizer_preset

# The paper's table 7 has three of them in millions; the others follow from the layers of its authors' public code.
WEIGHTS = [
    ("lvt-paper", {}, 49_872_384),
    ("lvt-paper", {"attention": "key"}, 41_500_160),
    ("lvt-paper", {"attention": "relative"}, 33_095_168),
    ("lvt-paper-n1", {}, 45_150_720),
    ("lvt-paper", {"subscale": (4, 2, 2), "kernel": (5, 3, 3)}, 59_830_528),
    ("lvt-paper", {"subscale": (1, 2, 2), "kernel": (1, 3, 3)}, 50_394_880),
    ("lvt-small", {}, 2_138_952),  # of the documentation
]


@pytest.mark.parametrize(("name", "changes", "published"), WEIGHTS)
def test_models_have_the_numbers_of_weights_that_are_published(name, changes, published):
    with torch.device("meta"):
        net = preset(name, **changes).build(ActionSpec(kind="discrete", n=3))
    weights = sum(parameter.numel() for parameter in net.parameters())
    assert abs(weights - published) < 0.001 * published


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("lvt")])
def test_tokenizer_and_dynamics_of_one_name_fit(name):
    tokenizer, chosen = tokenizer_preset(name), PRESETS[name]
    assert (tokenizer.grid, tokenizer.num_slices) == (chosen.latents[1:], chosen.num_slices)
    assert tokenizer.codebook.num_codes == chosen.num_codes
    assert tokenizer.frames_per_step * tokenizer.codebook.num_slices * tokenizer.codebook.code_dim == chosen.code_dim
    assert chosen.model.frames_per_step(chosen.num_slices) == tokenizer.frames_per_step


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subscale": (4, 2, 2), "clip_frames": 6}, "clip_frames must be divisible by s_t = 4 .*, got 6"),
        ({"subscale": (4, 2, 2)}, "set clip_frames"),
        ({"kernel": (4, 1, 1)}, "odd sizes, so that it has a centre, got 4"),
        ({"kernel": (1, 3, 3)}, "at least 3 long in time to see a past frame"),
        ({"subscale": (1, 0, 2), "clip_frames": 4}, r"subscale\[1\] must be at least 1, got 0"),
        ({"training_slices": 0}, "training_slices must be at least 1, got 0"),
        ({"attention": "keys"}, "unknown attention 'keys'. Did you mean 'key'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SubscaleConfig(**settings)


def test_a_grid_that_the_slices_do_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"grid \(2, 3\) must be divisible by s_w = 2 of subscale \(2, 2, 2\)"):
        make_net("spatiotemporal", (2, 3))


def test_a_clip_of_no_whole_steps_is_refused():
    with pytest.raises(ValueError, match="clip_frames must be divisible by the 3 latent frames of a step, got 4"):
        make_net("spatiotemporal", frames=4, num_slices=3)


def test_a_table_that_no_memory_holds_is_refused():
    with pytest.raises(ValueError, match="take a coarser grid, a shorter clip or a smaller kernel"):
        make_net("spatial", (512, 512), 64)


def test_segments_are_as_long_as_the_model_can_use():
    small, paper = PRESETS["lvt-small"], PRESETS["lvt-paper"]
    assert small.model.segment_steps(small.num_slices) == 4  # the last two see three frames before them
    assert small.model.segment_steps(small.num_slices, 9) == 9
    assert paper.model.segment_steps(4) == 15
    clips = replace(paper.model, subscale=(4, 2, 2))
    assert clips.segment_steps(8) == 7
    with pytest.raises(ValueError, match="one clip of 16 latent frames, 15 steps after the first, got segment 8"):
        clips.segment_steps(4, 8)

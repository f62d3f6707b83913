"""Settings that would do nothing beside the others are refused, before anything is recorded or trained."""

from dataclasses import replace

import pytest

from tests.clips import clip_tokenizer
from tests.training.recorded import ACTIONS
from worldmodel.data import StoreInfo
from worldmodel.dynamics import GPTConfig, PixelCNNConfig, SubscaleConfig
from worldmodel.tokenizer import FrameVQVAEConfig, VQVAEConfig
from worldmodel.training.ablations.scale import PRESETS
from worldmodel.training.ablations.tables import variants
from worldmodel.training.cli.main import main
from worldmodel.training.pipeline.config import DemoConfig
from worldmodel.training.train_agent import DreamTraining
from worldmodel.training.train_dynamics import DynamicsTraining
from worldmodel.training.train_tokenizer import TokenizerTraining

UNCONDITIONAL = {"action_condition": "none", "drop_actions": 0.1}
IDLE = [
    (DreamTraining, {"eval_episodes": 5}, "eval_episodes 5 .* without eval_every above 0: .* eval_episodes to 10"),
    (DreamTraining, {"eval_seed": 7}, "eval_seed 7 does nothing without eval_every"),
    (TokenizerTraining, {"rarity_limit": 5.0}, "rarity_limit 5.0 does nothing without rarity above 0"),
    (TokenizerTraining, {"model": VQVAEConfig(clip_steps=4)}, 'clip_steps 4 .* without temporal "clip" or "causal"'),
    (DynamicsTraining, {"model": GPTConfig(drop_frames=0.5)}, "drop_frames 0.5 .* without frame_condition above 0"),
    (DynamicsTraining, {"model": SubscaleConfig(cutoffs=(8,))}, "cutoffs .8,. does nothing without adaptive"),
    *(
        (DynamicsTraining, {"model": kind(**UNCONDITIONAL)}, "drop_actions 0.1 .* without an action_condition")
        for kind in (GPTConfig, PixelCNNConfig, SubscaleConfig)
    ),
]
USED = [
    DreamTraining(eval_every=1, eval_episodes=5, eval_seed=7),
    TokenizerTraining(rarity=0.5, rarity_limit=5.0),
    TokenizerTraining(model=clip_tokenizer("causal")),
    DynamicsTraining(model=GPTConfig(drop_frames=0.5, frame_condition=1, drop_actions=0.1)),
    DynamicsTraining(model=SubscaleConfig(cutoffs=(8,), code_input="adaptive")),
]


@pytest.mark.parametrize(("kind", "changes", "message"), IDLE)
def test_a_setting_without_the_one_that_it_belongs_to_is_refused(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        kind(**changes)


def test_with_that_one_it_is_accepted():
    assert all(config == replace(config) for config in USED)


def test_a_stride_of_clips_is_refused_where_steps_are_coded_alone():
    config = DynamicsTraining(clip_stride=2)
    for tokenizer in (VQVAEConfig(), FrameVQVAEConfig()):
        with pytest.raises(ValueError, match="clip_stride 2 does nothing without a clip or causal tokenizer"):
            config.segment_steps(tokenizer)
    clip = clip_tokenizer()
    prior = GPTConfig(learn_start=True, window=clip.clip_steps, max_steps=clip.clip_steps)
    assert replace(config, model=prior).segment_steps(clip) == clip.clip_steps - 1


def test_a_demo_whose_parts_do_not_fit_is_refused_before_it_records():
    with pytest.raises(ValueError, match="clip_stride 2 does nothing"):
        DemoConfig(dynamics=DynamicsTraining(clip_stride=2))


@pytest.mark.parametrize("table", ["lvt-subscale", "papers"])
def test_no_row_of_a_papers_table_has_an_idle_stride(table):
    info = StoreInfo(env_id="", frames_per_step=2, height=64, width=64, channels=3, action=ACTIONS)
    for row in variants(table, PRESETS["smoke"], info):
        row.dynamics.segment_steps(row.tokenizer.model)


def test_the_command_line_says_what_to_do(tmp_path, capsys):
    words = ["--world", str(tmp_path), "--out", str(tmp_path / "run"), "--eval-episodes", "3"]
    assert main(["train-agent", *words]) == 2
    assert "eval_episodes 3 does nothing without eval_every above 0: set that" in capsys.readouterr().err

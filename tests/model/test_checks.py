from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.model.test_world_model import make_frames
from tests.tiny import tiny_config, tiny_world
from worldmodel.model import WorldModel


@pytest.mark.parametrize("actions", [np.zeros((2, 3), np.int64), np.zeros((2, 2), np.float32)])
def test_actions_of_another_shape_or_kind_are_refused(actions):
    with pytest.raises(ValueError, match="actions must be"):
        tiny_world().start(make_frames(), actions)


@pytest.mark.parametrize("action", [3, -1])
def test_an_action_that_does_not_exist_is_refused(action):
    world = tiny_world()
    state = world.start(make_frames(), np.zeros((2, 2), np.int64))
    with pytest.raises(ValueError, match=r"outside \[0, 2\]"):
        world.step(state, torch.tensor([0, action]))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("codes", lambda t: t + 16, r"codes of the start segments must be in \[0, 16\)"),
        ("codes", lambda t: t[:, :, :1], r"codes of the start segments must be \(5, 3, 2, 2, 2\)"),
        ("actions", lambda t: t[:4], r"actions of the start segments must be \(5, 2\)"),
        ("actions", lambda t: t + 3, r"outside \[0, 2\]"),
        ("signals", lambda t: t[..., :0], r"signals of the start segments must be \(5, 3, 1\)"),
    ],
)
def test_starts_that_do_not_fit_the_model_are_refused(tmp_path, name, change, message):
    world = tiny_world()
    folder = world.save_pretrained(tmp_path / "world")
    world.starts = world.starts._replace(**{name: change(getattr(world.starts, name)).contiguous()})
    with pytest.raises(ValueError, match=message):
        world.save_pretrained(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    save_file(world.starts.packed(), folder / "starts.safetensors")
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(ValueError, match=message) as caught:
        WorldModel.from_pretrained(folder)
    assert "starts.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    "noisy", [{"dropout": 0.5}, {"heads": {"dropout": 0.5}}, {"net": "subscale", "heads": {"dropout": 0.1}}], ids=str
)
def test_a_world_with_dropout_does_not_dream_in_training_mode(noisy):
    world = tiny_world(learn_start=True, **noisy)
    starts = world.starts
    state = world.start_codes(starts.codes[:2], starts.actions[:2])
    world.train()
    actions = torch.zeros(2, 2, dtype=torch.int64)
    for dream in (
        lambda: world.start(make_frames()[:, :1], actions[:, :0]),
        lambda: world.start_codes(starts.codes[:2], starts.actions[:2]),
        lambda: world.step(state, actions[:, 0]),
        lambda: world.branch(state, actions[:, None]),
        lambda: world.sample(2, 3, actions=actions),
    ):
        with pytest.raises(ValueError, match=r"in training mode, .* change what it dreams: call wm\.prepare\(\)"):
            dream()
    world.eval()
    world.step(state, actions[:, 0])


def test_a_world_without_dropout_dreams_the_same_in_training_mode():
    world = tiny_world()
    before = world.sample(2, 4, first_frames=make_frames()[:2], actions=torch.zeros(2, 3, dtype=torch.int64)).codes
    after = world.train().sample(2, 4, first_frames=make_frames()[:2], actions=torch.zeros(2, 3, dtype=torch.int64))
    assert torch.equal(before, after.codes)


@pytest.mark.parametrize(
    ("temporal", "reason"), [("clip", "depends on frames after it"), ("causal", "the steps before")]
)
def test_a_tokenizer_that_cannot_dream_is_refused_with_the_reason(temporal, reason):
    config = tiny_config()
    world = WorldModel(replace(config, tokenizer=replace(config.tokenizer, temporal=temporal, stage_widths=(8, 8, 12))))
    with pytest.raises(ValueError, match=f'temporal="{temporal}" cannot dream.*{reason}.*temporal="step"'):
        world.start(make_frames(), torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=f'temporal="{temporal}" cannot dream'):
        world.start_codes(torch.zeros(2, 3, 2, 2, 2, dtype=torch.int64), torch.zeros(2, 2, dtype=torch.int64))


@pytest.mark.parametrize("seeds", [[0.5, 1.0], [1, 2, 3]])
def test_seeds_are_whole_numbers_for_each_row(seeds):
    world = tiny_world()
    with pytest.raises(ValueError, match="seeds must be one integer for each of the 2 rows"):
        world.start_codes(world.starts.codes[:2], world.starts.actions[:2], seeds=seeds)

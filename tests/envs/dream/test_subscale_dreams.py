"""Dreams of a Latent Video Transformer: the contracts of every dream, and what it refuses."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from tests.dynamics.worlds import future
from tests.tape import Tapes
from tests.tiny import tiny_world
from tests.vector_contract import check_vector_env
from worldmodel.dynamics import DreamState
from worldmodel.envs.dream.env import DreamEnv
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.model import WorldModel
from worldmodel.model.cuda_graphs import GraphedSteps

KINDS = {
    "counted": {},
    "from nothing": {"learn_start": True},
    "absolute": {"clip_frames": 8},
    "by key": {"attention": "key"},
    "deaf": {"action_condition": "none"},
    "frames alone": {"frames_alone": True},
}
every_kind = pytest.mark.parametrize("kind", KINDS)
CLIP = {"subscale": (2, 2, 2), "clip_frames": 8, "kernel": (3, 3, 3)}


def make_world(kind: str = "counted", **changes) -> WorldModel:
    return tiny_world(net="subscale", **KINDS[kind] | changes)


def make_state(world: WorldModel, rows=(0, 1, 2), steps: int = 2, **options) -> DreamState:
    starts, rows = world.starts, list(rows)
    state = world.start_codes(
        starts.codes[rows], starts.actions[rows], starts.signals[rows, -1], seeds=[10 + row for row in rows], **options
    )
    for _ in range(steps):
        state, _ = world.step(state, torch.zeros(len(rows), dtype=torch.int64))
    return state


@pytest.mark.parametrize("kind", ["counted", "frames alone"])
@pytest.mark.parametrize("obs", ["rgb", "codes"])
def test_gymnasiums_checker_passes(obs, kind):
    env = gym.make("VideoGenDream-Doom", model=make_world(kind), obs=obs, horizon=3, render_mode="rgb_array")
    check_env(env.unwrapped)


@pytest.mark.parametrize("kind", ["counted", "frames alone"])
def test_stable_baselines3s_checker_passes(kind):
    sb3_check_env(DreamEnv(make_world(kind), obs="features", horizon=3), warn=False)


@pytest.mark.parametrize(
    ("mode", "kind"), [("same_step", "counted"), ("next_step", "counted"), ("same_step", "frames alone")]
)
def test_a_vector_of_dreams_keeps_the_contract(mode, kind):
    check_vector_env(DreamVectorEnv(3, make_world(kind), "codes", horizon=3, autoreset_mode=mode))


@every_kind
def test_rows_that_join_late_dream_as_if_alone(kind):
    world = make_world(kind)
    alone = make_state(world, [4], steps=0)
    state = make_state(world, steps=13)
    others = future(world, state)
    joined = future(world, state.put([1], make_state(world, [4], steps=0, clock=state.clock)), steps=9)
    assert torch.equal(joined[1], future(world, alone, steps=9)[0])
    assert torch.equal(joined[[0, 2], :6], others[[0, 2]])


@every_kind
def test_a_saved_and_loaded_state_continues_identically(tmp_path, kind):
    world = make_world(kind)
    state = make_state(world)
    state.save(tmp_path / "dream.safetensors")
    assert torch.equal(future(world, state), future(world, DreamState.load(tmp_path / "dream.safetensors")))


@pytest.mark.parametrize("kind", ["counted", "from nothing", "absolute"])
def test_a_state_moved_in_time_dreams_the_same(kind):
    world = make_world(kind)
    state = make_state(world, steps=3)
    wanted = future(world, state)
    for clock in (0, 1, 3, 18):
        assert torch.equal(future(world, world.at_clock(state, clock)), wanted), clock


def test_a_saved_world_is_the_same_world(tmp_path):
    world = make_world()
    again = WorldModel.from_pretrained(world.save_pretrained(tmp_path / "world"), dtype=torch.float32)
    assert again.config == world.config
    assert torch.equal(future(again, make_state(again)), future(world, make_state(world)))


def test_a_state_of_other_codes_is_refused():
    world = make_world()
    state = make_state(world)
    state.world, state.cache.keys[0] = None, state.cache.keys[0] + 16
    with pytest.raises(ValueError, match=r"keys of layer 0 outside \[0, 15\]"):
        world.step(state, torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("subscale", [(2, 2, 2), (1, 2, 2)])
def test_models_whose_slices_span_the_clip_cannot_dream(subscale):
    world = make_world(**CLIP | {"subscale": subscale})
    with pytest.raises(ValueError, match="its last frame is begun before its first is complete"):
        gym.make("VideoGenDream-Doom", model=world)
    with pytest.raises(ValueError, match="its last frame is begun before its first is complete"):
        world.start(np.zeros((1, 1, 2, 16, 16, 3), np.uint8), np.zeros((1, 0), np.int64))


def test_steps_of_many_positions_are_not_recorded():
    with pytest.raises(ValueError, match="leave graphs out"):
        GraphedSteps(make_world(), Tapes)


# --- videos ----------------------------------------------------------------------------------------------------------


def first_frames(rows: int, steps: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (rows, steps, 2, 16, 16, 3), generator=generator, dtype=torch.uint8)


SPATIAL = CLIP | {"subscale": (1, 2, 2)}


@pytest.mark.parametrize(
    "changes", [{}, CLIP, SPATIAL, {"frames_alone": True}], ids=["frame", "both", "spatial", "frames alone"]
)
def test_videos_continue_their_given_frames_under_their_actions(changes):
    world = make_world(**changes, drop_actions=0.5)
    given, actions = first_frames(2, 2), torch.tensor([[0, 1, 2], [2, 2, 0]])
    video = world.sample(2, 4, given, actions)
    assert video.frames.shape == (2, 4, 2, 16, 16, 3)
    assert torch.equal(video.codes[:, :2], world.tokenizer.encode(given))
    free = world.sample(2, 4, given)
    assert not torch.equal(free.codes, video.codes)


def test_the_longest_video_of_slices_that_span_the_clip_is_that_clip():
    whole, frames = make_world(**CLIP), make_world()
    assert whole.longest_video == whole.dynamics.longest_clip == 4  # of two latent frames each
    assert frames.longest_video is None and frames.dynamics.longest_clip is None


@pytest.mark.parametrize("changes", [{}, CLIP], ids=["frame", "both"])
def test_a_video_from_nothing_is_refused_with_the_setting_that_allows_it(changes):
    with pytest.raises(ValueError, match="pass first frames, or train it with learn_start=True"):
        make_world(**changes, action_condition="none").sample(1, 2)
    assert make_world(**changes, action_condition="none", learn_start=True).sample(1, 2).codes.shape[1] == 2


def test_a_shorter_video_is_the_beginning_of_a_clip():
    world = make_world(**CLIP, action_condition="none")
    long, short = (world.sample(1, steps, first_frames(1, 1)) for steps in (4, 3))
    assert torch.equal(long.codes[:, :3], short.codes)


@pytest.mark.parametrize(
    ("changes", "call", "message"),
    [
        (CLIP, {"steps": 5, "first_frames": 1, "actions": 4}, "clips of 4 steps, got steps 5"),
        ({}, {"steps": 2, "first_frames": 3, "actions": 1}, "with T from 1 to steps = 2"),
        ({}, {"steps": 2, "actions": 1}, "has not learned how a video begins"),
        (CLIP, {"steps": 2, "actions": 1}, "has not learned how a video begins"),
        ({"action_condition": "none"}, {"steps": 2, "first_frames": 1, "actions": 1}, "ignores actions"),
        (CLIP | {"action_condition": "none"}, {"steps": 2, "first_frames": 1, "actions": 1}, "ignores actions"),
        (CLIP, {"steps": 4, "first_frames": 1, "actions": 2}, r"actions must be torch.int64 of shape \(1, 3\)"),
        (CLIP, {"steps": 4, "first_frames": 1}, "needs actions"),
        ({}, {"steps": 2, "first_frames": 1, "actions": 1, "guidance": 2.0}, "drop_actions > 0"),
    ],
)
def test_videos_that_the_model_cannot_make_are_refused(changes, call, message):
    world = make_world(**changes)
    given = {"first_frames": first_frames(1, call.pop("first_frames"))} if "first_frames" in call else {}
    if "actions" in call:
        call["actions"] = torch.zeros(1, call["actions"], dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        world.sample(1, **call, **given)

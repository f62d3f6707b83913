import dataclasses
import gc
import threading
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests.clips import clip_world
from tests.tiny import tiny_world
from tests.toy_game import FRAMES, BoundGame, ToyGame, seeing_world
from tests.vector_contract import check_vector_env
from worldmodel.dynamics import FrameEncoderConfig
from worldmodel.envs.dream.env import DreamEnv
from worldmodel.envs.spaces import show
from worldmodel.envs.wrappers import DreamView, DreamViewVector, ThreadVectorEnv

KINDS = ("rgb", "latent", "codes")


def dream_look(world, frames, obs):
    return show(world, world.tokenizer.encode(torch.from_numpy(frames)[None, None])[:, 0], obs)[0].numpy()


def assert_same_look(one, other):
    # Another batch size sums in another order, which may round a pixel the other way.
    np.testing.assert_allclose(one.astype(float), other.astype(float), rtol=0, atol=1 if one.dtype == np.uint8 else 0)


# --- the view --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("obs", KINDS)
def test_a_real_game_looks_as_the_dream_would_show_it(obs):
    world = seeing_world()
    env = DreamView(ToyGame(), world, obs)
    observation, info = env.reset(seed=0)
    for _ in range(2):
        np.testing.assert_array_equal(observation, dream_look(world, info["frames"], obs))
        assert env.observation_space.contains(observation)
        observation, _, _, _, info = env.step(0)


def test_the_view_changes_nothing_else():
    plain, viewed = ToyGame(), DreamView(ToyGame(), seeing_world())
    plain.reset(seed=1), viewed.reset(seed=1)
    _, *plain_rest, plain_info = plain.step(1)
    _, *viewed_rest, viewed_info = viewed.step(1)
    assert plain_rest == viewed_rest
    np.testing.assert_array_equal(plain_info["frames"], viewed_info["frames"])


def test_a_view_and_the_dream_have_the_same_space():
    world = seeing_world()
    for obs in (*KINDS, "features"):
        dream = gym.make("worldmodel:VideoGenDream-Doom", model=world, obs=obs)
        assert DreamView(ToyGame(), world, obs).observation_space == dream.observation_space


def test_an_env_without_frames_is_refused_with_the_missing_key():
    env = DreamView(gym.make("CartPole-v1"), seeing_world())
    with pytest.raises(ValueError, match=r'info\["frames"\].* holds nothing'):
        env.reset()


@pytest.mark.parametrize("speeds", [(8.75, 8.75), (8.75, 0), (0, 8.75), (8.75, 4.375)])
def test_a_game_whose_steps_last_longer_than_the_worlds_comes_with_a_warning(speeds):
    world = seeing_world()
    world.config = dataclasses.replace(world.config, steps_per_second=speeds[0])
    game, games = ToyGame(), SyncVectorEnv([ToyGame] * 2)
    for env in (game, games):
        env.metadata = env.metadata | {"render_fps": speeds[1]}
    odd = pytest.warns(
        UserWarning, match=r"4\.375 steps per second, .* had 8\.75, .*frame_skip.* under an id of its own"
    )
    for view, env in ((DreamView, game), (DreamViewVector, games)):
        with odd if speeds[1] == 4.375 else warnings.catch_warnings(action="error"):
            view(env, world)


def test_frames_of_another_size_are_refused():
    class Wide(ToyGame):
        def reset(self, **kwargs):
            return None, {"frames": np.zeros((2, 16, 32, 3), np.uint8)}

    with pytest.raises(ValueError, match=r"16.*32"):
        DreamView(Wide(), seeing_world()).reset()


def test_an_unknown_view_is_refused_with_a_suggestion():
    with pytest.raises(ValueError, match=r"unknown obs 'rbg'\. Did you mean 'rgb'"):
        DreamView(ToyGame(), seeing_world(), "rbg")


def followed(world, frames, actions):
    """Features of the last of some steps, by the model alone: frames of each step, the actions between them."""
    codes = world.tokenizer.encode(torch.from_numpy(np.stack(frames))[None])
    state = world.start_codes(codes[:, :1], torch.zeros(1, 0, dtype=torch.int64))
    for t, action in enumerate(actions):
        state, _ = world.observe(state, torch.tensor([action]), codes[:, t + 1])
    return world.features(state)[0].numpy()


def test_features_follow_an_episode():
    world = seeing_world()
    env = DreamView(ToyGame(), world, "features")
    for _ in range(2):  # the second episode knows nothing of the first
        observation, info = env.reset(seed=4)
        frames, actions, over = [info["frames"]], [], False
        while not over:
            np.testing.assert_allclose(observation, followed(world, frames, actions), rtol=1e-5, atol=1e-5)
            assert env.observation_space.contains(observation)
            actions.append(len(frames) % 3)
            observation, _, terminated, truncated, info = env.step(actions[-1])
            frames.append(info["frames"])
            over = terminated or truncated
        assert len(frames) > 3


def test_a_world_whose_features_cannot_follow_a_game_is_refused_before_it_begins():
    encoder = FrameEncoderConfig(width=4, depths=(1, 1))
    hungry = tiny_world(frame_condition=2, frame_encoder=encoder)
    for make in (lambda obs: DreamView(ToyGame(), hungry, obs), lambda obs: DreamViewVector(toys(), hungry, obs)):
        with pytest.raises(ValueError, match=r"needs 2 first steps \(frame_condition\); give obs="):
            make("features")
        make("latent").close()
    with pytest.raises(ValueError, match="cannot dream"):
        DreamView(ToyGame(), clip_world(), "features")


def toys():
    return ThreadVectorEnv(ToyGame, 1)


def test_features_of_a_real_game_equal_those_of_a_dream_of_the_same_steps():
    """An agent that reads features gets the same values in both worlds."""
    world = seeing_world()
    dream = DreamEnv(world, obs="features", seed_from="starts")
    real = DreamView(ToyGame(), world, "features")
    _, info = real.reset(seed=1)
    given = {"frames": info["frames"][None], "signals": {"HEALTH": 50.0}}
    first, _ = dream.reset(seed=0, options=given)
    np.testing.assert_allclose(first, real._view.begin(np.zeros(1, int), info["frames"][None])[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_features_of_a_row_do_not_depend_on_the_other_rows(mode):
    world = seeing_world()
    viewed = DreamViewVector(SyncVectorEnv([ToyGame] * 3, autoreset_mode=mode), world, "features")
    alone = [DreamView(ToyGame(), world, "features") for _ in range(3)]
    rng = np.random.default_rng(0)
    expected = [env.reset(seed=9 + row)[0] for row, env in enumerate(alone)]
    observations, _ = viewed.reset(seed=9)
    waiting = np.zeros(3, bool)
    ends = 0
    for _ in range(12):
        np.testing.assert_allclose(observations, expected, rtol=1e-4, atol=1e-4)
        actions = rng.integers(3, size=3)
        observations, _, terminations, truncations, infos = viewed.step(actions)
        for row, env in enumerate(alone):
            expected[row] = env.reset()[0] if waiting[row] else env.step(actions[row])[0]
        ended = terminations | truncations
        ends += ended.sum()
        waiting = ended if mode is AutoresetMode.NEXT_STEP else waiting
        for row in np.flatnonzero(ended):
            if mode is AutoresetMode.SAME_STEP:
                np.testing.assert_allclose(infos["final_obs"][row], expected[row], rtol=1e-4, atol=1e-4)
            if mode is not AutoresetMode.NEXT_STEP:
                expected[row] = alone[row].reset()[0]
        if mode is AutoresetMode.DISABLED and ended.any():
            observations, _ = viewed.reset(options={"reset_mask": ended})
    assert ends > 3


@pytest.mark.parametrize("obs", [*KINDS, "features"])
@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_vector_view_keeps_the_vector_contract(mode, obs):
    check_vector_env(DreamViewVector(SyncVectorEnv([ToyGame] * 3, autoreset_mode=mode), seeing_world(), obs))


@pytest.mark.parametrize("obs", KINDS)
def test_every_row_of_a_vector_view_looks_as_it_does_alone(obs):
    world = seeing_world()
    games = ThreadVectorEnv(ToyGame, 3)
    plain, viewed = ThreadVectorEnv(ToyGame, 3), DreamViewVector(games, world, obs)
    infos, observations = plain.reset(seed=0)[1], viewed.reset(seed=0)[0]
    ends = 0
    for _ in range(8):
        for row in range(3):
            assert_same_look(observations[row], dream_look(world, infos["frames"][row], obs))
        _, _, terminations, truncations, infos = plain.step(np.zeros(3, np.int64))
        observations, *_, viewed_infos = viewed.step(np.zeros(3, np.int64))
        for row in np.flatnonzero(terminations | truncations):
            last_frames = infos["final_info"]["frames"][row]
            assert_same_look(viewed_infos["final_obs"][row], dream_look(world, last_frames, obs))
            ends += 1
    assert ends > 1


def test_rows_at_rest_keep_their_last_observation():
    envs = DreamViewVector(ThreadVectorEnv(ToyGame, 3, "disabled"), seeing_world())
    envs.reset(seed=0)
    last = {}
    for _ in range(7):
        observations, rewards, terminations, truncations, _ = envs.step(np.zeros(3, np.int64))
        for row, (observation, _) in last.items():
            np.testing.assert_array_equal(observations[row], observation)
            assert rewards[row] == 0
        last |= {row: (observations[row], 0) for row in np.flatnonzero(terminations | truncations)}
        if len(last) == 3:
            break
    assert len(last) == 3
    before = observations
    mask = np.array([False, True, False])
    observations, infos = envs.reset(options={"reset_mask": mask})
    np.testing.assert_array_equal(observations[[0, 2]], before[[0, 2]])
    assert not np.array_equal(observations[1], before[1])
    assert infos["_frames"].tolist() == mask.tolist()
    assert envs.step(np.zeros(3, np.int64))[4]["_frames"].tolist() == mask.tolist()


# --- side by side ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["same_step", "disabled"])
def test_threads_keep_the_vector_contract(mode):
    check_vector_env(ThreadVectorEnv(ToyGame, 3, mode))


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, np.ndarray) and one.dtype == object:
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        np.testing.assert_array_equal(one, other)


def test_threads_return_what_gymnasiums_vector_env_returns():
    ours, theirs = ThreadVectorEnv(ToyGame, 3), SyncVectorEnv([ToyGame] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    for one, other in zip(ours.reset(seed=4), theirs.reset(seed=4), strict=True):
        assert_same(one, other)
    for step in range(10):
        actions = np.array([step % 3, 1, 2])
        for one, other in zip(ours.step(actions), theirs.step(actions), strict=True):
            assert_same(one, other)


class Paying(ToyGame):
    """Pays integers and other numbers, as games may that pay 1 for a goal and take 0.5 for a step."""

    def _look(self, native_reward):
        observation, info = super()._look(native_reward)
        paid = 1 if self.left == 6 else -0.5
        return observation, info | {"native_reward": paid, "more": {"paid": np.array([paid])}, "late": self.left > 3}


def test_a_number_is_not_cut_to_the_type_of_another_rows():
    envs, games = ThreadVectorEnv(Paying, 6), [Paying() for _ in range(6)]
    _, infos = envs.reset(seed=0)
    alone = [game.reset(seed=row)[1] for row, game in enumerate(games)]
    paid = [info["native_reward"] for info in alone]
    assert paid.index(1) < paid.index(-0.5) and type(paid[paid.index(1)]) is int  # an integer comes first
    assert infos["native_reward"].tolist() == infos["more"]["paid"][:, 0].tolist() == paid
    assert infos["late"].dtype == bool and infos["_late"].all()


def test_rows_really_step_at_the_same_time():
    meeting = threading.Barrier(2, timeout=5)  # breaks if one row waits for the other to return

    class Meets(ToyGame):
        def step(self, action):
            meeting.wait()
            return super().step(action)

    envs = ThreadVectorEnv(Meets, 2)
    envs.reset(seed=0)
    envs.step(np.zeros(2, np.int64))


def test_an_error_in_a_row_reaches_the_caller():
    class Fails(ToyGame):
        def step(self, action):
            raise RuntimeError("the game crashed")

    envs = ThreadVectorEnv(Fails, 2)
    envs.reset(seed=0)
    with pytest.raises(RuntimeError, match="the game crashed"):
        envs.step(np.zeros(2, np.int64))


@pytest.mark.parametrize("mode", ["same_step", "disabled"])
def test_games_bound_to_the_thread_that_made_them_only_run_in_it(mode):
    envs = ThreadVectorEnv(BoundGame, 3, mode)
    check_vector_env(envs)
    assert len(envs.render()) == 3
    assert len({env.thread for env in envs.envs}) == 3
    envs.close()


def test_games_with_one_thread_in_their_metadata_share_a_thread():
    class Together(BoundGame):
        def __init__(self):
            super().__init__()
            self.metadata = self.metadata | {"one_thread": True}

    envs = ThreadVectorEnv(Together, 3)
    check_vector_env(envs)
    assert len({env.thread for env in envs.envs}) == 1
    envs.close()


def test_a_single_game_runs_in_the_callers_thread():
    """Some games need the process's main thread."""
    envs = ThreadVectorEnv(BoundGame, 1)
    envs.reset(seed=0)
    envs.step(np.zeros(1, np.int64))
    assert envs.envs[0].thread == threading.get_ident()
    envs.close()


def test_an_error_in_a_row_is_raised_once_the_others_have_finished():
    entered, left = threading.Event(), threading.Event()

    class Slow(ToyGame):
        def step(self, action):
            if action == 0:
                raise RuntimeError("the game crashed")
            entered.set()
            assert entered.wait(5)
            result = super().step(action)
            left.set()
            return result

    envs = ThreadVectorEnv(Slow, 2)
    envs.reset(seed=0)
    with pytest.raises(RuntimeError, match="the game crashed"):
        envs.step(np.array([0, 1]))
    assert left.is_set()
    envs.close()


def test_games_are_closed_if_a_later_one_cannot_be_made():
    closed, made = [], []

    class Closing(ToyGame):
        def close(self):
            closed.append(self)

    def make_env():
        if len(made) == 2:
            raise OSError("no room for a third")
        made.append(Closing())
        return made[-1]

    with pytest.raises(OSError, match="no room for a third"):
        ThreadVectorEnv(make_env, 4)
    assert len(made) == 2 and set(map(id, closed)) == set(map(id, made)) and len(closed) == 2  # each in its own thread


def test_the_first_reset_is_of_all_rows():
    envs = ThreadVectorEnv(ToyGame, 2, "disabled")
    with pytest.raises(ResetNeeded, match="first reset must be of all rows"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    envs.reset(seed=0)
    envs.reset(seed=0, options={"reset_mask": np.array([True, False])})
    envs.close()


@pytest.mark.parametrize("mask", [np.zeros(2, bool), np.array([0, 2]), np.array([True]), [1, 0]])
def test_masks_without_rows_are_refused(mask):
    envs = ThreadVectorEnv(ToyGame, 2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"reset_mask must be \(2,\) bool with at least one True"):
        envs.reset(options={"reset_mask": mask})
    envs.close()


def test_observations_of_several_parts_are_batched_part_by_part():
    class Parts(gym.ObservationWrapper):
        def __init__(self):
            super().__init__(ToyGame())
            self.observation_space = gym.spaces.Dict(
                {"frame": self.env.observation_space, "left": gym.spaces.Box(0, 9, (1,), np.float32)}
            )

        def observation(self, observation):
            return {"frame": observation, "left": np.float32([self.unwrapped.left])}

    ours = ThreadVectorEnv(Parts, 2)
    theirs = SyncVectorEnv([Parts] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    mine, others = ours.reset(seed=0)[0], theirs.reset(seed=0)[0]
    for _ in range(8):
        assert mine.keys() == others.keys()
        for part in mine:
            np.testing.assert_array_equal(mine[part], others[part])
        assert ours.observation_space.contains(mine)
        mine, others = (envs.step(np.zeros(2, np.int64))[0] for envs in (ours, theirs))
    ours.close()


def test_an_env_that_nobody_closed_closes_its_games_without_waiting():
    closed = threading.Event()

    class Closes(ToyGame):
        def close(self):
            closed.set()

    envs = ThreadVectorEnv(Closes, 2)
    envs.reset(seed=0)
    del envs
    gc.collect()
    assert closed.wait(5)


def test_close_closes_every_game():
    closed = []

    class Closes(ToyGame):
        def close(self):
            closed.append(self)

    ThreadVectorEnv(Closes, 3).close()
    assert len(closed) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "num_envs must be at least 1"),
        ((2, "next_step"), '"same_step" and "disabled"'),
        ((2, "no"), "Valid: dis"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ThreadVectorEnv(ToyGame, *arguments)


def test_too_few_seeds_are_refused():
    with pytest.raises(ValueError, match="one integer or a list of 3, got a list of 2"):
        ThreadVectorEnv(ToyGame, 3).reset(seed=[1, 2])


@pytest.mark.parametrize("actions", [np.zeros(2, np.int64), np.zeros(4, np.int64), [0, 1], 0, None])
def test_a_wrong_number_of_actions_is_refused_and_nothing_steps(actions):
    envs = ThreadVectorEnv(ToyGame, 3)
    envs.reset(seed=0)
    left = [env.left for env in envs.envs]
    with pytest.raises(gym.error.InvalidAction, match="one action for each of 3 envs, got"):
        envs.step(actions)
    assert [env.left for env in envs.envs] == left


def test_the_toy_game_has_the_frames_this_file_assumes():
    assert ToyGame().reset(seed=0)[1]["frames"].shape == FRAMES

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode

import worldmodel  # noqa: F401 (registers the ids)
from tests.tiny import tiny_config, tiny_world
from tests.vector_contract import check_vector_env
from worldmodel.data import ActionSpec
from worldmodel.devices import usable_device
from worldmodel.envs.dream.env import DreamEnv
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.model import Starts, WorldModel

T, F = True, False


def make(num_envs=3, world=None, ends=None, **options):
    """Dreams that end by script: `ends` {step of the batch: rows}, counted from the last reset of all rows."""
    world = world or tiny_world()
    step = world.step

    def scripted_step(state, *args):
        now = state.clock - world.starts.actions.shape[1]  # the clock begins with the context's own steps
        state, out = step(state, *args)
        terminated = torch.zeros(len(state), dtype=torch.bool)
        terminated[(ends or {}).get(now, [])] = True
        return state, dataclasses.replace(out, terminated=terminated)

    world.step = scripted_step
    return DreamVectorEnv(num_envs, world, **options)


def box_world():
    """An action of two dimensions."""
    action = ActionSpec(kind="box", n=2, low=(-1.0, -1.0), high=(1.0, 1.0))
    torch.manual_seed(0)
    world = WorldModel(dataclasses.replace(tiny_config(), action=action))
    h, w = world.tokenizer.grid
    world.starts = Starts(torch.randint(16, (4, 3, h, w, 2)), torch.rand(4, 2, 2), torch.rand(4, 3, 1))
    return world.prepare(torch.float32)


def play(envs, steps, seed=5, action=1):
    """Observations, rewards and flags of an episode that holds one action."""
    played = [envs.reset(seed=seed)[:1]]
    played += [envs.step(np.full(envs.num_envs, action))[:4] for _ in range(steps)]
    return played


def assert_equal_plays(one, other):
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("obs", ["rgb", "latent", "codes", "features"])
@pytest.mark.parametrize("mode", ["same_step", "next_step", "disabled"])
def test_the_vector_contract_holds(mode, obs):
    envs = make(ends={1: [1], 2: [0, 1], 7: [2]}, horizon=4, autoreset_mode=mode, obs=obs)
    check_vector_env(envs)


# --- autoreset, step by step -----------------------------------------------------------------------------------------


def flags(envs, steps):
    """(terminations, truncations) of each step, as 0/1 words."""
    envs.reset(seed=0)
    word = lambda row: "".join("01"[int(x)] for x in row)  # noqa: E731
    return [tuple(map(word, envs.step(np.zeros(3, np.int64))[2:4])) for _ in range(steps)]


def test_same_step_resets_at_once():
    envs = make(ends={1: [1], 2: [0]}, horizon=3)
    assert flags(envs, 6) == [
        ("000", "000"),
        ("010", "000"),  # row 1 ends and restarts
        ("100", "001"),  # rows 0 and 2 have had 3 steps; row 0 ended by itself, which is not a truncation
        ("000", "000"),
        ("000", "010"),  # row 1 has had 3 steps since its reset
        ("000", "101"),
    ]


def test_next_step_spends_a_step_on_the_reset():
    envs = make(ends={1: [1], 2: [0, 1]}, horizon=3, autoreset_mode="next_step")
    assert flags(envs, 7) == [
        ("000", "000"),
        ("010", "000"),
        ("100", "001"),  # row 1 is being reset: what the model said of its end does not count
        ("000", "000"),  # rows 0 and 2 are being reset
        ("000", "000"),
        ("000", "010"),  # 3 steps of row 1 after its reset
        ("000", "101"),
    ]


def test_disabled_waits_for_the_caller():
    envs = make(ends={1: [1]}, horizon=3, autoreset_mode="disabled")
    assert flags(envs, 2) == [("000", "000"), ("010", "000")]
    with pytest.raises(ResetNeeded, match=r"rows \[1\] have ended"):
        envs.step(np.zeros(3, np.int64))
    envs.reset(options={"reset_mask": np.array([F, T, F])})
    assert [x.tolist() for x in envs.step(np.zeros(3, np.int64))[2:4]] == [[F, F, F], [T, F, T]]


def test_without_a_horizon_nothing_is_truncated():
    envs = make(autoreset_mode="disabled", obs="codes")
    envs.reset(seed=0)
    assert not any(envs.step(np.zeros(3, np.int64))[3].any() for _ in range(50))


@pytest.mark.parametrize("obs", ["rgb", "latent", "codes", "features"])
def test_final_obs_is_what_the_episode_would_have_shown(obs):
    endless = make(obs=obs)
    endless.reset(seed=0)
    ending = make(obs=obs, ends={1: [1]})
    ending.reset(seed=0)
    for _ in range(2):
        unbroken = endless.step(np.array([0, 1, 2]))
        observations, rewards, _, _, infos = ending.step(np.array([0, 1, 2]))
    np.testing.assert_array_equal(infos["final_obs"][1], unbroken[0][1])
    np.testing.assert_array_equal(rewards, unbroken[1])
    for name in ("nll", "entropy", "HEALTH"):
        assert infos["final_info"][name][1] == unbroken[4][name][1]
        assert infos[name][0] == unbroken[4][name][0]
    np.testing.assert_array_equal(observations[[0, 2]], unbroken[0][[0, 2]])
    assert infos["_nll"].tolist() == infos["_entropy"].tolist() == [T, F, T]  # a fresh row has dreamt nothing yet
    assert infos["_HEALTH"].tolist() == [T, T, T]
    assert infos["HEALTH"][1] in ending.model.starts.signals[:, -1, 0]


def test_a_row_that_is_reset_leaves_the_others_alone():
    undisturbed, disturbed = make(), make(ends={1: [1], 3: [1]})
    for one, other in zip(play(undisturbed, 6), play(disturbed, 6), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a[[0, 2]], b[[0, 2]])


def test_a_masked_reset_gives_infos_of_its_rows_and_keeps_the_other_observations():
    envs = make(autoreset_mode="disabled")
    before = play(envs, 2)[-1][0]
    mask = np.array([F, F, T])
    options = {"reset_mask": mask}
    observations, infos = envs.reset(options=options)
    assert infos["_HEALTH"].tolist() == [F, F, T] and infos["HEALTH"][0] == 0
    np.testing.assert_array_equal(observations[:2], before[:2])
    assert not np.array_equal(observations[2], before[2])
    assert options == {"reset_mask": mask}


# --- seeds -----------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_rollout_through_resets():
    one, other = make(horizon=3), make(horizon=3)
    assert_equal_plays(play(one, 10), play(other, 10))
    assert_equal_plays(play(one, 10), play(other, 10))  # seeding again begins again
    assert not np.array_equal(play(one, 3, seed=5)[-1][0], play(other, 3, seed=6)[-1][0])


@pytest.mark.parametrize("first", [0, 4])
def test_row_i_dreams_what_a_single_env_with_that_seed_dreams(first):
    envs = make(world=tiny_world(first=first), obs="codes")
    observations = [envs.reset(seed=11)[0]] + [envs.step(np.array([0, 1, 2]))[0] for _ in range(5)]
    for row in range(3):
        env = DreamEnv(tiny_world(first=first), obs="codes")
        alone = [env.reset(seed=11 + row)[0]] + [env.step(row)[0] for _ in range(5)]
        np.testing.assert_array_equal([o[row] for o in observations], alone)


@pytest.mark.parametrize("first", [0, 4])
def test_row_i_equals_a_single_env_through_ends_and_resets(first):
    envs = DreamVectorEnv(3, tiny_world(first=first), "codes", horizon=5, terminate_when="HEALTH <= 20")
    begun = [envs.reset(seed=11)[0]]
    steps = [envs.step(np.array([0, 1, 2])) for _ in range(23)]
    for row in range(3):
        env = DreamEnv(tiny_world(first=first), obs="codes", horizon=5, terminate_when="HEALTH <= 20")
        np.testing.assert_array_equal(env.reset(seed=11 + row)[0], begun[0][row])
        ends = 0
        for observations, rewards, terminations, truncations, infos in steps:
            observation, reward, terminated, truncated, info = env.step(row)
            assert (terminated, truncated) == (terminations[row], truncations[row])
            assert reward == pytest.approx(rewards[row], rel=1e-4, abs=1e-4)
            if terminated or truncated:
                np.testing.assert_array_equal(observation, infos["final_obs"][row])
                assert info["nll"] == pytest.approx(infos["final_info"]["nll"][row], rel=1e-4)
                observation, _ = env.reset()
                ends += 1
            np.testing.assert_array_equal(observation, observations[row])
        assert ends >= 4


@pytest.mark.parametrize("first", [False, True])
def test_the_shipped_world_dreams_a_row_as_it_does_alone_bit_for_bit(first):
    """In this machine's dtype of matmuls, which may round a thousand times as coarsely as float32."""
    world = WorldModel.from_pretrained("doom-hg")
    if first:
        codes, actions, signals, _ = world.starts
        beginnings = Starts(codes[:, :1], actions[:, :0], signals[:, :1])
        world.starts = world.starts._replace(first=beginnings)
    envs = DreamVectorEnv(4, world, "features", horizon=6)
    played = [envs.reset(seed=0)[0]] + [envs.step(np.arange(4))[0] for _ in range(12)]
    alone = DreamVectorEnv(1, world, "features", horizon=6)
    again = [alone.reset(seed=2)[0]] + [alone.step(np.array([2]))[0] for _ in range(12)]
    for together, single in zip(played, again, strict=True):
        np.testing.assert_array_equal(together[2], single[0])


def test_dreams_begin_with_the_requested_kind_of_starts():
    world = tiny_world(first=4)
    wanted = {"first": world.starts.first.codes[:, 0], "middle": world.starts.codes[:, -1]}

    def kinds(observations):
        found = [[kind for kind in wanted if (wanted[kind] == row).flatten(1).all(1).any()] for row in observations]
        return {kind for row in found for kind in row}

    for starts, expected in (("first", {"first"}), ("middle", {"middle"}), ("all", {"first", "middle"})):
        envs = DreamVectorEnv(12, world, "codes", starts=starts)
        assert kinds(torch.from_numpy(envs.reset(seed=0)[0])) == expected
        for once in ("first", "middle"):
            assert kinds(torch.from_numpy(envs.reset(options={"starts": once})[0])) == {once}
        assert kinds(torch.from_numpy(envs.reset()[0])) == expected
    alone = DreamEnv(world, obs="codes", starts="first")
    assert all(kinds(torch.from_numpy(alone.reset(seed=seed)[0])[None]) == {"first"} for seed in range(4))


def test_dreams_with_continuous_actions_begin_with_first_steps_too(tmp_path):
    world = box_world()
    codes, actions, signals, _ = world.starts
    world.starts = world.starts._replace(first=Starts(codes[:, :1], actions[:, :0], signals[:, :1]))
    loaded = WorldModel.from_pretrained(world.save_pretrained(tmp_path / "world"), dtype=torch.float32)
    play = np.random.default_rng(0).uniform(-1, 1, (6, 5, 2)).astype(np.float32)
    envs = DreamVectorEnv(5, loaded, "codes", horizon=2)
    seen = [envs.reset(seed=2)[0]] + [envs.step(actions)[0] for actions in play]
    for row in range(5):
        env = DreamVectorEnv(1, world, "codes", horizon=2)
        alone = [env.reset(seed=2 + row)[0]] + [env.step(actions[[row]])[0] for actions in play]
        np.testing.assert_array_equal([one[row] for one in seen], [one[0] for one in alone])


def test_a_list_of_seeds_seeds_each_row():
    envs = make()
    np.testing.assert_array_equal(envs.reset(seed=[4, 5, 6])[0], envs.reset(seed=4)[0])
    with pytest.raises(ValueError, match="a list of 3, got a list of 2"):
        envs.reset(seed=[1, 2])


def test_unseeded_resets_continue_the_sequence():
    envs = make(obs="codes")
    first = envs.reset(seed=0)[0]
    assert any(not np.array_equal(first, envs.reset()[0]) for _ in range(3))


# --- observations ----------------------------------------------------------------------------------------------------


def test_observations_are_views_of_one_dream():
    plays = {obs: play(make(obs=obs), 3)[-1][0] for obs in ("rgb", "latent", "codes", "features")}
    world = tiny_world()
    codes = torch.from_numpy(plays["codes"])
    np.testing.assert_array_equal(plays["latent"], world.tokenizer.lookup(codes))
    np.testing.assert_array_equal(plays["rgb"], world.tokenizer.decode(codes[:, None])[:, 0, -1])
    np.testing.assert_array_equal(plays["features"][..., -world.tokenizer.code_dim :], plays["latent"])


def test_without_temperature_the_seed_decides_nothing_but_the_start():
    for temperature, rows_differ in ((0.0, False), (1.0, True)):
        observations = play(make(world=tiny_world(starts=1), temperature=temperature, obs="codes"), 3)[-1][0]
        assert (len(np.unique(observations, axis=0)) > 1) == rows_differ


@pytest.mark.parametrize("obs", ["latent", "codes", "features"])
def test_frames_are_decoded_only_when_someone_looks(obs):
    world = tiny_world()

    def decode(codes):
        raise RuntimeError("decoded")

    world.tokenizer.decode = decode
    envs = make(world=world, obs=obs, horizon=2, render_mode="rgb_array")
    play(envs, 5)
    with pytest.raises(RuntimeError, match="decoded"):
        envs.render()


def test_render_shows_each_rows_last_frame():
    envs = make(render_mode="rgb_array", horizon=2)
    observations = play(envs, 2)[-1][0]
    np.testing.assert_array_equal(envs.render(), observations)
    assert make().render() == (None, None, None)


def test_rewards_are_the_models_own():
    world = tiny_world()
    seen = []
    step = world.step

    def watched(*args):
        state, out = step(*args)
        seen.append(out.reward.numpy())
        return state, out

    world.step = watched
    envs = DreamVectorEnv(3, world)
    rewards = [r for _, r, *_ in play(envs, 3)[1:]]
    np.testing.assert_array_equal(rewards, seen)
    assert rewards[0].dtype == np.float32 and len(set(np.ravel(rewards))) > 1


# --- what bad input gets ---------------------------------------------------------------------------------------------


def test_step_before_reset_is_refused():
    with pytest.raises(ResetNeeded, match=r"Call reset\(\) before step\(\)"):
        make().step(np.zeros(3, np.int64))
    with pytest.raises(ResetNeeded, match="the first reset must be of all rows"):
        make().reset(options={"reset_mask": np.array([T, F, F])})


@pytest.mark.parametrize(
    "actions", [[0, 1, 3], [0, -1, 0], [0, 1], [0.0, 1.0, 1.0], [[0], [1], [2]], None, [True, False, True], 1]
)
def test_actions_outside_the_space_are_refused(actions):
    envs = make()
    envs.reset(seed=0)
    with pytest.raises(InvalidAction, match=r"integers in \[0, 3\), of shape \(3,\); got"):
        envs.step(actions)


def test_continuous_actions_are_checked_against_their_bounds():
    envs = DreamVectorEnv(2, box_world())
    check_vector_env(DreamVectorEnv(2, box_world(), horizon=3))
    envs.reset(seed=0)
    envs.step(np.array([[1.0, -1.0], [0.0, 0.5]]))
    for bad in ([[1.5, 0.0], [0.0, 0.0]], [[np.nan, 0.0], [0.0, 0.0]], [[0.0], [0.0]]):
        with pytest.raises(InvalidAction, match=r"2 dimensions in \[\[-1"):
            envs.step(np.array(bad))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"obs": "pixels"}, r"unknown obs 'pixels'.* Valid: codes, features, latent, rgb"),
        ({"obs": "latents"}, r"Did you mean 'latent'"),
        ({"autoreset_mode": "samestep"}, r"unknown autoreset_mode 'samestep'\. Did you mean 'same_step'"),
        ({"seed_from": "start"}, r"Did you mean 'starts'"),
        ({"render_mode": "human"}, r"unknown render_mode 'human'.* Valid: rgb_array"),
        ({"horizon": 0}, r"horizon must be at least 1 step, or None"),
        ({"temperature": -0.1}, r"temperature must be 0, or from 1e-6 to 1e6"),
        ({"temperature": float("nan")}, r"temperature must be 0, or from 1e-6 to 1e6"),
        ({"num_envs": 0}, r"num_envs must be at least 1"),
        ({"split": "tset"}, r"unknown split 'tset'\. Did you mean 'test'"),
    ],
)
def test_bad_options_are_refused_with_the_valid_ones(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("make_env", [gym.make, gym.make_vec])
def test_an_unknown_option_is_refused_with_the_nearest(make_env):
    with pytest.raises(TypeError, match=r"got an unexpected keyword argument 'horizn'\. Did you mean 'horizon'\?"):
        make_env("VideoGenDream-Doom", model=tiny_world(), horizn=3)


def test_the_time_limit_of_single_envs_is_called_horizon_here():
    with pytest.raises(TypeError, match=r"argument 'max_episode_steps'\. It is called 'horizon' here"):
        gym.make_vec("VideoGenDream-Doom", num_envs=2, model=tiny_world(), max_episode_steps=3)


@pytest.mark.parametrize("device", ["gpu", "cpu:x", "cuda:99"])
def test_a_missing_device_is_refused_with_the_available_ones(tmp_path, device):
    folder = tiny_world().save_pretrained(tmp_path / "world")
    with pytest.raises(ValueError, match=rf"no device '{device}' here\..*Valid: auto, cpu"):
        DreamVectorEnv(2, folder, device=device)


def test_a_dream_is_shown_as_fast_as_its_game():
    dreams = [DreamVectorEnv(2, "doom-hg"), DreamVectorEnv(2, "push"), DreamVectorEnv(2, tiny_world())]
    assert [dream.metadata["render_fps"] for dream in dreams] == [8.75, 5.0, 8.75]
    assert DreamEnv("push").metadata["render_fps"] == 5.0 != DreamEnv.metadata["render_fps"]


def test_a_dream_is_shown_as_fast_as_its_episodes_were_recorded():
    world = tiny_world()
    world.config = dataclasses.replace(world.config, steps_per_second=3.0)
    assert DreamVectorEnv(1, world).metadata["render_fps"] == 3.0


def test_a_dream_of_an_earlier_import_of_bair_is_shown_at_ten_frames_a_second():
    world = tiny_world()  # of two frames a step
    world.config = dataclasses.replace(world.config, env_id="BAIR")
    assert DreamVectorEnv(1, world).metadata["render_fps"] == 5.0


def test_a_dream_needs_no_game():
    gym.register("GoneGame-v0", entry_point="no_such_module:Game")
    world = tiny_world()
    world.config = dataclasses.replace(world.config, env_id="GoneGame-v0")
    assert DreamVectorEnv(1, world).metadata["render_fps"] == 8.75


@pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu")])
def test_names_of_the_cpu_are_devices(device):
    assert usable_device(device).type == "cpu"


def test_an_unknown_model_is_named():
    with pytest.raises(FileNotFoundError, match="doom-hgss"):
        DreamVectorEnv(2, "doom-hgss")


@pytest.mark.parametrize("mask", [np.array([T, F]), np.array([F, F, F]), np.array([1, 0, 0]), [[T, T, T]]])
def test_bad_reset_masks_are_refused(mask):
    envs = make()
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"reset_mask must be \(3,\) bool with at least one True"):
        envs.reset(options={"reset_mask": mask})


def test_unknown_reset_options_are_refused():
    with pytest.raises(ValueError, match=r"unknown reset option 'mask'\. Did you mean 'reset_mask'"):
        make().reset(options={"mask": np.array([T, T, T])})


# --- gymnasium -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", ["VideoGenDream-Doom", "VideoGenDream/Doom-v0"])
def test_make_vec_builds_the_native_env(env_id):
    envs = gym.make_vec(env_id, num_envs=3, model=tiny_world(), obs="latent", autoreset_mode="next_step")
    assert isinstance(envs, DreamVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert envs.reset(seed=0)[0].shape == (3, 2, 2, 8)


def test_a_folder_is_a_model(tmp_path):
    tiny_world().save_pretrained(tmp_path / "world")
    envs = DreamVectorEnv(3, tmp_path / "world", device="cpu")
    assert envs.reset(seed=0)[0].shape == (3, 16, 16, 3)

"""The real games: exact seeds, honest ends, every frame of a step."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env

import worldmodel
from tests.envs.episodes import play, same
from worldmodel.envs import VizdoomEnv
from worldmodel.envs.vizdoom.scenarios import SCENARIOS
from worldmodel.media.resize import area_resize

SHIPPED = [name for name in SCENARIOS if name != "battle2"]
NOOP = 0


@pytest.fixture
def make() -> Iterator:
    """VizdoomEnv, closed after the test."""
    envs = []

    def make_env(*args, **kwargs) -> VizdoomEnv:
        envs.append(VizdoomEnv(*args, **kwargs))
        return envs[-1]

    yield make_env
    for env in envs:
        env.close()


def random_actions(env: VizdoomEnv, count: int, seed: int = 0) -> list[int]:
    """Buttons held for three steps each."""
    return np.random.default_rng(seed).integers(env.action_space.n, size=count // 3 + 1).repeat(3).tolist()[:count]


def last_step(env: VizdoomEnv, seed: int) -> dict[str, np.ndarray]:
    """An episode of standing still."""
    return play(env, [NOOP] * 1000, seed)


# What an episode looks like


@pytest.mark.vizdoom
@pytest.mark.parametrize("scenario", SHIPPED)
def test_an_episode_follows_the_time_rule(make, scenario):
    env = make(scenario)
    played = play(env, random_actions(env, 6), seed=0)
    assert played["observations"].shape[1:] == (64, 64, 3)
    assert played["frames"].shape[1:] == (2, 64, 64, 3)
    assert played["frames"].dtype == played["observations"].dtype == np.uint8
    assert played["signals"].dtype == np.float32
    assert played["signals"].shape[1:] == (len(env.signal_names),)
    assert (played["frames"][0, 0] == played["frames"][0, 1]).all()
    assert (played["observations"] == played["frames"][:, -1]).all()
    assert (played["frames"][1:, 0] != played["frames"][1:, 1]).any()


@pytest.mark.vizdoom
def test_frames_of_a_step_are_evenly_spaced(make):
    pairs, singles = make("health_gathering"), make("health_gathering", frame_skip=2, frames_per_step=1)
    actions = random_actions(pairs, 10)
    coarse, fine = play(pairs, actions, seed=3), play(singles, np.repeat(actions, 2).tolist(), seed=3)
    assert (coarse["frames"][1:].reshape(-1, 64, 64, 3) == fine["observations"][1:]).all()
    assert coarse["native_rewards"].sum() == fine["native_rewards"].sum()


@pytest.mark.vizdoom
@pytest.mark.parametrize("frames_per_step", [1, 4])
def test_the_number_of_frames_kept_does_not_change_the_game(make, frames_per_step):
    usual, other = make("health_gathering"), make("health_gathering", frames_per_step=frames_per_step)
    actions = random_actions(usual, 60)
    expected, found = play(usual, actions, seed=5), play(other, actions, seed=5)
    assert found["frames"].shape[1] == frames_per_step
    for name in ("observations", "signals", "native_rewards"):
        assert (expected[name] == found[name]).all()


@pytest.mark.vizdoom
def test_info_names_every_signal(make):
    env = make("defend_the_center")
    _, info = env.reset(seed=0)
    assert env.signal_names == ("HEALTH", "AMMO2", "KILLCOUNT")
    assert info["signals"].tolist() == [info[name] for name in env.signal_names] == [100, 26, 0]
    shoot = env.action_names.index("attack")
    for _ in range(8):
        *_, info = env.step(shoot)
    assert info["AMMO2"] < 26


@pytest.mark.vizdoom
@pytest.mark.parametrize("scenario", SHIPPED)
def test_each_action_presses_the_button_of_its_name(make, scenario):
    env = make(scenario)
    env.reset(seed=0)
    for action, name in enumerate(env.action_names):
        env.step(action)
        pressed = [str(button).split(".")[-1].lower() for button in env._game.get_available_buttons()]
        held = [button for button, value in zip(pressed, env._game.get_last_action(), strict=True) if value]
        assert held == ([] if name == "noop" else [name])


def test_actions_keep_their_order():
    # Stored episodes and trained models know actions by number only.
    assert {name: scenario.action_names for name, scenario in SCENARIOS.items()} == {
        "health_gathering": ("noop", "turn_left", "turn_right", "move_forward"),
        "health_gathering_supreme": ("noop", "turn_left", "turn_right", "move_forward"),
        "take_cover": ("noop", "move_left", "move_right"),
        "defend_the_center": ("noop", "turn_left", "turn_right", "attack"),
        "deadly_corridor": (
            *("noop", "move_left", "move_right", "attack", "move_forward", "move_backward", "turn_left", "turn_right"),
        ),
        "basic": ("noop", "move_left", "move_right", "attack"),
        "battle2": (
            *("noop", "move_forward", "move_backward", "move_left", "move_right", "turn_left", "turn_right", "attack"),
            *("move_forward+turn_left", "move_forward+turn_right", "move_forward+attack", "move_backward+attack"),
            *("move_left+attack", "move_right+attack", "turn_left+attack", "turn_right+attack"),
            *("move_forward+turn_left+attack", "move_forward+turn_right+attack"),
        ),
    }


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_action_presses_the_buttons_that_its_name_says(name):
    scenario = SCENARIOS[name]
    assert len(scenario.presses) == len(set(scenario.action_names))
    for action, pressed in zip(scenario.action_names, scenario.presses, strict=True):
        held = {button.lower() for button, down in zip(scenario.buttons, pressed, strict=True) if down}
        assert held == ({*action.split("+")} if action != "noop" else set())


@pytest.mark.vizdoom
def test_the_hud_is_shown_on_request_only(make):
    plain, with_hud = (make("basic", hud=hud, render_mode="rgb_array") for hud in (False, True))
    for env in (plain, with_hud):
        env.reset(seed=0)
    bar = with_hud.render()[-15:]
    assert (plain.render()[-15:] != bar).any(-1).mean() > 0.9
    with_hud.step(1)
    assert (with_hud.render()[-15:] == bar).all(-1).mean() > 0.9  # it stays while the player moves, but for the face


@pytest.mark.vizdoom
def test_rendering_returns_the_games_own_image(make):
    env = make("health_gathering", render_mode="rgb_array")
    env.reset(seed=0)
    observation, *_ = env.step(3)
    picture = env.render()
    assert picture.shape == (120, 160, 3)
    assert (area_resize(picture[None], 64, 64)[0] == observation).all()


# Seeds


@pytest.mark.vizdoom
@pytest.mark.parametrize("scenario", ["health_gathering_supreme", "take_cover", "deadly_corridor", "basic"])
def test_a_seed_repeats_an_episode_bit_for_bit(make, scenario):
    env, fresh = make(scenario), make(scenario)
    actions = random_actions(env, 30)
    first = play(env, actions, seed=7)
    play(env, random_actions(env, 25, seed=1), seed=8)
    assert same(first, play(env, actions, seed=7))
    assert same(first, play(fresh, actions, seed=7))
    assert not same(first, play(fresh, actions, seed=9))


@pytest.mark.vizdoom
def test_the_weapons_sway_does_not_carry_over_into_the_next_episode(make):
    env = make("deadly_corridor")
    run, aside = env.action_names.index("move_forward"), env.action_names.index("move_left")
    rested = play(env, [aside] * 6, seed=3)
    play(env, [run] * 8, seed=50)
    assert same(rested, play(env, [aside] * 6, seed=3))


@pytest.mark.vizdoom
def test_unseeded_resets_continue_from_the_seed(make):
    env, fresh = make("health_gathering"), make("health_gathering")
    series = [[play(e, [3] * 4, seed) for seed in (11, None, None)] for e in (env, fresh)]
    assert all(same(a, b) for a, b in zip(*series, strict=True))
    first, second, third = series[0]
    assert not same(first, second)
    assert not same(second, third)


# Ends


@pytest.mark.vizdoom
def test_a_time_out_truncates_and_shows_its_real_last_frame(make):
    env, longer = make("health_gathering", episode_timeout=20), make("health_gathering", episode_timeout=40)
    played, reference = play(env, [3] * 9, seed=0), play(longer, [3] * 9, seed=0)
    assert played["truncated"].tolist() == [False] * 5 + [True]
    assert not played["terminated"].any()
    assert (played["frames"] == reference["frames"][:6]).all()
    assert played["native_rewards"].sum() == 20  # 1 per tic


@pytest.mark.vizdoom
def test_a_time_out_within_a_step_cuts_the_step_short(make):
    env, reference = (
        make("health_gathering", episode_timeout=9),
        make("health_gathering", frame_skip=1, frames_per_step=1),
    )
    played, tics = play(env, [3] * 9, seed=0), play(reference, [3] * 9, seed=0)
    assert played["truncated"].tolist() == [False, False, False, True]
    assert (played["frames"][3] == tics["observations"][9]).all()  # the ninth tic, twice
    assert played["native_rewards"].tolist() == [0, 4, 4, 1]


@pytest.mark.vizdoom
def test_take_cover_has_no_time_limit_and_the_others_have_theirs(make):
    timeouts = {name: scenario.timeout for name, scenario in SCENARIOS.items()}
    assert timeouts.pop("take_cover") is None
    assert timeouts.pop("basic") == 300
    assert set(timeouts.values()) == {2100}
    played = play(make("basic"), [NOOP] * 80, seed=0)
    assert len(played["rewards"]) == 1 + 75
    assert played["truncated"][-1]
    assert played["native_rewards"].sum() == -300


@pytest.mark.vizdoom
def test_a_death_terminates_with_no_health_and_no_black_frame(make):
    played = last_step(make("health_gathering"), seed=0)
    assert played["terminated"][-1]
    assert not played["truncated"].any()
    assert played["signals"][-1, 0] == 0
    assert (played["signals"] >= 0).all()
    assert (played["frames"][-1, 1] == played["frames"][-1, 0]).all()  # died in the first tic of its last step
    assert played["frames"].mean(axis=(2, 3, 4)).min() > 10
    assert played["native_rewards"].sum() == pytest.approx(384 - 100)  # 1 per tic, and the price of dying


@pytest.mark.vizdoom
def test_a_death_in_the_last_tic_is_a_death_and_a_time_out_one_tic_earlier_is_not(make):
    fine = make("health_gathering", frame_skip=1, frames_per_step=1)
    tics = len(last_step(fine, seed=0)["rewards"]) - 1
    on_time = last_step(make("health_gathering", episode_timeout=tics), seed=0)
    assert (on_time["terminated"][-1], on_time["truncated"][-1]) == (True, False)
    just_before = last_step(make("health_gathering", episode_timeout=tics - 1), seed=0)
    assert (just_before["terminated"][-1], just_before["truncated"][-1]) == (False, True)
    assert just_before["signals"][-1, 0] > 0


@pytest.mark.vizdoom
def test_reaching_the_goal_terminates(make):
    env = make("basic")
    rng = np.random.default_rng(0)
    for seed in range(10):
        played = play(env, rng.integers(1, 4, size=75).tolist(), seed)
        if played["terminated"][-1]:
            break
    kills = played["signals"][:, env.signal_names.index("KILLCOUNT")]
    assert played["terminated"][-1]
    assert not played["truncated"].any()
    assert kills[-2:].tolist() == [0, 1]
    assert played["native_rewards"][-1] > 90


# Rewards


@pytest.mark.vizdoom
def test_health_reward_is_the_change_of_health_and_infos_keep_the_native_reward(make):
    env, native = make("health_gathering", reward="health"), make("health_gathering")
    actions = random_actions(env, 90)
    played, reference = play(env, actions, seed=2), play(native, actions, seed=2)
    changes = np.diff(played["signals"][:, 0])
    assert played["rewards"][1:] == pytest.approx(changes / 10)
    assert (changes < 0).any()
    assert (reference["rewards"] == reference["native_rewards"]).all()
    assert (played["native_rewards"] == reference["rewards"]).all()


@pytest.mark.vizdoom
def test_a_hit_costs_as_much_health_reward_as_it_takes(make):
    env = make("take_cover", reward="health")
    for seed in range(20):
        played = last_step(env, seed)
        changes = np.diff(played["signals"][:, 0])
        if changes.min() < -30:
            break
    assert changes.min() < -30
    assert played["rewards"][1:].min() == pytest.approx(changes.min() / 10)


# Gymnasium's contract


@pytest.mark.vizdoom
@pytest.mark.parametrize("name", ["DoomHealthGathering", "DoomDeadlyCorridor"])
def test_gymnasiums_and_sb3s_checkers_pass(name):
    from stable_baselines3.common.env_checker import check_env as sb3_check_env

    env = gym.make(f"VideoGenReal-{name}", render_mode="rgb_array").unwrapped
    check_env(env)
    sb3_check_env(env)
    env.close()


@pytest.mark.vizdoom
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_gymnasium_makes_a_vector_env_of_it(make, mode):
    envs = gym.make_vec("VideoGenReal-DoomHealthGathering", num_envs=2, vectorization_mode=mode)
    try:
        _, info = envs.reset(seed=4)
        assert info["frames"].shape == (2, 2, 64, 64, 3)
        observations, rewards, *_ = envs.step(np.array([3, 1]))
    finally:
        envs.close()
    for row, action in enumerate((3, 1)):
        played = play(make("health_gathering", reward="health"), [action], seed=4 + row)
        assert (observations[row] == played["observations"][1]).all()
        assert rewards[row] == played["rewards"][1]


@pytest.mark.vizdoom
def test_a_step_needs_a_running_episode(make):
    env = make("basic", episode_timeout=4)
    with pytest.raises(ResetNeeded, match="Call reset"):
        env.step(NOOP)
    env.reset()
    env.step(NOOP)
    with pytest.raises(ResetNeeded, match="Call reset"):
        env.step(NOOP)


@pytest.mark.vizdoom
@pytest.mark.parametrize("action", [4, -1, 0.0, None, [1]])
def test_an_action_outside_the_space_is_refused(make, action):
    env = make("basic")
    env.reset(seed=0)
    with pytest.raises(InvalidAction, match="0 noop, 1 move_left, 2 move_right, 3 attack; got"):
        env.step(action)


@pytest.mark.vizdoom
def test_an_env_can_be_closed_twice_and_started_again(make):
    env = make("basic")
    first = play(env, [1, 2], seed=0)
    env.close()
    env.close()
    with pytest.raises(ResetNeeded):
        env.step(NOOP)
    assert same(first, play(env, [1, 2], seed=0))


@pytest.mark.vizdoom
def test_nothing_is_left_in_the_working_folder_or_printed(make, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    env = make("basic")
    env.reset(seed=0)
    assert Path.cwd() == tmp_path
    env.step(NOOP)
    env.close()
    assert os.listdir(tmp_path) == []
    assert capfd.readouterr() == ("", "")


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenario": "health_gatering"}, "unknown scenario 'health_gatering'. Did you mean 'health_gathering'?"),
        ({"scenario": None}, "unknown scenario None. Valid: basic, battle2"),
        ({"reward": "helth"}, "unknown reward 'helth'. Did you mean 'health'? Valid: health, native"),
        ({"frame_skip": 3}, "frame_skip must be a multiple of frames_per_step, both at least 1, got frame_skip=3"),
        ({"frame_skip": 0}, "got frame_skip=0 and frames_per_step=2"),
        ({"frames_per_step": 0}, "got frame_skip=4 and frames_per_step=0"),
        ({"episode_timeout": 0}, "episode_timeout must be at least 1 tic, or None, got 0"),
        ({"render_mode": "human"}, "unknown render_mode 'human'. Valid: rgb_array"),
    ],
)
def test_a_wrong_value_is_refused_with_the_valid_ones(options, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        VizdoomEnv(**options)


def test_an_unknown_option_is_refused_with_the_nearest_one():
    message = r"unexpected keyword argument 'frameskip'. Did you mean 'frame_skip'\? Valid: episode_timeout"
    with pytest.raises(TypeError, match=message):
        VizdoomEnv(frameskip=4)


def test_the_real_ids_make_their_scenarios():
    made = {
        "Doom": ("health_gathering_supreme", "health"),
        "DoomHealthGathering": ("health_gathering", "health"),
        "DoomTakeCover": ("take_cover", "health"),
        "DoomDefendTheCenter": ("defend_the_center", "native"),
        "DoomDeadlyCorridor": ("deadly_corridor", "native"),
        "DoomBasic": ("basic", "native"),
    }
    for name, expected in made.items():
        for env_id in (f"VideoGenReal-{name}", f"VideoGenReal/{name}-v0"):
            env = gym.make(env_id).unwrapped
            assert (env.scenario, env.reward_kind) == expected
            assert env.action_spec.to_gym() == env.action_space
            env.close()


@pytest.mark.parametrize("package", ["envs", "agents", "training"])
def test_the_folders_refuse_to_be_imported_under_their_bare_names(package, monkeypatch):
    monkeypatch.syspath_prepend(Path(worldmodel.__file__).parent.parent)
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(ImportError, match=f"import worldmodel.{package}"):
        importlib.import_module(package)

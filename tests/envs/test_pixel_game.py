"""Any Gymnasium env as a game: its pictures, its rewards, its ends."""

import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env

from worldmodel.data import EpisodeStorage
from worldmodel.envs import PixelGame
from worldmodel.errors import OutsideError
from worldmodel.media.resize import area_resize
from worldmodel.training.collect.collect import collect
from worldmodel.training.collect.stats import RETURNS, read_returns

GAME_ID = "tests.envs.test_pixel_game:Counting-v0"


class Counting(gym.Env):
    """Shows its number of steps, which is also the reward; ends after `length` steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 12}  # noqa: RUF012

    def __init__(self, length=5, channels=3, truncates=False, shows=True, action_space=None, render_mode=None):
        self.length, self.truncates, self.render_mode = length, truncates, render_mode
        picture = gym.spaces.Box(0, 255, (24, 32, channels), np.uint8)
        self.observation_space = picture if shows else gym.spaces.Discrete(99)
        self.action_space = action_space or gym.spaces.Discrete(3)
        self.shows, self.channels = shows, channels

    def render(self):
        return np.full((24, 32, self.channels), 10 * self.count + self.shade, np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.shade = 0, int(self.np_random.integers(5))
        return self.render() if self.shows else 0, {"score": -1.0}

    def step(self, action):
        self.count += 1
        over = self.count == self.length
        observation = self.render() if self.shows else self.count
        info = {"score": 2.0 * self.count}
        return observation, float(self.count), over and not self.truncates, over and self.truncates, info


TELLING = {"score": lambda env, info: info["score"], "torch": lambda env, info: "torch" in sys.modules}
gym.register("Counting-v0", entry_point=lambda: PixelGame(Counting(), size=(12, 16), signals=TELLING))


NAN_ID = "tests.envs.test_pixel_game:Nan-v0"
NOT_A_NUMBER = {"score": lambda env, info: float("nan")}
gym.register("Nan-v0", entry_point=lambda: PixelGame(Counting(), size=(12, 16), signals=NOT_A_NUMBER))


def game(options=None, **of_env) -> PixelGame:
    return PixelGame(Counting(**of_env), **{"size": (12, 16)} | (options or {}))


def counts(frames, shade):
    return ((frames[:, 0, 0, 0].astype(int) - shade) // 10).tolist()


def test_gymnasiums_checker_passes():
    check_env(game(), skip_render_check=True)


def test_a_step_repeats_its_action_and_keeps_evenly_spaced_pictures():
    played = game({"frame_skip": 4}, length=99)
    first, info = played.reset(seed=1)
    shade = played.game.shade
    assert info["frames"].shape == (2, 12, 16, 3) and counts(info["frames"], shade) == [0, 0]
    observation, reward, *_, info = played.step(0)
    assert counts(info["frames"], shade) == [2, 4] and reward == info["native_reward"] == 1 + 2 + 3 + 4
    assert np.array_equal(observation, info["frames"][-1]) and not np.array_equal(observation, first)
    assert played.metadata["render_fps"] == 3


@pytest.mark.parametrize("truncates", [False, True])
def test_an_episode_that_ends_within_a_step_is_rewarded_until_its_end_and_repeats_the_last_frame(truncates):
    played = game({"frame_skip": 4}, length=5, truncates=truncates)
    played.reset(seed=1)
    played.step(0)
    _, reward, terminated, truncated, info = played.step(0)
    assert counts(info["frames"], played.game.shade) == [5, 5] and reward == 5
    assert (terminated, truncated) == (not truncates, truncates)
    with pytest.raises(ResetNeeded):
        played.step(0)


def test_equal_seeds_give_equal_episodes():
    played = game()
    looks = [played.reset(seed=seed)[0] for seed in (3, 3, 4)]
    assert np.array_equal(looks[0], looks[1]) and not np.array_equal(looks[0], looks[2])


def test_games_without_a_seed_differ():
    looks = {game().reset()[0].tobytes() for _ in range(30)}
    assert len(looks) > 1


def test_images_come_from_render_if_observations_are_not_images():
    drawn = game({"size": None}, shows=False, render_mode="rgb_array")
    drawn.reset(seed=1)
    _, _, _, _, info = drawn.step(0)
    assert info["frames"].shape == (2, 24, 32, 3) and counts(info["frames"], drawn.game.shade) == [1, 2]


class Drawing(Counting):
    """Its render() shows the `pictures`."""

    def __init__(self, picture):
        super().__init__(shows=False, render_mode="rgb_array")
        self.picture = picture

    def render(self):
        return self.picture


SHADES = np.arange(0, 240, 10, dtype=np.uint8).repeat(32 * 3).reshape(24, 32, 3)


@pytest.mark.parametrize(
    "picture", [SHADES / 255, (SHADES / 255).astype(">f4"), SHADES.astype(int), SHADES.astype(np.uint16) * 257]
)
def test_images_of_other_dtypes_keep_their_brightness(picture):
    drawn = PixelGame(Drawing(picture), size=None)
    assert np.array_equal(drawn.reset()[0], SHADES)


def test_masks_and_gray_images_without_a_channel_axis_are_accepted():
    drawn = PixelGame(Drawing(SHADES[..., 0] > 100), size=None)
    assert np.array_equal(drawn.reset()[0][..., 0], np.where(SHADES[..., 0] > 100, 255, 0))


@pytest.mark.parametrize("picture", [SHADES.astype(float), SHADES - 100.0, SHADES / np.nan])
def test_images_of_ambiguous_brightness_are_refused(picture):
    with pytest.raises(ValueError, match=r"the env's render\(\): pixels .*uint8 in \[0, 255\]"):
        PixelGame(Drawing(picture), size=None)


def test_images_are_shrunk_by_area():
    played = game()
    _, info = played.reset(seed=2)
    assert np.array_equal(info["frames"], area_resize(np.stack([played.game.render()] * 2), 12, 16))
    assert np.array_equal(played.render(), played.game.render())


def test_gray_images_stay_gray():
    played = game(channels=1)
    assert played.reset(seed=0)[0].shape == (12, 16, 1)


def test_signals_come_from_info_or_from_functions():
    played = game({"signals": {"count": lambda env, info: env.count, "twice": lambda env, info: info["score"]}})
    _, info = played.reset(seed=0)
    assert info["signals"].tolist() == [0, -1] and info["signals"].dtype == np.float32
    _, _, _, _, info = played.step(0)
    assert info["signals"].tolist() == [2, 4] and info["twice"] == 4 and played.signal_names == ("count", "twice")


@pytest.mark.parametrize(
    ("options", "of_env", "message"),
    [
        ({"frame_skip": 3}, {}, "multiple of frames_per_step"),
        ({"size": (64, 64)}, {}, "can be shrunk, not enlarged"),
        ({"size": (0, 5)}, {}, "can be shrunk"),
        ({}, {"channels": 4}, "1 or 3 channels"),
        ({}, {"shows": False}, 'render_mode="rgb_array"'),
        (
            {},
            {"action_space": gym.spaces.Dict(a=gym.spaces.Discrete(2))},
            "must be Discrete, MultiBinary, .*TransformAction",
        ),
        ({"signals": ["score", "score"]}, {}, "names of signals must be different"),
        ({"signals": {"frames": "score"}}, {}, "a signal cannot be called 'frames'"),
        ({"signals": {"entropy": "score"}}, {}, "a signal cannot be called 'entropy'"),  # a dream's own
        ({"signals": ["_score"]}, {}, "a signal cannot be called '_score'.*masks"),
        ({"action_names": ["left"]}, {}, "one for each of the 3 actions"),
        ({"action_names": ["left", "right", "left"]}, {}, "names of actions must be different"),
    ],
)
def test_envs_and_options_that_do_not_fit_are_refused(options, of_env, message):
    with pytest.raises(ValueError, match=message):
        game(options, **of_env)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 64}, r"size is \(height, width\) in pixels, or None, got 64"),
        ({"size": (12, 16, 3)}, "size is"),
        ({"size": (12.0, 16.0)}, "size is"),
        ({"signals": "score"}, r"list of names, such as \['score'\], got the string 'score'"),
        ({"signals": {"count": 3}}, "signal 'count' must be a name in info, or a function of env and info; got 3"),
    ],
)
def test_options_of_the_wrong_type_are_refused(options, message):
    with pytest.raises(TypeError, match=message):
        game(options)


def test_a_signal_may_be_renamed():
    _, info = game({"signals": {"points": "score"}}).reset(seed=0)
    assert info["points"] == -1


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.zeros(3), TypeError),
        (np.zeros(1), TypeError),
        ("3", TypeError),
        (None, TypeError),
        (np.nan, ValueError),
        (-np.inf, ValueError),
    ],
)
def test_a_signal_that_is_not_a_finite_number_is_named(value, error):
    with pytest.raises(error, match="signal 'odd' must be "):
        game({"signals": {"odd": lambda env, info: value}}).reset(seed=0)


def test_a_collection_that_fails_at_once_reports_it_in_one_line_and_leaves_no_store(tmp_path):
    with pytest.raises(OutsideError, match=r"Its error: ValueError: signal 'score' must be finite, got nan$") as raised:
        collect(NAN_ID, tmp_path / "data", episodes=3, policy="random", workers=1)
    assert "\n" not in str(raised.value) and not (tmp_path / "data").exists()


def test_a_signal_that_info_lacks_is_named():
    with pytest.raises(ValueError, match="info has no 'lives', it holds score"):
        game({"signals": ["lives"]}).reset(seed=0)


def test_it_can_be_recorded_like_any_game(tmp_path):
    collect(GAME_ID, tmp_path, episodes=3, policy="random", workers=1)
    store = EpisodeStorage.open(tmp_path)
    assert (
        store.info.signal_names == ("score", "torch") and store.info.frames_per_step == 2 and store.lengths == [3, 3, 3]
    )
    played = store.episode(0)
    assert played.signals[:, 0].tolist() == [-1, 4, 8, 10] and played.rewards.tolist() == [3, 7, 5]
    assert not played.signals[:, 1].any(), "a process that plays a game to record it has no use for torch"
    assert read_returns(tmp_path / RETURNS) == dict.fromkeys(range(3), 15.0)


class Scripted(gym.Env):
    """Its steps are those given, each (picture, reward, terminated, truncated, info); render() shows the picture."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space, render_mode = gym.spaces.Discrete(1), "rgb_array"

    def __init__(self, steps, first=None, action_space=None):
        self.steps, self.first, self.acted = list(steps), GRAY if first is None else first, []
        self.action_space = action_space or gym.spaces.Discrete(2)

    def render(self):
        return self.picture

    def reset(self, *, seed=None, options=None):
        self.picture, self.left = self.first, list(self.steps)
        return 0, {}

    def step(self, action):
        self.acted.append(action)
        self.picture, *rest = self.left.pop(0)
        return (0, *rest)


GRAY, WHITE, BLACK = (np.full((12, 16, 3), level, np.uint8) for level in (100, 255, 0))


def played_to_its_end(*steps, frame_skip=2, **of_env):
    """The last step of a scripted game."""
    env = PixelGame(Scripted(steps, **of_env), size=None, frame_skip=frame_skip, frames_per_step=2)
    env.reset(seed=0)
    while True:
        step = env.step(0)
        if step[2] or step[3]:
            return step


@pytest.mark.parametrize("nothing", [None, BLACK])
@pytest.mark.parametrize(("frame_skip", "kept"), [(2, WHITE), (4, GRAY)])
def test_an_end_that_shows_nothing_repeats_the_last_image(nothing, frame_skip, kept):
    *_, info = played_to_its_end((WHITE, 1.0, False, False, {}), (nothing, 0.0, True, False, {}), frame_skip=frame_skip)
    np.testing.assert_array_equal(info["frames"], [kept, kept])


def test_a_black_image_within_an_episode_is_kept():
    env = PixelGame(Scripted([(BLACK, 0.0, False, False, {}), (GRAY, 0.0, True, False, {})]), size=None)
    env.reset(seed=0)
    assert [frame[0, 0, 0] for frame in env.step(0)[-1]["frames"]] == [0, 100]


def test_terminated_and_truncated_together_is_a_termination():
    _, _, terminated, truncated, _ = played_to_its_end((WHITE, 0.0, True, True, {}))
    assert (terminated, truncated) == (True, False)


def test_terminated_and_truncated_together_is_a_truncation_in_vizdooms_own_envs(monkeypatch):
    """They report every end as terminated, and an end by their clock also as truncated."""
    monkeypatch.setattr(Scripted, "__module__", "vizdoom.gymnasium_wrapper.gymnasium_env_defns")
    _, _, terminated, truncated, _ = played_to_its_end((WHITE, 0.0, True, True, {}))
    assert (terminated, truncated) == (False, True)
    _, _, terminated, truncated, _ = played_to_its_end((WHITE, 0.0, True, False, {}))
    assert (terminated, truncated) == (True, False)


@pytest.mark.parametrize("reward", [2, np.float64(2), np.array([2.0]), np.array(2), np.bool_(True)])
def test_rewards_may_be_any_scalar(reward):
    _, total, *_ = played_to_its_end((WHITE, reward, True, False, {}))
    assert type(total) is float and total == float(np.asarray(reward).item())


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        ((WHITE, np.nan, False, False, {}), ValueError, "the env's reward must be finite, got nan"),
        ((WHITE, -np.inf, False, False, {}), ValueError, "the env's reward must be finite"),
        ((WHITE, 1e39, False, False, {}), ValueError, "the env's reward must be finite"),
        ((WHITE, None, False, False, {}), TypeError, "the env's reward must be a number, got None"),
        ((WHITE, 1j, False, False, {}), TypeError, "the env's reward must be a number"),
        ((WHITE, np.zeros(2), False, False, {}), TypeError, "the env's reward must be a number"),
        ((WHITE, 0.0, None, False, {}), TypeError, "the env's terminated must be True or False, got None"),
        ((WHITE, 0.0, False, "no", {}), TypeError, "the env's truncated must be True or False, got 'no'"),
        (
            (WHITE, 0.0, False, np.zeros(2, bool), {}),
            TypeError,
            r"truncated must be .*, got an array \(2,\)",
        ),
        ((WHITE, 0.0, False, False, None), TypeError, "the env's info must be a dict, got None"),
        ((WHITE, 0.0, False, {}), TypeError, r"step must return \(observation, .*got 4 values; is it .* old gym"),
        ((None, 0.0, False, False, {}), ValueError, r"the env's render\(\) must be one image.* got None"),
        (([WHITE], 0.0, False, False, {}), ValueError, r"render\(\) must be one image.* got a list of 1"),
        (
            (WHITE[:6], 0.0, False, False, {}),
            ValueError,
            r"\(12, 16, 3\) as before, got an array \(6, 16, 3\)",
        ),
        ((WHITE[..., :1], 0.0, False, False, {}), ValueError, r"as before, got an array \(12, 16, 1\)"),
        ((WHITE.astype(float), 0.0, False, False, {}), ValueError, r"floats must be in \[0, 1\]"),
    ],
)
def test_violations_of_gymnasiums_rules_are_named(step, error, message):
    with pytest.raises(error, match=message):
        played_to_its_end(step)


def test_a_reset_written_for_the_old_gym_is_named():
    class Old(Scripted):
        def reset(self, **kwargs):
            return super().reset()[0]

    with pytest.raises(TypeError, match=r"reset must return \(observation, info\), got 0; .* old gym"):
        PixelGame(Old([]))


def test_a_game_that_is_not_a_gymnasium_env_is_named():
    with pytest.raises(TypeError, match=r"wraps a gymnasium\.Env, got a builtins\.object"):
        PixelGame(object())


@pytest.mark.parametrize(
    ("space", "wanted"),
    [
        (gym.spaces.Discrete(2, start=-1), -1),
        (gym.spaces.Discrete(2, dtype=np.int32), 0),
        (gym.spaces.MultiBinary(2), [0, 0]),
        (gym.spaces.Box(0, 5, (2,), np.int32), None),
    ],
)
def test_every_action_that_reaches_the_game_is_in_its_space(space, wanted):
    env = PixelGame(Scripted([(GRAY, 0.0, False, False, {})] * 2, action_space=space), size=None)
    env.reset(seed=0)
    env.step(env.action_space.sample() if wanted is None else 0)
    assert len(env.game.acted) == 2 and all(space.contains(action) for action in env.game.acted)
    if wanted is not None:
        np.testing.assert_array_equal(env.game.acted[0], wanted)


def test_invalid_actions_are_refused_before_the_game_steps():
    env = PixelGame(Scripted([]), size=None)
    env.reset(seed=0)
    with pytest.raises(InvalidAction, match=r"integers in \[0, 2\)"):
        env.step(2)
    assert not env.game.acted

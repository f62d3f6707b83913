"""Env options from the command line: how a text is parsed, and which names an env takes."""

import gymnasium as gym
import pytest

from tests.training.counting_game import GAME_ID
from worldmodel.training.collect.env_options import check_options, parse_options


def test_values_are_parsed_as_json_or_strings():
    texts = ["reward=health", "frame_skip=4", "hud=true", "episode_timeout=None", "speed=0.5", "map=a=b", "size=[8, 8]"]
    assert parse_options(texts) == {
        "reward": "health",
        "frame_skip": 4,
        "hud": True,
        "episode_timeout": None,
        "speed": 0.5,
        "map": "a=b",
        "size": [8, 8],
    }
    assert parse_options([]) == {}


@pytest.mark.parametrize("text", ["frame_skip", "=4", "frame skip=4"])
def test_a_text_that_is_not_an_option_is_refused_with_the_expected_form(text):
    with pytest.raises(ValueError, match="NAME=VALUE, such as frame_skip=4"):
        parse_options([text])


def test_an_option_given_twice_is_refused():
    with pytest.raises(ValueError, match="'hud' is given twice"):
        parse_options(["hud=true", "hud=false"])


@pytest.mark.parametrize("value", ["[" * 100_000, "9" * 5_000])
def test_a_value_that_json_cannot_hold_is_refused_by_the_options_name(value):
    with pytest.raises(ValueError, match=r"env option 'size' cannot be read .*; for a text, put it in double quotes"):
        parse_options([f"size={value}"])


def test_an_unknown_option_gives_the_nearest_and_all_valid_ones():
    check_options("VideoGenReal-Doom", ["frame_skip", "hud"])
    with pytest.raises(TypeError, match=r"Did you mean 'frame_skip'\? Valid: .*episode_timeout.*hud.*reward"):
        check_options("VideoGenReal-Doom", ["frameskip"])


def test_a_users_game_is_found_by_its_module():
    check_options(GAME_ID, ["step_seconds"])
    with pytest.raises(TypeError, match=r"no option 'sleep'\. Valid: fails, labels, step_seconds"):
        check_options(GAME_ID, ["sleep"])


@pytest.mark.parametrize("options", [[], ["sleep"]])
def test_an_unknown_game_is_refused_with_the_way_to_name_ones_own(options):
    with pytest.raises(gym.error.NameNotFound, match="as in my_games:NoSuchGame-v0"):
        check_options("NoSuchGame-v0", options)

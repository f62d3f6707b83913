"""The best known blind policies: of registered games, playable there, and those of the results page."""

import re
from pathlib import Path

import gymnasium as gym
import pytest

import worldmodel  # noqa: F401 (registers the games)
from worldmodel.agents.blind.known import BEST_BLIND, best_blind
from worldmodel.agents.blind.policies import scripted_policy
from worldmodel.data import ActionSpec
from worldmodel.envs.vizdoom.scenarios import SCENARIOS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "results" / "agents.md"


@pytest.mark.parametrize("env_id", BEST_BLIND)
def test_a_known_policy_plays_its_game(env_id):
    names = SCENARIOS[gym.spec(env_id).kwargs["scenario"]].action_names
    scripted_policy(BEST_BLIND[env_id], ActionSpec(kind="discrete", n=len(names), names=names)).act([0])


def test_the_results_page_names_the_same_policies():
    shown = dict(
        re.findall(r"^\| (\w+) \| `((?:cycle|constant):[^`]*)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert shown == {gym.spec(env_id).kwargs["scenario"]: policy for env_id, policy in BEST_BLIND.items()}


def test_a_game_is_found_by_any_of_its_ids_and_others_have_none():
    policy = best_blind("VideoGenReal-DoomTakeCover")
    assert policy == best_blind("worldmodel:VideoGenReal/DoomTakeCover-v0") == "cycle:move_left*24,move_right*32"
    assert best_blind("CartPole-v1") is best_blind("VideoGenReal-Push") is None

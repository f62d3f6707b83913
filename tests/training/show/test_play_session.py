"""What keys and messages do in a game or a dream."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import tiny_world
from tests.toy_game import ToyGame
from worldmodel.agents.scripted import RandomPolicy
from worldmodel.data import ActionSpec
from worldmodel.envs import DreamEnv
from worldmodel.training.show import play_session
from worldmodel.training.show.play_keys import Keys
from worldmodel.training.show.play_session import Session
from worldmodel.training.show.scenes import DreamScene, GameScene

DOOM = ActionSpec(kind="discrete", n=4, names=("noop", "turn_left", "attack", "open"))
HAND = ActionSpec(kind="box", n=2, names=("dx", "dy"), low=(-0.5, 0.0), high=(0.5, 1.0))


class LongGame(ToyGame):
    signal_names = ("HEALTH",)

    def reset(self, **options):
        observation, info = super().reset(**options)
        self.left = 1000
        return observation, info | {"HEALTH": 1050.0}


def game_scene() -> GameScene:
    return GameScene(LongGame(), LongGame().action_spec)


def dream_scene(policy: bool = False, **options) -> DreamScene:
    dream = DreamEnv(tiny_world(), "codes", **options)
    return DreamScene(dream, RandomPolicy(dream.model.config.action) if policy else None)


def session(tmp_path, **scenes) -> Session:
    return Session(scenes, tmp_path)


def do(player: Session, what: str, *keys: str):
    return player.answer({"do": what, "keys": list(keys)})


@pytest.mark.parametrize(
    ("held", "action"),
    [([], 0), (["Space"], 2), (["KeyA"], 1), (["ArrowLeft", "Space"], 2), (["Digit3"], 3), (["KeyZ"], 0)],
)
def test_the_last_key_pressed_chooses_a_named_action(held, action):
    assert Keys(DOOM).action(held) == action


def test_actions_beyond_the_digits_have_a_button():
    keys = Keys(ActionSpec(kind="discrete", n=18))
    assert keys.bindings[17] == (("Action17",), "action 17") and keys.action(["Action17"]) == 17


def test_unnamed_actions_have_digits():
    keys = Keys(ActionSpec(kind="discrete", n=3))
    assert keys.action([]) == 0 and keys.action(["Digit2"]) == 2
    assert [label for _, label in keys.bindings] == ["action 0", "action 1", "action 2"]


def test_pairs_of_keys_move_numbers_to_their_bounds():
    keys = Keys(HAND)
    assert keys.action([]).tolist() == [0.0, 0.0] and keys.action([]).dtype == np.float32
    assert keys.action(["ArrowRight", "ArrowUp"]).tolist() == [0.5, 1.0]
    assert keys.action(["ArrowLeft"]).tolist() == [-0.5, 0.0]
    assert [label for _, label in keys.bindings] == ["dx -", "dx +", "dy -", "dy +"]


def test_an_action_of_more_numbers_than_keys_is_refused():
    with pytest.raises(ValueError, match="5 numbers"):
        Keys(ActionSpec(kind="box", n=6, low=(-1.0,) * 6, high=(1.0,) * 6))


def test_a_step_shows_its_frames_and_numbers(tmp_path):
    player = session(tmp_path, game=game_scene)
    words, begun = do(player, "show")
    assert words["numbers"] == {"step": 0, "reward": 0.0, "return": 0.0, "native return": 0.0, "HEALTH": 1050.0}
    assert not words["dream"] and words["shape"] == begun.shape == (2, 16, 16, 3)
    words, frames = do(player, "step", "Digit1")
    assert words["numbers"]["step"] == 1 and not np.array_equal(frames, begun)
    assert "surprise, nats" not in words["numbers"]


def test_keys_decide_what_is_dreamt(tmp_path):
    def total(*keys):
        player = session(tmp_path, dream=dream_scene)
        return [do(player, "step", *keys)[0]["numbers"]["return"] for _ in range(3)]

    assert total("ArrowLeft") == total("ArrowLeft")  # no name of an action here: as no key
    assert total("Digit1") == total("Digit1") != total("Digit2")


def test_an_ended_episode_waits_for_the_next(tmp_path):
    player = session(tmp_path, dream=lambda: dream_scene(horizon=2))
    assert [do(player, "step")[0]["ended"] for _ in range(4)] == ["", "truncated", "truncated", "truncated"]
    assert do(player, "begin")[0]["numbers"]["step"] == 0


def test_back_takes_a_dream_back_and_no_game(tmp_path):
    player = session(tmp_path, dream=dream_scene, game=game_scene)
    for _ in range(12):
        do(player, "step")
    words, _ = do(player, "back")
    assert (words["note"], words["numbers"]["step"]) == ("9 steps back", 3)
    do(player, "next")
    do(player, "step")
    words, _ = do(player, "back")
    assert "does not go back" in words["note"] and words["numbers"]["step"] == 1


def test_an_agent_plays_until_a_key_is_held(tmp_path):
    def played(*keys):
        player = session(tmp_path, dream=lambda: dream_scene(policy=True))
        assert do(player, "agent")[0]["agent"]
        return [do(player, "step", *keys)[0]["numbers"]["return"] for _ in range(6)]

    idle = session(tmp_path, dream=lambda: dream_scene(policy=True))
    alone = [do(idle, "step")[0]["numbers"]["return"] for _ in range(6)]  # nobody: no key, no agent
    assert played() != alone and played("Digit0") == alone


def test_without_an_agent_there_is_none_to_play(tmp_path):
    words, _ = do(session(tmp_path, dream=dream_scene), "agent")
    assert "--agent" in words["note"] and not words["agent"] and not words["has_agent"]


def test_a_dream_after_its_game_goes_on_from_there(tmp_path):
    player = session(tmp_path, game=game_scene, dream=dream_scene)
    health = [do(player, "step")[0]["numbers"]["HEALTH"] for _ in range(5)][-1]
    words, _ = do(player, "next")
    assert words["dream"] and words["note"] == "the dream goes on from the game"
    assert words["numbers"]["HEALTH"] == health


def test_a_dream_after_an_ended_game_begins_in_its_own_starts(tmp_path):
    class Ended(LongGame):
        def step(self, action):
            observation, reward, _, _, info = super().step(action)
            return observation, reward, True, False, info

    player = session(tmp_path, game=lambda: GameScene(Ended(), Ended().action_spec), dream=dream_scene)
    assert do(player, "step")[0]["ended"] == "terminated"
    words, _ = do(player, "next")
    assert words["dream"] and words["note"] == "" and not words["ended"]


def test_a_dream_in_color_begins_in_its_own_starts_after_a_gray_game(tmp_path):
    class Gray(LongGame):
        def _look(self, native_reward):
            observation, info = super()._look(native_reward)
            return observation, info | {"frames": info["frames"][..., :1]}

    player = session(tmp_path, game=lambda: GameScene(Gray(), Gray().action_spec), dream=dream_scene)
    words, _ = do(player, "next")
    assert words["dream"] and words["note"] == ""


def test_a_dream_of_another_game_begins_in_its_own_starts(tmp_path):
    class Other(LongGame):
        signal_names = ("AMMO",)

        def _look(self, native_reward):
            observation, info = super()._look(native_reward)
            return observation, info | {"AMMO": 3.0}

    player = session(tmp_path, game=lambda: GameScene(Other(), Other().action_spec), dream=dream_scene)
    assert do(player, "next")[0]["note"] == ""


def test_a_scene_that_cannot_be_opened_is_passed_over(tmp_path):
    def broken():
        raise FileNotFoundError("it is gone")

    player = session(tmp_path, bad=broken, game=game_scene, worse=broken, dream=dream_scene)
    with pytest.raises(FileNotFoundError):
        do(player, "show")
    words, _ = do(player, "next")
    assert words["name"] == "game"
    words, _ = do(player, "next")
    assert words["name"] == "dream" and "worse cannot be opened: it is gone; the dream goes on" in words["note"]
    assert do(player, "next")[0]["name"] == "game"


def test_numbers_that_json_cannot_tell_are_told_in_words(tmp_path):
    class Endless(LongGame):
        def step(self, action):
            observation, _, *ends, info = super().step(action)
            return observation, math.inf, *ends, info

    player = session(tmp_path, game=lambda: GameScene(Endless(), Endless().action_spec))
    words, _ = do(player, "step")
    assert words["numbers"]["reward"] == "inf" and json.dumps(words, allow_nan=False)


def test_clips_of_two_players_do_not_meet(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(play_session, "write_video", lambda path, *_, **__: written.append(path))
    players = [session(tmp_path, dream=dream_scene) for _ in range(2)]
    assert [do(player, "save")[0]["note"] for player in players] == [f"saved {path}" for path in written]
    assert [path.name for path in written] == ["clip-001.mp4", "clip-002.mp4"]

    def failing(*_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr(play_session, "write_video", failing)
    with pytest.raises(OSError, match="full"):
        do(players[0], "save")
    assert len(list(tmp_path.iterdir())) == 2


def test_clips_are_saved_where_the_server_was_started(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    player = Session({"dream": dream_scene}, Path("clips"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # as while a game starts
    assert str(tmp_path / "clips") in do(player, "save")[0]["note"]


def test_a_clip_holds_the_episode_without_what_was_taken_back(tmp_path):
    from moviepy import VideoFileClip

    player = session(tmp_path, dream=dream_scene)
    for _ in range(12):
        do(player, "step")
    do(player, "back")
    words, _ = do(player, "save")
    assert words["note"] == f"saved {tmp_path / 'clip-001.mp4'}"
    assert do(player, "save")[0]["note"] == f"saved {tmp_path / 'clip-002.mp4'}"
    with VideoFileClip(str(tmp_path / "clip-001.mp4")) as clip:
        assert clip.n_frames == 2 * 4 and clip.size == [64, 64]


@pytest.mark.parametrize("message", [{}, {"do": "nonsense"}, {"do": ["step"]}, {"do": "step", "keys": "KeyA"}])
def test_messages_that_mean_nothing_are_refused(message, tmp_path):
    with pytest.raises(ValueError, match=r"must (do one of|be a list)"):
        session(tmp_path, dream=dream_scene).answer(message)


def test_closing_closes_what_was_opened(tmp_path):
    closed = []

    class Closing(LongGame):
        def close(self):
            closed.append(self)

    def opened():
        return GameScene(Closing(), Closing().action_spec)

    player = session(tmp_path, a=opened, b=opened, c=opened)
    do(player, "show")
    do(player, "next")
    player.close()
    assert len(closed) == 2


def test_a_folder_full_of_clips_takes_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(play_session, "_MOST_CLIPS", 1)
    player = session(tmp_path, dream=dream_scene)
    do(player, "show")
    assert do(player, "save")[0]["note"].startswith("saved")
    assert "not saved" in do(player, "save")[0]["note"]
    assert [path.name for path in tmp_path.glob("clip-*")] == ["clip-001.mp4"]

"""What the page's messages do in a game or a dream."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import tiny_world
from tests.toy_game import ToyGame
from worldmodel.agents.scripted import RandomPolicy
from worldmodel.data import ActionSpec
from worldmodel.envs import DreamEnv
from worldmodel.training.show import play
from worldmodel.training.show.play.keys import Keys
from worldmodel.training.show.play.player import Wheel
from worldmodel.training.show.play.session import Session
from worldmodel.training.show.play.timeline import Moment, Timeline
from worldmodel.training.show.scenes import KEPT, DreamScene, GameScene, Shown

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


def do(player: Session, what: str, *keys: str, **more):
    words, parts = player.answer({"do": what, "keys": list(keys)} | more)
    return words, dict(zip((name for name, _ in words["parts"]), parts, strict=True))


@pytest.mark.parametrize(
    ("held", "action"),
    [([], 0), (["Space"], 2), (["KeyA"], 1), (["ArrowLeft", "Space"], 2), (["Digit3"], 3), (["KeyZ"], 0)],
)
def test_the_last_key_pressed_chooses_a_named_action(held, action):
    assert Keys(DOOM).action(held) == action


CHORDS = ("noop", "move_forward", "turn_left", "attack", "move_forward+attack", "move_forward+turn_left+attack")


@pytest.mark.parametrize(
    ("held", "action"),
    [
        (["KeyW"], 1),
        (["KeyW", "Space"], 4),
        (["Space", "ArrowUp"], 4),
        (["KeyA", "Space"], 3),  # nothing joins these two
        (["KeyW", "Space", "KeyA"], 5),
        (["KeyW", "Space", "Digit0"], 0),  # the last one counts
    ],
)
def test_keys_held_together_mean_the_action_that_joins_them(held, action):
    keys = Keys(ActionSpec(kind="discrete", n=6, names=CHORDS))
    assert keys.action(held) == action
    assert [label for bound, label in keys.bindings if not bound] == list(CHORDS[4:])


def test_an_action_that_joins_what_no_action_means_keeps_its_own_key():
    keys = Keys(ActionSpec(kind="discrete", n=2, names=("noop", "jump+run")))
    assert keys.action(["Digit1"]) == 1


def test_actions_beyond_the_digits_have_a_button():
    keys = Keys(ActionSpec(kind="discrete", n=18))
    assert keys.bindings[17] == (("Action17",), "action 17") and keys.action(["Action17"]) == 17


def test_unnamed_actions_have_digits():
    keys = Keys(ActionSpec(kind="discrete", n=3))
    assert keys.action([]) == 0 and keys.action(["Digit2"]) == 2
    assert [label for _, label in keys.bindings] == ["action 0", "action 1", "action 2"]


def test_the_arrows_move_sideways_in_a_game_without_turns():
    keys = Keys(ActionSpec(kind="discrete", n=3, names=("noop", "move_left", "move_right")))
    assert keys.action(["ArrowLeft"]) == keys.action(["KeyQ"]) == 1 and keys.action(["KeyD"]) == 2


def test_no_key_of_a_game_is_one_of_the_pages_own():
    own = set(re.findall(r'\{key: "(\w+)"', (Path(play.__file__).parent / "page" / "main.js").read_text()))
    names = ("noop", "turn_left", "turn_right", "move_forward", "move_backward", "move_left", "move_right", "attack")
    five = ActionSpec(kind="box", n=5, low=(-1.0,) * 5, high=(1.0,) * 5)
    games = (ActionSpec(kind="discrete", n=8, names=names), ActionSpec(kind="discrete", n=2, names=names[5:7]), five)
    assert len(own) > 10 and own.isdisjoint(key for game in games for keys, _ in Keys(game).bindings for key in keys)


def test_pairs_of_keys_set_dimensions_to_their_bounds():
    keys = Keys(HAND)
    assert keys.action([]).tolist() == [0.0, 0.0] and keys.action([]).dtype == np.float32
    assert keys.action(["ArrowRight", "ArrowUp"]).tolist() == [0.5, 1.0]
    assert keys.action(["ArrowLeft"]).tolist() == [-0.5, 0.0]
    assert [label for _, label in keys.bindings] == ["dx -", "dx +", "dy -", "dy +"]


def test_an_action_with_more_dimensions_than_keys_is_refused():
    with pytest.raises(ValueError, match="5 dimensions"):
        Keys(ActionSpec(kind="box", n=6, low=(-1.0,) * 6, high=(1.0,) * 6))


def test_a_step_shows_its_frames_and_numbers():
    player = Session({"game": game_scene})
    words, begun = do(player, "show")
    now = words["now"]
    assert (now["step"], now["return"], now["native"], now["signals"]) == (0, 0.0, 0.0, {"HEALTH": 1050.0})
    assert not words["about"]["dream"] and words["parts"] == [["frames", (2, 16, 16, 3)]]
    words, after = do(player, "step", "Digit1")
    assert words["now"]["step"] == 1 and not np.array_equal(after["frames"], begun["frames"])
    assert words["now"]["nll"] is None and "codes" not in words  # no world looks on


def test_keys_decide_what_is_dreamt():
    def total(*keys):
        player = Session({"dream": dream_scene})
        return [do(player, "step", *keys)[0]["now"]["return"] for _ in range(3)]

    assert total("ArrowLeft") == total("ArrowLeft")  # no name of an action here: as no key
    assert total("Digit1") == total("Digit1") != total("Digit2")


def test_an_ended_episode_waits_for_the_next():
    player = Session({"dream": lambda: dream_scene(horizon=2)})
    ends = [do(player, "step")[0]["now"]["ended"] for _ in range(4)]
    assert ends == ["", "truncated", "truncated", "truncated"]
    assert len(do(player, "show")[0]["history"]) == 3
    assert do(player, "begin")[0]["now"]["step"] == 0


def test_back_takes_back_a_dream_but_not_a_game():
    player = Session({"dream": dream_scene, "game": game_scene})
    for _ in range(12):
        do(player, "step")
    words, _ = do(player, "back")
    assert (words["note"], words["now"]["step"]) == ("9 steps back.", 3)
    assert do(player, "back", to=2)[0]["now"]["step"] == 2
    assert [point[0] for point in do(player, "show")[0]["history"]] == [0, 1, 2]
    do(player, "go", world="game")
    do(player, "step")
    words, _ = do(player, "back")
    assert "does not go back" in words["note"] and words["now"]["step"] == 1


def test_a_look_back_changes_nothing_and_shows_what_was_seen():
    player = Session({"dream": dream_scene})
    seen = [do(player, "step", "Digit1") for _ in range(5)]
    words, parts = do(player, "look", at=2)
    assert words["looking"] and words["now"] == seen[1][0]["now"] and words["codes"] == seen[1][0]["codes"]
    assert np.array_equal(parts["frames"], seen[1][1]["frames"])
    assert do(player, "look", at=99)[0]["now"]["step"] == 5 and not do(player, "look", at=5)[0]["looking"]
    assert do(player, "step")[0]["now"]["step"] == 6


def test_as_many_past_steps_are_kept_as_can_be_taken_back():
    player = Session({"game": game_scene})
    for _ in range(KEPT + 5):
        words, _ = do(player, "step")
    history = do(player, "show")[0]["history"]
    assert len(history) == KEPT + 1 and history[0][0] == words["first"] == 5


def test_an_agent_plays_until_a_key_is_held():
    def played(*keys):
        player = Session({"dream": lambda: dream_scene(policy=True)}, "PPO")
        about = do(player, "drive", who="agent")[0]["about"]
        assert about["driver"] == "agent" and ("agent", "PPO") in about["drivers"]
        return [do(player, "step", *keys)[0]["now"]["return"] for _ in range(6)]

    idle = Session({"dream": lambda: dream_scene(policy=True)})
    alone = [do(idle, "step")[0]["now"]["return"] for _ in range(6)]  # no player: no key, no agent
    assert played() != alone and played("Digit0") == alone


def test_a_blind_policy_given_as_the_agent_is_offered_once():
    offers = [Wheel(name).offers(dream_scene(policy=True)) for name in ("PPO", "sticky")]
    assert list(offers[0].values()) == ["you", "PPO", "random", "sticky"]
    assert list(offers[1].values()) == ["you", "sticky", "random"]


def test_a_blind_policy_plays_any_game_and_is_seeded_by_the_episode():
    def played(who):
        player = Session({"dream": dream_scene})
        do(player, "drive", who=who)
        return [do(player, "step")[0]["now"]["return"] for _ in range(6)]

    assert played("random") == played("random") != played("you")
    with pytest.raises(ValueError, match="must be one of you, random, sticky"):
        do(Session({"dream": dream_scene}), "drive", who="agent")


def test_a_world_follows_its_game():
    player = Session({"game": game_scene, "dream": dream_scene})
    words, parts = do(player, "show")
    world = tiny_world()
    assert words["about"]["dreams_on"] == "dream" and words["now"]["nll"] is None
    assert len(words["codes"]) == np.prod(words["grid"]) and parts["seen"].shape == (2, 16, 16, 3)
    words, parts = do(player, "step", "Digit1")
    assert words["now"]["nll"] > 0
    codes = world.tokenizer.encode(torch.from_numpy(parts["frames"])[None, None])
    assert words["codes"] == codes.flatten().tolist()
    assert np.array_equal(parts["seen"], world.tokenizer.decode(codes)[0, 0].numpy())


def test_surprise_has_the_scale_of_the_world():
    about = do(Session({"dream": dream_scene}), "show")[0]["about"]
    again = do(Session({"dream": dream_scene}), "show")[0]["about"]
    player = Session({"dream": dream_scene})
    nll = np.mean([do(player, "step")[0]["now"]["nll"] for _ in range(30)])
    assert about["usual"] == again["usual"] and 0.7 < nll / about["usual"] < 1.4
    assert len(about["palette"]) == 2 * 3 * about["slices"] * about["num_codes"]


def test_a_dream_continues_its_game_and_returns_to_it():
    player = Session({"game": game_scene, "dream": dream_scene})
    health = [do(player, "step")[0]["now"]["signals"]["HEALTH"] for _ in range(5)]
    words, _ = do(player, "dream")
    assert words["about"]["dream"] and words["about"]["came_from"] == "game"
    assert words["now"]["signals"]["HEALTH"] == health[-1]
    do(player, "step")
    words, _ = do(player, "game")
    assert words["about"]["world"] == "game" and words["now"]["step"] == 5  # where it stood
    assert do(player, "dream", at=2)[0]["now"]["signals"]["HEALTH"] == health[1]
    do(player, "begin")  # a dream of another player
    assert "did not begin in a real game" in do(player, "game")[0]["note"]


def test_a_dream_does_not_continue_an_ended_game():
    class Ended(LongGame):
        def step(self, action):
            observation, reward, _, _, info = super().step(action)
            return observation, reward, True, False, info

    player = Session({"game": lambda: GameScene(Ended(), Ended().action_spec), "dream": dream_scene})
    assert do(player, "step")[0]["now"]["ended"] == "terminated"
    words, _ = do(player, "dream")
    assert not words["about"]["dream"] and "The game has ended here" in words["note"]
    assert do(player, "dream", at=0)[0]["about"]["dream"]


class GrayGame(LongGame):
    def _look(self, native_reward):
        observation, info = super()._look(native_reward)
        return observation, info | {"frames": info["frames"][..., :1]}


class OtherGame(LongGame):
    signal_names = ("AMMO",)

    def _look(self, native_reward):
        observation, info = super()._look(native_reward)
        return observation, info | {"AMMO": 3.0}


@pytest.mark.parametrize("game", [GrayGame, OtherGame])
def test_the_dream_of_another_game_neither_follows_nor_continues_it(game):
    player = Session({"game": lambda: GameScene(game(), game().action_spec), "dream": dream_scene})
    words, parts = do(player, "show")
    assert words["about"]["dreams_on"] == "" and "seen" not in parts
    words, _ = do(player, "dream")
    assert not words["about"]["dream"] and "No dream of this game is open" in words["note"]


def test_every_game_is_followed_by_its_own_dream():
    other = lambda: GameScene(OtherGame(), OtherGame().action_spec)  # noqa: E731
    player = Session({"other": other, "game": game_scene, "dream": dream_scene})
    assert do(player, "show")[0]["about"]["dreams_on"] == ""  # all are opened in the search for its dream
    words, parts = do(player, "go", world="game")
    assert words["about"]["dreams_on"] == "dream" and "seen" in parts
    assert do(player, "dream")[0]["about"]["came_from"] == "game"


class NarrowGame(LongGame):
    def __init__(self):
        super().__init__()
        self.action_spec = ActionSpec(kind="discrete", n=2)

    def step(self, action):
        assert action < 2
        return super().step(action)


def test_a_blind_policy_takes_the_actions_of_the_world_to_which_one_returns():
    player = Session({"narrow": lambda: GameScene(NarrowGame(), NarrowGame().action_spec), "dream": dream_scene})
    do(player, "drive", who="random")
    for world in ("dream", "narrow"):
        do(player, "go", world=world)
        words = [do(player, "step")[0] for _ in range(12)][-1]
        assert words["now"]["step"] == 12 or words["now"]["ended"]


def test_another_world_resumes_at_its_last_step():
    player = Session({"dream": dream_scene, "game": game_scene})
    for _ in range(3):
        do(player, "step")
    assert do(player, "go", world="game")[0]["now"]["step"] == 0
    assert do(player, "go", world="dream")[0]["now"]["step"] == 3


def test_a_scene_that_cannot_be_opened_does_not_change_the_screen():
    def broken():
        raise FileNotFoundError("it is gone")

    player = Session({"game": game_scene, "bad": broken, "dream": dream_scene})
    assert do(player, "show")[0]["about"]["dreams_on"] == "dream"
    with pytest.raises(FileNotFoundError):
        do(player, "go", world="bad")
    assert do(player, "show")[0]["about"]["world"] == "game"


def test_a_temperature_applies_to_later_steps():
    def surprises(temperature):
        player = Session({"dream": dream_scene})
        do(player, "step")
        assert do(player, "temperature", value=temperature)[0]["about"]["temperature"] == temperature
        return [do(player, "step")[0]["now"]["nll"] for _ in range(4)]

    assert sum(surprises(0)) < sum(surprises(1.0)) < sum(surprises(3))
    with pytest.raises(ValueError, match="from 0 to 3"):
        do(Session({"dream": dream_scene}), "temperature", value=-1)


def test_a_film_holds_the_episode_without_undone_steps(tmp_path):
    from moviepy import VideoFileClip
    from PIL import Image

    player = Session({"my/dream": dream_scene})
    for _ in range(12):
        do(player, "step")
    do(player, "back")
    for kind in ("mp4", "gif"):
        words, parts = do(player, "clip", kind=kind)
        assert words["file"] == f"my-dream-0-0-3.{kind}"
        (tmp_path / words["file"]).write_bytes(parts["file"].tobytes())
    with VideoFileClip(str(tmp_path / "my-dream-0-0-3.mp4")) as clip:
        assert clip.n_frames == 2 * 4 and clip.size == [264, 264]  # 16 screen pixels per pixel, and a border
    with Image.open(tmp_path / "my-dream-0-0-3.gif") as film:
        assert film.size == (264, 264) and film.is_animated
    with pytest.raises(ValueError, match="gif, mp4"):
        do(player, "clip", kind="exe")


@pytest.mark.parametrize(
    ("height", "width", "size"), [(64, 64, (264, 264)), (96, 128, (264, 200)), (300, 40, (48, 308))]
)
def test_large_frames_are_not_enlarged_in_films(tmp_path, height, width, size):
    from PIL import Image

    timeline = Timeline()
    timeline.begin(Moment(Shown(np.zeros((2, height, width, 3), np.uint8), 0, 0.0, 0.0, None, {}, None, "")))
    (tmp_path / "clip.gif").write_bytes(timeline.clip("gif", 5.0, dream=True))
    with Image.open(tmp_path / "clip.gif") as film:
        assert film.size == size


def test_infinities_and_nan_are_sent_as_strings():
    class Endless(LongGame):
        def step(self, action):
            observation, _, *ends, info = super().step(action)
            return observation, math.inf, *ends, info

    player = Session({"game": lambda: GameScene(Endless(), Endless().action_spec)})
    words, _ = do(player, "step")
    assert words["now"]["reward"] == "inf" and json.dumps(do(player, "show")[0], allow_nan=False)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"do": "nonsense"},
        {"do": ["step"]},
        {"do": "step", "keys": "KeyA"},
        {"do": "look"},
        {"do": "look", "at": True},
        {"do": "go", "world": "elsewhere"},
        {"do": "go", "world": ["dream"]},
        {"do": "drive", "who": ["you"]},
    ],
)
def test_invalid_messages_are_refused(message):
    player = Session({"dream": dream_scene})
    with pytest.raises(ValueError, match=r"must (do one of|be)"):
        player.answer(message)
    assert isinstance(player.waits_for(message), str)


def test_a_long_wait_is_announced():
    player = Session({"dream": dream_scene, "game": game_scene})
    assert "Opening dream" in player.waits_for({"do": "show"})
    do(player, "show")
    assert player.waits_for({"do": "step"}) == "" and "film" in player.waits_for({"do": "clip"})
    assert "Opening game" in player.waits_for({"do": "go", "world": "game"})


def test_closing_closes_all_opened_scenes():
    closed = []

    class Closing(LongGame):
        def close(self):
            closed.append(self)

    def opened():
        return GameScene(Closing(), Closing().action_spec)

    player = Session({"a": opened, "b": opened})
    do(player, "show")
    player.close()
    assert len(closed) == 2  # b was opened to see whether it is a dream of a

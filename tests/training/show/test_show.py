"""Storyboards of dreams: their layout, where frames come from, what is refused."""

from dataclasses import replace
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import tiny_config, tiny_world
from tests.toy_game import ToyGame, registered_game
from tests.training.recorded import recorded_store
from worldmodel import visualize
from worldmodel.data import ActionSpec
from worldmodel.model import Starts, WorldModel
from worldmodel.training.show.lanes import DREAMT, GIVEN, REAL, RECONSTRUCTED
from worldmodel.training.show.settings import ShowConfig
from worldmodel.training.show.show import show
from worldmodel.training.show.starts import name_of

GAME = "ShowToy-v0"


registered = registered_game(GAME, ToyGame)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return recorded_store(tmp_path_factory.mktemp("store") / "data", lengths=(20,) * 20)


@pytest.fixture(scope="module")
def world():
    return tiny_world()


@pytest.fixture(scope="module")
def lvt():
    """A Latent Video Transformer of single frames, two in a step."""
    return tiny_world(net="subscale", frames_alone=True)


def test_a_rollout_shows_real_play_its_reconstruction_and_the_dream_of_the_same_actions(world, store):
    board = visualize.rollout(world, data=store, steps=5, given_steps=3)
    real, again, dreamt = board.lanes
    assert [lane.label for lane in board.lanes] == ["real game", "reconstruction", "dream"]
    assert real.origins == (GIVEN,) * 3 + (REAL,) * 5 and again.origins == (RECONSTRUCTED,) * 8
    assert dreamt.origins[:4] == (GIVEN,) * 3 + (DREAMT,)
    brightness = real.frames[:, 0, 0, 0, 0].astype(int)
    assert (np.diff(brightness) == 2).all()  # of the recorded store
    assert (board.story.actions == (brightness[:-1] // 2) % 3).all()
    codes = world.tokenizer.encode(torch.from_numpy(real.frames)[None])
    np.testing.assert_array_equal(again.frames, world.tokenizer.decode(codes)[0].numpy())
    np.testing.assert_array_equal(dreamt.frames[:3], again.frames[:3])  # what it is given, it sees through codes


of_both = pytest.mark.parametrize("which", ["world", "lvt"])


@of_both
def test_the_dream_of_a_rollout_is_what_the_model_imagines(which, store, request):
    world = request.getfixturevalue(which)
    board = visualize.rollout(world, data=store, steps=3, given_steps=2, seed=5)
    frames, actions = board.lanes[0].frames[None], board.story.actions[None]
    count = len(board.lanes[2].frames) - 2
    store_signals = np.linspace(100, 0, 21, dtype=np.float32)  # of every episode
    at = frames[0, 1, 0, 0, 0, 0] // 2
    wanted = world.imagine(frames[:, :2], actions[:, 1:], actions[:, :1], store_signals[None, at : at + 1], seeds=[5])
    np.testing.assert_array_equal(board.lanes[2].frames[2:], wanted.frames[0, :count].numpy())
    np.testing.assert_allclose(board.lanes[2].curves["reward"][2:], wanted.rewards[0, :count].numpy())


@of_both
def test_surprise_about_real_steps_is_that_of_observing_them(which, store, request):
    world = request.getfixturevalue(which)
    board = visualize.rollout(world, data=store, steps=4, given_steps=2)
    frames = torch.from_numpy(board.lanes[0].frames)
    codes, nats = world.tokenizer.encode(frames[:, None])[:, 0], []
    state = world.start(frames[None, :2], board.story.actions[None, :1])
    for step in range(2, 6):
        state, out = world.observe(state, board.story.actions[step - 1 : step], codes[step : step + 1])
        nats.append(float(out.nll))
    surprise = board.lanes[0].curves["surprise"]
    assert np.isnan(surprise[:2]).all()
    np.testing.assert_allclose(surprise[2:], nats, rtol=1e-5)


def test_a_game_is_played_where_there_is_no_store(world):
    board = visualize.rollout(world, real=GAME, player="constant:1", steps=3, given_steps=1, seed=3)
    game = ToyGame()
    info = game.reset(seed=3)[1]
    np.testing.assert_array_equal(board.lanes[0].frames[0], info["frames"])
    assert (board.story.actions == 1).all()
    later = visualize.rollout(world, real=GAME, player="constant:1", steps=3, given_steps=1, seed=3, skip=1)
    np.testing.assert_array_equal(later.lanes[0].frames[0], board.lanes[0].frames[1])


def test_a_lane_ends_with_its_episode(world):
    board = visualize.rollout(world, real=GAME, player="constant:0", steps=30, given_steps=1, seed=3)
    game, steps = ToyGame(), 0
    game.reset(seed=3)
    over = False
    while not over:
        *_, terminated, truncated, _ = game.step(0)
        over, steps = terminated or truncated, steps + 1
    assert len(board.lanes[0].frames) == steps + 1
    assert board.lanes[0].ended == ("ended" if terminated else "time up")


def test_futures_of_one_start_differ_by_their_draws_alone(world):
    board = visualize.futures(world, n=3, steps=4, seed=2)
    firsts = [lane.frames[0] for lane in board.lanes]
    assert all((first == firsts[0]).all() for first in firsts)
    assert board.story.actions is not None and all(lane.actions is None for lane in board.lanes)  # the same for all
    lasts = [lane.frames[1] for lane in board.lanes]
    assert any((last != lasts[0]).any() for last in lasts)
    again = visualize.futures(world, n=2, steps=4, seed=3)
    assert {lane.label for lane in board.lanes} == {"future 1", "future 2", "future 3"}
    assert len(again.lanes) == 2


def test_futures_of_several_players_have_their_own_actions(world):
    board = visualize.futures(world, players=["constant:left", "constant:right"], steps=3)
    assert [lane.actions[0] for lane in board.lanes] == [1, 2]
    assert [lane.label for lane in board.lanes] == ["constant:\nleft", "constant:\nright"]


def test_the_same_actions_are_dreamt_from_different_starts(world, store):
    board = visualize.same_actions(world, player="cycle:left*2,right*2", n=3, steps=4)
    assert board.story.actions.tolist() == [1, 1, 2, 2][: len(board.story.actions)]
    firsts = [lane.frames[0] for lane in board.lanes]
    assert (firsts[0] != firsts[1]).any() and (firsts[1] != firsts[2]).any()
    of_store = visualize.same_actions(world, data=store, player="constant:1", n=2, steps=4, given_steps=2)
    assert all(lane.origins[:2] == (GIVEN, DREAMT) for lane in of_store.lanes)


def test_players_begin_with_the_same_first_frame_in_game_and_dream(world):
    board = visualize.players(world, real=GAME, players=["constant:0", "constant:1"], steps=3, seed=4)
    assert [lane.label.split("\n")[-2] for lane in board.lanes] == ["real game", "dream"] * 2
    game = ToyGame()
    first = game.reset(seed=4)[1]["frames"]
    codes = world.tokenizer.encode(torch.from_numpy(first)[None, None])
    for real, dreamt in zip(board.lanes[::2], board.lanes[1::2], strict=True):
        np.testing.assert_array_equal(real.frames[0], first)
        np.testing.assert_array_equal(dreamt.frames[0], world.tokenizer.decode(codes)[0, 0].numpy())
        assert real.actions[0] == dreamt.actions[0]
        assert f"return {np.nansum(real.curves['reward']):.1f}" in real.label
        assert np.isfinite(dreamt.curves["surprise"][1:]).all()


def test_players_of_recordings_with_an_action_per_frame_hold_theirs_for_the_step():
    frame = ActionSpec(kind="box", n=2, names=("x", "y"), low=(-1.0, 0.0), high=(1.0, 2.0))
    whole = ActionSpec(
        kind="box", n=4, names=("x_0", "y_0", "x_1", "y_1"), low=frame.low * 2, high=frame.high * 2, frames=2
    )
    world = WorldModel(replace(tiny_config(), action=whole)).prepare(torch.float32)
    world.starts = Starts(torch.zeros(1, 1, 2, 2, 2, dtype=torch.int64), torch.zeros(1, 0, 4), torch.zeros(1, 1, 1))

    class Box(ToyGame):
        def __init__(self):
            super().__init__()
            self.action_spec, self.action_space = frame, frame.to_gym()

        def step(self, action):
            return super().step(0)

    gym.register("ShowBox-v0", entry_point=Box)
    try:
        board = visualize.players(world, real="ShowBox-v0", players=["random"], steps=3)
    finally:
        del gym.registry["ShowBox-v0"]
    for lane in board.lanes:
        assert lane.actions.shape == (len(lane.frames) - 1, 4)
        np.testing.assert_array_equal(lane.actions[:, :2], lane.actions[:, 2:])
    assert board.sheet().shape[-1] == 3


def test_a_title_names_the_world(world):
    assert name_of("doom-hg") == "doom-hg" and name_of("runs/my/best") == "runs/my/best"
    assert name_of("/some/world") == "world"
    assert name_of(world) == "VideoGenReal-DoomHealthGathering"


@of_both
def test_codes_are_shown_below_their_frames(which, store, request):
    world = request.getfixturevalue(which)
    board = visualize.rollout(world, data=store, steps=3, given_steps=2, codes=True)
    labels = [lane.label for lane in board.lanes]
    assert labels[2:6] == [f"{what} of\nreal game\nslice {index}" for index in (0, 1) for what in ("codes", "changes")]
    assert labels[6] == "dream" and len(labels) == 11


@pytest.mark.parametrize("ending", ["png", "gif", "mp4", "webp"])
def test_the_ending_of_the_file_decides_what_is_written(world, store, tmp_path, ending):
    config = ShowConfig(steps=3, given_steps=1)
    shown = show(world, tmp_path / f"out.{ending}", config=config, data=store, scale=1)
    assert shown.file.stat().st_size > 0 and str(shown.file) in str(shown)
    if ending != "mp4":
        with Image.open(shown.file) as picture:
            assert getattr(picture, "n_frames", 1) == (1 if ending == "png" else 8)
            drawn = shown.board.sheet(scale=1) if ending == "png" else shown.board.film(scale=1).frames[0]
            assert (picture.height, picture.width) == drawn.shape[:2]


def test_the_command_shows_what_the_function_returns(world, store, tmp_path):
    board = visualize.futures(world, data=store, n=2, steps=3, players=["constant:left"])
    shown = show(world, tmp_path / "a.png", "futures", ShowConfig(n=2, steps=3), data=store, players=["constant:left"])
    np.testing.assert_array_equal(np.asarray(Image.open(shown.file)), board.sheet())


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"out": "a.jpg"}, r"\.png is a sheet"),
        ({"fps": 3.0}, "sheet has no speed"),
        ({"kind": "same-actions", "players": ["random", "sticky"]}, "takes one player"),
        ({"kind": "players", "data": "store"}, "leave out --data"),
        ({"kind": "players", "config": ShowConfig(codes=True)}, "leave out --codes"),
        ({"kind": "futures", "config": ShowConfig(skip=3)}, "leave out --skip"),
        ({"kind": "futures", "config": ShowConfig(given_steps=3)}, "leave out --given-steps"),
        ({"config": ShowConfig(split="train")}, "leave out --split"),
        ({"data": "store", "players": ["random"]}, "leave out --players"),
        ({"data": "store", "real": GAME}, "leave one out"),
        ({"kind": "same-actions", "players": ["some/agent"]}, "blind policy"),
        ({"kind": "futures", "players": []}, "at least one player"),
        ({"real": GAME, "config": ShowConfig(skip=50)}, "skip fewer"),
    ],
)
def test_what_would_be_ignored_or_cannot_be_is_refused(world, tmp_path, options, problem):
    options = {"out": "a.png"} | options
    with pytest.raises(ValueError, match=problem):
        show(world, tmp_path / options.pop("out"), **options)
    assert list(tmp_path.iterdir()) == []


def test_a_single_name_in_place_of_a_list_of_players_is_refused(world, tmp_path):
    shown = partial(show, world, tmp_path / "a.png")
    for given in (partial(visualize.futures, world), partial(visualize.players, world), shown):
        with pytest.raises(TypeError, match=r"such as \['constant:0'\], got 'constant:0'"):
            given(players="constant:0")

"""Videos of episodes: complete, captioned, and the same each time."""

import tracemalloc
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import tiny_config, tiny_world
from tests.toy_game import ToyGame, seeing_world
from worldmodel.agents.scripted import RandomPolicy
from worldmodel.envs import DreamEnv
from worldmodel.media.write import CAPTION_HEIGHT, CONTEXT_COLOR, PREDICTION_COLOR, UNSEEN_COLOR
from worldmodel.model import WorldModel
from worldmodel.training.show.scenes import DreamScene, GameScene
from worldmodel.training.show.watch import Watched, film

SIDE, BORDER, GAP = 16, 4, 6  # pixels of a toy frame, of the border at scale 4, and between cells
CELL = (CAPTION_HEIGHT + 4 * SIDE + 2 * BORDER, 4 * SIDE + 2 * BORDER)


def toy_scene(**options) -> GameScene:
    game = ToyGame()
    return GameScene(game, game.action_spec, RandomPolicy(game.action_spec), **options)


def dream_scene(seed: int = 0, **options) -> DreamScene:
    dream = DreamEnv(tiny_world(), "codes", **options)
    return DreamScene(dream, RandomPolicy(dream.model.config.action), seed)


def frames_of(path):
    with Image.open(path) as image:
        count = image.n_frames
        pictures = []
        for number in range(count):
            image.seek(number)
            pictures.append(np.asarray(image.convert("RGB")))
    return np.stack(pictures)


def test_a_video_holds_every_frame_of_the_longest_episode(tmp_path):
    watched = film(toy_scene(seed=3), tmp_path / "new" / "toy.gif", episodes=3)
    assert [one.seed for one in watched] == [3, 4, 5] and all(one.last.ended for one in watched)
    frames = frames_of(tmp_path / "new" / "toy.gif")
    longest = max(one.last.step for one in watched)
    assert frames.shape == (2 * (longest + 1), 2 * CELL[0] + GAP, 2 * CELL[1] + GAP, 3)


def test_a_film_is_written_image_by_image(tmp_path):
    class Long(ToyGame):
        def reset(self, *, seed=None, options=None):
            first = super().reset(seed=seed)
            self.left = 30
            return first

    game = Long()
    scene = GameScene(game, game.action_spec, RandomPolicy(game.action_spec))
    film(scene, tmp_path / "first.mp4", episodes=1, steps=1)  # so that all modules are loaded
    tracemalloc.start()
    film(scene, tmp_path / "long.mp4", episodes=2, scale=16)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    image = 3 * (16 * (SIDE + 2) + CAPTION_HEIGHT) * (2 * 16 * (SIDE + 2) + GAP)
    assert most < 20 * image  # of 62 images


def test_equal_seeds_write_equal_videos(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        film(dream_scene(seed, horizon=6), tmp_path / f"{name}.gif", episodes=1)
    a, b, c = (tmp_path / f"{name}.gif" for name in "abc")
    assert a.read_bytes() == b.read_bytes() != c.read_bytes()


def test_borders_distinguish_dreams_games_and_an_agents_view(tmp_path):
    film(dream_scene(horizon=2), tmp_path / "dream.gif", episodes=1)
    film(toy_scene(), tmp_path / "game.gif", episodes=1)
    seen = film(toy_scene(view=(seeing_world(), "rgb")), tmp_path / "seen.gif", episodes=1)
    dream, game, both = (frames_of(tmp_path / f"{name}.gif") for name in ("dream", "game", "seen"))
    row = CAPTION_HEIGHT + 1  # within the upper border
    for frames, column, color in (
        (dream, 10, PREDICTION_COLOR),
        (game, 10, UNSEEN_COLOR),
        (both, 10, UNSEEN_COLOR),
        (both, CELL[1] + 20, CONTEXT_COLOR),
    ):
        assert np.abs(frames[:, row, column].astype(int) - color).max() < 16  # a gif has few colours
    assert len(both) == 2 * (seen[0].last.step + 1)


def test_a_gray_game_is_watched_as_its_agent_sees_it(tmp_path):
    class Gray(ToyGame):
        def __init__(self):
            super().__init__()
            self.observation_space = gym.spaces.Box(0, 255, (SIDE, SIDE, 1), np.uint8)

        def _look(self, native_reward):
            observation, info = super()._look(native_reward)
            return observation[..., :1], info | {"frames": info["frames"][..., :1]}

    config = tiny_config()
    config = replace(config, tokenizer=replace(config.tokenizer, channels=1))
    world, game = WorldModel(config).prepare(torch.float32), Gray()
    scene = GameScene(game, game.action_spec, RandomPolicy(game.action_spec), (world, "rgb"))
    film(scene, tmp_path / "gray.gif", episodes=1, steps=2)
    frames = frames_of(tmp_path / "gray.gif")
    assert frames.shape[2] > 2 * CELL[1]
    seen = frames[:, -SIDE * 4 - BORDER : -BORDER, -SIDE * 4 - BORDER : -BORDER].astype(int)
    assert np.ptp(seen, axis=-1).max() < 16  # gray, as far as a gif's few colours allow


def test_an_episode_is_cut_where_it_gets_too_long(tmp_path):
    (watched,) = film(dream_scene(), tmp_path / "dream.mp4", episodes=1, steps=5)
    assert watched.last.step == 5 and "step 5" in str(watched)


def test_the_end_and_the_return_are_shown():
    scene = toy_scene()
    shown = scene.begin()
    while not shown.ended:
        shown = scene.step(0)
    line = str(Watched(0, shown))
    assert f"return {shown.native:g}" in line
    assert ("ended" if shown.ended == "terminated" else "time up") in line


def test_a_dreams_return_is_shown_with_its_unit(tmp_path):
    (watched,) = film(dream_scene(), tmp_path / "dream.gif", episodes=1, steps=2)
    assert " health  step 2" in str(watched)  # on which the rewards of the toy world depend
    (watched,) = film(toy_scene(), tmp_path / "game.gif", episodes=1, steps=2)
    assert "health" not in str(watched)


@pytest.mark.parametrize("options", [{"episodes": 0}, {"steps": 0}, {"scale": 0}, {"columns": 0}])
def test_bad_numbers_are_refused_before_anything_is_played(options, tmp_path):
    scene = toy_scene()
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be at least 1"):
        film(scene, tmp_path / "x.gif", **options)
    assert scene.shown is None


def test_bad_endings_and_scenes_without_a_policy_are_refused(tmp_path):
    with pytest.raises(ValueError, match="mp4"):
        film(toy_scene(), tmp_path / "x.avi")
    game = ToyGame()
    with pytest.raises(ValueError, match="without a policy"):
        film(GameScene(game, game.action_spec), tmp_path / "x.gif")

"""The examples run, here with a toy model and few steps."""

import importlib.util
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.tiny import tiny_config
from worldmodel.agents.evaluate import compare_with_random
from worldmodel.agents.planner.config import PlannerConfig
from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.data import ActionSpec
from worldmodel.envs import PushEnv
from worldmodel.model import Starts, WorldModel

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save_doom_sized_world(folder: Path) -> None:
    """An untrained model with the frames and actions of health_gathering."""
    config = tiny_config()
    tokenizer = replace(config.tokenizer, height=64, width=64)
    world = WorldModel(replace(config, tokenizer=tokenizer, action=ActionSpec(kind="discrete", n=4)))
    grid, slices = world.tokenizer.grid, world.tokenizer.num_slices
    codes = torch.zeros(3, 2, *grid, slices, dtype=torch.int64)
    world.starts = Starts(codes, torch.zeros(3, 1, dtype=torch.int64), torch.full((3, 2, 1), 100.0))
    world.save_pretrained(folder)


@pytest.mark.vizdoom
def test_dream_ppo_trains_in_the_dream_and_plays_the_real_game(tmp_path, capsys, monkeypatch):
    save_doom_sized_world(tmp_path / "model")
    config = AgentConfig(steps=1, num_envs=2, n_steps=4, batch_size=4, n_epochs=1)
    example = load_example("dream_ppo")
    monkeypatch.setattr(example, "compare_with_random", partial(compare_with_random, episode_timeout=40))
    result = example.main(str(tmp_path / "model"), config, episodes=2, out=str(tmp_path / "run"))
    assert len(result.agent.returns) == len(result.random.returns) == 2
    assert capsys.readouterr().out.count("2 episodes of VideoGenReal-DoomHealthGathering") == 2


@pytest.mark.vizdoom
def test_plan_plays_the_real_game_untrained(tmp_path, capsys):
    save_doom_sized_world(tmp_path / "model")
    config = PlannerConfig(horizon=2, candidates=2, iterations=1, elites=1)
    result = load_example("plan").main(str(tmp_path / "model"), config, episodes=2, episode_timeout=40)
    assert result.agent.lengths == result.random.lengths == (10, 10)
    assert capsys.readouterr().out.count("2 episodes of VideoGenReal-DoomHealthGathering") == 2


@pytest.mark.parametrize("by", ["signals", "frames"])
def test_push_planner_compares_three_policies_on_the_same_scenes(tmp_path, capsys, by):
    pytest.importorskip("pybullet")
    config = tiny_config()
    tokenizer = replace(config.tokenizer, height=64, width=64)
    action = ActionSpec(kind="box", n=4, low=(-1.0,) * 4, high=(1.0,) * 4)
    signals = PushEnv().signal_names
    world = replace(config, tokenizer=tokenizer, action=action, signal_names=signals)
    WorldModel(world).save_pretrained(tmp_path)
    config = PlannerConfig(horizon=2, candidates=2, iterations=1, elites=1)
    distances = load_example("push_planner").main(str(tmp_path), config, scenes=2, by=by, episode_frames=4)
    assert list(distances) == ["planner", "random", "rest"]
    assert all(len(values) == 2 and all(0 < value < 0.5 for value in values) for values in distances.values())
    assert capsys.readouterr().out.count("cm from the target") == 3


class Pushed(gym.Env):
    """A red square is to be moved to where the goal shows it; nothing ever moves."""

    observation_space = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = gym.spaces.Box(-1, 1, (4,), np.float32)

    def _results(self):
        frame, goal = (np.full((64, 64, 3), 90, np.uint8) for _ in range(2))
        frame[10:16, 10:16] = goal[40:46, 40:46] = (200, 30, 30)
        signals = np.zeros(9, np.float32)
        return frame, {"frames": np.stack([frame, frame]), "signals": signals, "goal_image": goal, "distance": 0.1}

    def reset(self, *, seed=None, options=None):
        return self._results()

    def step(self, action):
        frame, info = self._results()
        return frame, 0.0, False, True, info


def test_push_planner_does_not_rest_where_the_planner_cannot_plan(tmp_path, monkeypatch):
    gym.register("Pushed-v0", entry_point=Pushed)
    example = load_example("push_planner")
    monkeypatch.setattr(example, "GAME", "Pushed-v0")
    with pytest.raises(ValueError, match="judged by signals or frames, got 'signal'"):
        example.main("push", by="signal")
    config = tiny_config(frame_condition=2)
    tokenizer = replace(config.tokenizer, height=64, width=64)
    action = ActionSpec(kind="box", n=4, low=(-1.0,) * 4, high=(1.0,) * 4)
    signals = tuple(f"{name}_{axis}" for name in ("HAND", "OBJECT0", "OBJECT1") for axis in "XYZ")
    WorldModel(replace(config, tokenizer=tokenizer, action=action, signal_names=signals)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="this model needs 2"):
        example.main(str(tmp_path), PlannerConfig(horizon=2, candidates=2, iterations=1, elites=1), scenes=1)
    del gym.registry["Pushed-v0"]


@pytest.mark.slow
@pytest.mark.vizdoom
@pytest.mark.timeout(1500)
def test_an_agent_trained_only_in_the_shipped_dream_plays_the_real_game_far_better_than_random(tmp_path):
    result = load_example("dream_ppo").main(config=AgentConfig(steps=100_000), episodes=10, out=str(tmp_path))
    assert result.agent.mean > 2 * result.random.mean


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn")
    return load_example("moving_digits")


def test_moving_digits_bounce_within_the_square(digits):
    picture = np.full((1, digits.DIGIT, digits.DIGIT), 200, np.uint8)
    film = digits.moving(picture, np.random.default_rng(0), frames=60)
    assert film.shape == (60, digits.SIZE, digits.SIZE) and film.dtype == np.uint8
    assert (film.sum((1, 2)) == picture.sum(dtype=np.int64)).all()  # never cut off at a wall
    corners = np.array([[axis.min() for axis in np.nonzero(frame)] for frame in film])
    assert (np.abs(np.diff(corners, axis=0)) <= 5).all() and (np.ptp(corners, axis=0) > 20).any()


@pytest.mark.slow
def test_moving_digits_are_stored_learned_and_sampled_from_one_frame(digits, tmp_path):
    tokenizer, dynamics = digits.trainings()
    once = {"steps": 1, "batch_size": 2}
    tokenizer = replace(tokenizer, loop=replace(tokenizer.loop, **once), validation_steps=4)
    dynamics = replace(dynamics, loop=replace(dynamics.loop, **once), validation_segments=2)
    scores = digits.main(str(tmp_path), 12, tokenizer, dynamics)
    assert 0 < scores["bits_per_code"] < 10 and (tmp_path / "samples.gif").is_file()
    model = WorldModel.from_pretrained(tmp_path / "dynamics").dynamics
    assert model.frame_encoder.stem.in_channels == 1


@pytest.mark.slow
@pytest.mark.vizdoom
def test_the_papers_recipe_leads_from_a_policy_to_films_by_actions(tmp_path):
    example = load_example("paper_recipe")
    usual = example.Recipe()
    loop = {"steps": 1, "batch_size": 2}
    narrow = replace(usual.tokenizer.model, stage_widths=(6, 6, 6), residual_units=6, residual_layers=1)

    def once(training):
        return replace(training, loop=replace(training.loop, **loop), validation_segments=2)

    recipe = example.Recipe(
        policy=AgentConfig(steps=1, num_envs=2, n_steps=4, batch_size=4, n_epochs=1),
        episodes=12,
        workers=1,
        game={"episode_timeout": 48},
        tokenizer=replace(
            usual.tokenizer, model=narrow, loop=replace(usual.tokenizer.loop, **loop), validation_steps=8
        ),
        unconditional=once(usual.unconditional),
        conditioned=once(usual.conditioned),
        films=2,
    )
    files = example.main(str(tmp_path), recipe=recipe)
    names = {file.name for file in files if file.is_file()}
    assert {"from-nothing.gif", "from-nothing.mp4", "by-actions.gif", "by-actions.mp4"} <= names
    conditioned = WorldModel.from_pretrained(tmp_path / "conditioned").dynamics
    assert conditioned.norm.modulation.in_features == 7 * 4 and conditioned.frame_encoder.stem.in_channels == 3

"""Loading, dreaming, training and agents are bit-identical under changed torch defaults."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from tests.envs.dream.test_goals import picture
from tests.evaluation.test_danger_probe import play_with_hits
from tests.tiny import tiny_world
from worldmodel import WorldModel
from worldmodel.agents.sb3.agent import load_agent
from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.dynamics import DreamState
from worldmodel.envs import GoalLatents, GoalObject, GoalPixels
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.evaluation import danger_probe as probes
from worldmodel.evaluation.danger_probe import danger_probe, logistic_regression
from worldmodel.evaluation.inverse_dynamics import InverseDynamicsConfig, read, train_inverse_dynamics
from worldmodel.layers.defaults import own_defaults
from worldmodel.tokenizer.files import load_tokenizer
from worldmodel.training.train_agent import DreamTraining, train_agent


@contextmanager
def doubles():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def on_meta():
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


AMBIENT = {"float64": doubles, "meta": on_meta, "autocast": lambda: torch.autocast("cpu", torch.bfloat16)}
FRAMES = np.random.default_rng(0).integers(256, size=(2, 1, 2, 16, 16, 3), dtype=np.uint8)
ACTIONS = np.zeros(2, np.int64)
MOVES = np.stack([picture((30, along)) for along in (12, 26, 34)])
NUMBERS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def dreamt(folder, scratch) -> list[np.ndarray]:
    """The results of the public calls on a saved world."""
    world = WorldModel.from_pretrained(folder, dtype=torch.float32)
    codes = load_tokenizer(folder).encode(torch.from_numpy(FRAMES))
    state = world.start(FRAMES, np.zeros((2, 0), np.int64))
    state, out = world.step(state, ACTIONS)
    state.save(scratch / "state.safetensors")
    state, observed = world.observe(DreamState.load(scratch / "state.safetensors"), ACTIONS, codes[:, 0])
    branches = world.branch(state, np.zeros((2, 2, 2), np.int64))
    imagined = world.imagine(FRAMES, np.zeros((2, 2), np.int64))
    found = [codes, out.reward, out.frames(), observed.nll, branches.rewards, imagined.frames, world.features(state)]
    envs = DreamVectorEnv(2, world, "rgb", horizon=3)
    seen = [envs.reset(seed=0)[0], *(part for _ in range(4) for part in envs.step(ACTIONS)[:4])]
    return [tensor.numpy() for tensor in found] + seen


def assert_same(plain: list[np.ndarray], changed: list[np.ndarray]) -> None:
    for a, b in zip(plain, changed, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


@pytest.fixture(scope="module")
def world():
    return tiny_world()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_world().save_pretrained(tmp_path_factory.mktemp("defaults") / "world")


@pytest.mark.parametrize("ambient", AMBIENT)
def test_worlds_load_and_dream_the_same(folder, tmp_path, ambient):
    plain = dreamt(folder, tmp_path)
    with AMBIENT[ambient]():
        changed = dreamt(folder, tmp_path)
    assert_same(plain, changed)


@pytest.mark.parametrize("ambient", AMBIENT)
def test_agents_train_load_and_act_the_same(folder, tmp_path, ambient):
    config = DreamTraining(agent=AgentConfig(steps=16, num_envs=4, n_steps=4, batch_size=8), horizon=4)
    seen = np.zeros((2, 2, 2, 24), np.float32)  # features
    plain = train_agent(folder, tmp_path / "plain", config, device="cpu")
    with AMBIENT[ambient]():
        changed = train_agent(folder, tmp_path / "changed", config, device="cpu")
        acted = load_agent(changed).act(seen)
    np.testing.assert_array_equal(load_agent(plain).act(seen), acted)
    weights = [(made / "model.safetensors").read_bytes() for made in (plain, changed)]
    assert weights[0] == weights[1]


@pytest.fixture(scope="module")
def hits(tmp_path_factory):
    return play_with_hits(tmp_path_factory.mktemp("hits"), 3, episodes=12)


@pytest.fixture(scope="module")
def plain_measures(world, hits):
    return measured(world, hits)


def measured(world, store) -> list[np.ndarray]:
    """Probes of coming danger, and a network that recognises actions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "DECAYS", (0.1,))
        patch.setattr(probes, "_RESAMPLES", 4)
        found = danger_probe(world.tokenizer, store, num_steps=100)
    scores = [found[target][name] or -1.0 for target in ("near", "far") for name in ("codes", "pixels")]
    truth = torch.from_numpy(np.arange(20) % 3 > 0)
    weights, bias = logistic_regression(torch.from_numpy(NUMBERS), truth, 0.1)
    recogniser = train_inverse_dynamics(store, InverseDynamicsConfig(steps=2, batch_size=8, channels=4, features=8))
    predictions, features = read(recogniser, torch.from_numpy(FRAMES).repeat(1, 3, 1, 1, 1, 1))
    return [np.array(scores), *(part.numpy() for part in (weights, bias, predictions, features))]


@pytest.mark.parametrize("ambient", AMBIENT)
def test_probes_and_recognised_actions_are_the_same(world, hits, plain_measures, ambient):
    with AMBIENT[ambient]():
        changed = measured(world, hits)
    assert_same(plain_measures, changed)


def goals_of(world) -> list[np.ndarray]:
    """Distances from goals."""
    start, between, goal = MOVES
    pictures = torch.from_numpy(MOVES)
    thing = GoalObject(goal, start, within=40)
    far = thing.distance(pictures)
    assert thing.follow(between)
    small, latents = FRAMES[:, 0, 0], torch.from_numpy(FRAMES[:, 0, 0])
    goals = [GoalPixels(goal, start), GoalLatents(world, small[0], small[1]), GoalLatents(world, small[0])]
    found = [goals[0].distance(pictures), goals[1].distance(latents), goals[2].distance(latents)]
    return [part.numpy() for part in (far, thing.distance(pictures), thing.place, *found)]


@pytest.mark.parametrize("ambient", AMBIENT)
def test_distances_from_goals_are_the_same(world, ambient):
    plain = goals_of(world)
    with AMBIENT[ambient]():
        changed = goals_of(world)
    assert_same(plain, changed)


def test_overlapping_threads_restore_the_callers_default():
    first_in, last_out = threading.Event(), threading.Event()

    @own_defaults
    def first():
        first_in.set()
        assert last_out.wait(10)
        return torch.get_default_dtype()

    @own_defaults
    def second():
        return torch.get_default_dtype()

    with doubles():
        thread = threading.Thread(target=first)
        thread.start()
        assert first_in.wait(10)
        assert second() is torch.float32 and torch.get_default_dtype() is torch.float32
        last_out.set()
        thread.join()
        assert torch.get_default_dtype() is torch.float64

"""Loading, dreaming, training and agents are bit-identical under changed torch defaults."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from tests.tiny import tiny_world
from worldmodel import WorldModel
from worldmodel.agents.sb3.agent import load_agent
from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.dynamics import DreamState
from worldmodel.envs.dream.vector_env import DreamVectorEnv
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_world().save_pretrained(tmp_path_factory.mktemp("defaults") / "world")


@pytest.mark.parametrize("ambient", AMBIENT)
def test_worlds_load_and_dream_the_same(folder, tmp_path, ambient):
    plain = dreamt(folder, tmp_path)
    with AMBIENT[ambient]():
        changed = dreamt(folder, tmp_path)
    for a, b in zip(plain, changed, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


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

"""States of other worlds and damaged ones: what a file, and what a world, refuses, by the file's name."""

import copy
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.tiny import tiny_world
from worldmodel.dynamics import DreamState
from worldmodel.envs.dream.vector_env import DreamVectorEnv


@pytest.fixture
def world():
    return tiny_world()


def begin(world):
    starts = world.starts
    return world.start_codes(starts.codes[:3], starts.actions[:3], starts.signals[:3, -1], seeds=[1, 2, 3])


@pytest.fixture
def path(world, tmp_path):
    begin(world).save(tmp_path / "dream.safetensors")
    return tmp_path / "dream.safetensors"


def rewrite(path, change, about=None, keep_sum=False):
    """Change the tensors and texts of a file; without its checksum, as older versions wrote it."""
    with safe_open(path, "pt") as file:
        texts, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors)
    texts |= about or {}
    if not keep_sum:
        del texts["sha256"]
    save_file(tensors, path, texts)


def step(world, state):
    return world.step(state, torch.zeros(3, dtype=torch.int64))[1]


def test_a_state_of_another_training_is_refused_by_name_wherever_it_is_used(path, world):
    other = tiny_world(seed=1)
    envs = DreamVectorEnv(3, other, "features")

    def put(state):
        envs.state = state

    for use in (lambda s: step(other, s), other.features, lambda s: other.at_clock(s, 9), put):
        with pytest.raises(ValueError, match=r"dream\.safetensors is of another world"):
            use(DreamState.load(path))
    with pytest.raises(ValueError, match="this state is of another world"):
        step(other, begin(world))


def test_a_state_continues_in_the_same_world_of_another_dtype_or_object(path, world):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        same = tiny_world().prepare(dtype)
        assert same.fingerprint() == world.fingerprint()
        state = DreamState.load(path)
        assert same.features(state).isfinite().all() and state.world is same


def test_to_observe_nothing_is_refused(world):
    with pytest.raises(TypeError, match=r"observe needs the codes of the step that came, got None; step\(\) draws"):
        world.observe(begin(world), torch.zeros(3, dtype=torch.int64), None)


def test_copies_of_a_state_carry_the_fingerprint_and_no_model(world):
    state = begin(world)
    for twin in (copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        assert twin.world == world.fingerprint()
        assert torch.equal(step(world, twin).codes, step(world, state.clone()).codes)
    assert state.select([0]).world is world


def test_a_state_of_an_older_version_is_taken_by_its_shapes(path, world):
    rewrite(path, lambda tensors: None)
    with safe_open(path, "pt") as file:
        about = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, {name: about[name] for name in ("clock", "shortest", "layers")})
    assert torch.equal(step(world, DreamState.load(path)).codes, step(world, begin(world)).codes)


def test_one_changed_number_is_refused(path):
    def change(tensors):
        tensors["keys.0"].flatten()[0] += 1e-3

    rewrite(path, change, keep_sum=True)
    with pytest.raises(ValueError, match=r"dream\.safetensors is not a saved dream state \(it has changed since"):
        DreamState.load(path)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("codes", lambda t: t + 16, r"codes outside \[0, 15\]"),
        ("codes", lambda t: t.float(), "codes of torch.float32, wanted torch.int64"),
        ("codes", lambda t: t[:, :1].contiguous(), "codes of shape"),
        ("outputs", lambda t: t.fill_(torch.nan), "outputs that are not finite"),
        ("signals", lambda t: t.fill_(torch.inf), "signals that are not finite"),
        ("signals", lambda t: t.double(), "signals of torch.float64, wanted torch.float32"),
        ("seeds", lambda t: t.int(), "seeds of torch.int32"),
        ("counter", lambda t: t - 100, r"counter outside \[0, …\]"),
        ("lengths", lambda t: t + 100, r"lengths outside \[0, 4\]"),
        ("lengths", lambda t: t * 0, "rows shorter than its shortest"),
        ("keys.0", lambda t: t.half(), "keys of layer 1 of torch.float32, wanted torch.float16"),
        ("keys.1", lambda t: t.to(torch.complex64), "keys of layer 1 of torch.complex64"),
        ("values.1", lambda t: t.fill_(torch.nan), "values of layer 1 that are not finite"),
        ("values.1", lambda t: t[:, :1].contiguous(), "values of layer 1 of shape"),
        ("colour", lambda t: torch.zeros(3), "it has unknown tensors: colour"),
        ("seeds", lambda t: t[:2].clone(), "some tensors have another number of rows than its codes: seeds"),
    ],
)
def test_tensors_that_no_dream_of_this_world_has_are_refused_by_name(path, world, name, change, words):
    rewrite(path, lambda tensors: tensors.update({name: change(tensors.get(name))}))
    with pytest.raises(ValueError, match=words) as caught:
        step(world, DreamState.load(path))
    assert "dream.safetensors" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("about", [{"clock": "-1"}, {"clock": "1" * 30}, {"layers": "0"}, {"shortest": "x"}], ids=str)
def test_texts_that_no_dream_has_are_refused_by_name(path, about):
    rewrite(path, lambda tensors: None, about)
    with pytest.raises(ValueError, match=r"dream\.safetensors is not a saved dream state"):
        DreamState.load(path)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("env.return", torch.full((3,), torch.nan)),
        ("env.return", torch.zeros(3, 2)),
        ("env.key", torch.zeros(3)),
        ("env.number", torch.zeros(3, dtype=torch.int32)),
    ],
)
def test_what_an_env_kept_in_a_state_is_checked_too(world, tmp_path, name, tensor):
    envs = DreamVectorEnv(3, world, "codes")
    envs.reset(seed=0)
    before = envs.step(np.zeros(3, np.int64))[0]
    envs.state.save(tmp_path / "env.safetensors")
    rewrite(tmp_path / "env.safetensors", lambda tensors: tensors.update({f"extras.{name}": tensor}))
    with pytest.raises(ValueError, match=rf"env\.safetensors has {name}"):
        envs.state = DreamState.load(tmp_path / "env.safetensors")
    np.testing.assert_array_equal(envs.state.codes.numpy(), before)  # and continues with its own

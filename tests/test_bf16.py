"""Everything runs on processors with and without fast bfloat16 matmuls, whichever this one is.

Without them, nothing multiplies in bfloat16 unless requested explicitly.
"""

import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.agents.trained import META, dreams, small
from tests.bf16_products import fast_bf16
from tests.pixelcnn_world import CLIP, pixelcnn_config, two_levels
from tests.tiny import tiny_config, tiny_world
from tests.training.recorded import recorded_store
from worldmodel.agents.planner.config import PlannerConfig
from worldmodel.agents.planner.planner import Planner
from worldmodel.agents.sb3.train import train_ppo
from worldmodel.data.regroup import regroup
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.evaluation.inverse_dynamics import InverseDynamicsConfig, read, train_inverse_dynamics
from worldmodel.layers import precision
from worldmodel.layers.precision import Linear
from worldmodel.model import WorldModel
from worldmodel.tokenizer import CodebookConfig, FrameVQVAEConfig
from worldmodel.tokenizer.files import save_tokenizer
from worldmodel.training.fit import LoopConfig
from worldmodel.training.train_dynamics import DynamicsTraining, train_dynamics
from worldmodel.training.train_tokenizer import TokenizerTraining, train_tokenizer

LOOP = LoopConfig(steps=2, batch_size=4, warmup=1, evaluate_every=2, save_every=2)
ONCE = LoopConfig(steps=1, batch_size=2, warmup=1, evaluate_every=1, save_every=1)


@pytest.fixture
def slow(monkeypatch):
    with fast_bf16(monkeypatch, fast=False) as mode:
        yield
    assert mode.products > 0


@pytest.fixture(params=[False, True], ids=["slow", "fast"])
def either(monkeypatch, request):
    """Each test once on a processor with slow and once on one with fast bfloat16."""
    with fast_bf16(monkeypatch, request.param) as mode:
        yield
    assert mode.products > 0 and bool(mode.in_bf16) == request.param


def test_the_check_itself_finds_products_of_every_kind(monkeypatch):
    half = torch.ones(1, 4, 4, dtype=torch.bfloat16)
    layer = Linear(192, 256).to(torch.bfloat16).requires_grad_(False)
    products = [
        lambda: half[0] @ half[0],
        lambda: half @ half,
        lambda: torch.nn.functional.scaled_dot_product_attention(half[None], half[None], half[None]),
        lambda: torch.nn.functional.conv1d(half, half),
        lambda: layer(torch.ones(3, 192)),
        lambda: torch.einsum("bij,bjk->bik", half, half),
    ]
    with fast_bf16(monkeypatch, fast=False):
        for product in products:
            with pytest.raises(AssertionError, match="bfloat16"), torch.no_grad():
                product()
        half + half  # no product


def test_a_tokenizer_trains_and_codes(either, tmp_path):
    recorded_store(tmp_path / "data")
    train_tokenizer(tmp_path / "data", tmp_path / "run", TokenizerTraining(model=tiny_config().tokenizer, loop=LOOP))


FRAME_TOKENIZER = FrameVQVAEConfig(
    height=16,
    width=16,
    frames_per_step=2,
    stage_widths=(8, 8),
    residual_units=8,
    codebook=CodebookConfig(num_codes=16, num_slices=2, code_dim=4),
)


def test_a_tokenizer_of_single_frames_trains_and_codes(either, tmp_path):
    recorded_store(tmp_path / "data", lengths=(9,) * 10)
    config = TokenizerTraining(model=FRAME_TOKENIZER, loop=ONCE, validation_steps=4)
    train_tokenizer(tmp_path / "data", tmp_path / "run", config)


def test_a_subscale_transformer_trains_and_makes_videos(either, tmp_path):
    recorded_store(tmp_path / "data", lengths=(9,) * 10)
    save_tokenizer(tmp_path / "tokenizer", tiny_world().tokenizer)
    config = DynamicsTraining(
        model=tiny_config(net="subscale", learn_start=True, drop_actions=0.5).dynamics,
        heads=tiny_config().heads,
        loop=ONCE,
        segment=4,
        num_starts=3,
        start_steps=3,
        validation_segments=2,
    )
    train_dynamics(tmp_path / "data", tmp_path / "tokenizer", tmp_path / "run", config)
    world = WorldModel.from_pretrained(tmp_path / "run" / "best")
    world.sample(1, 2)
    state = world.start_codes(world.starts.codes, world.starts.actions)
    world.step(state, torch.zeros(len(state), dtype=torch.int64))


def test_a_hierarchy_and_its_priors_train_and_make_videos(either, tmp_path):
    regroup(recorded_store(tmp_path / "pairs", lengths=(12,) * 10), tmp_path / "data", 4)
    tokenizer = TokenizerTraining(model=two_levels(), loop=ONCE, validation_steps=4)
    train_tokenizer(tmp_path / "data", tmp_path / "tokenizer", tokenizer)
    priors = pixelcnn_config()
    config = DynamicsTraining(model=priors.dynamics, heads=priors.heads, loop=ONCE, validation_segments=2)
    train_dynamics(tmp_path / "data", tmp_path / "tokenizer" / "best", tmp_path / "run", config)
    world = WorldModel.from_pretrained(tmp_path / "run" / "best")
    action = torch.zeros(1, CLIP - 1, *world.config.action.shape, dtype=world.config.action.torch_dtype)
    world.sample(1, CLIP, first_frames=torch.zeros(1, 1, 4, 16, 16, 3, dtype=torch.uint8), actions=action)


@pytest.mark.parametrize(
    "changes",
    [
        {"refine": 1, "own_draws": 0.5, "token_noise": 0.1},
        {"order": "raster"},
        {"checkerboard": True, "echo": True},
        pytest.param({"position": "time", "window": 8}, marks=pytest.mark.slow),
    ],
)
def test_dynamics_train_and_are_judged(either, tmp_path, changes):
    recorded_store(tmp_path / "data", lengths=(40, 9, 17) * 8)
    save_tokenizer(tmp_path / "tokenizer", tiny_world().tokenizer)
    config = DynamicsTraining(
        model=replace(tiny_config().dynamics, **changes),
        heads=tiny_config({"read_signals": True}).heads,
        loop=LOOP,
        segment=6,
        num_starts=3,
        start_steps=3,
        validation_segments=4,
    )
    train_dynamics(tmp_path / "data", tmp_path / "tokenizer", tmp_path / "run", config)


def test_inverse_dynamics_learn_and_read_in_float32(slow, tmp_path):
    store = recorded_store(tmp_path)
    model = train_inverse_dynamics(store, InverseDynamicsConfig(steps=2, batch_size=8, channels=8, features=16))
    read(model, torch.zeros(2, 3, 2, 16, 16, 3, dtype=torch.uint8))


def test_a_shipped_world_whose_file_is_bfloat16_dreams(either):
    world = WorldModel.from_pretrained("doom-hg")
    envs = DreamVectorEnv(2, world, obs="rgb")
    envs.reset(seed=0)
    envs.step(np.zeros(2, np.int64))
    frames = torch.zeros(1, 1, 2, 64, 64, 3, dtype=torch.uint8)
    world.sample(1, 2, first_frames=frames, actions=torch.zeros(1, 1, dtype=torch.int64))


@pytest.mark.parametrize("obs", ["rgb", "latent", "features"])
def test_agents_train_in_dreams_in_float32(slow, tmp_path, obs):
    train_ppo(dreams(obs), small(), tmp_path, META)


def test_planners_plan_in_float32(slow):
    planner = Planner(tiny_world(), PlannerConfig(horizon=3, candidates=8, iterations=2, elites=2))
    planner.reset(np.arange(1))
    planner.act(np.zeros((1, 2, 2, 2), np.int64))


@pytest.mark.rllib
def test_rllibs_networks_see_frames(either):
    gym, columns = pytest.importorskip("gymnasium"), pytest.importorskip("ray.rllib.core.columns")
    from worldmodel.agents.rllib.module import PixelPPOModule

    module = PixelPPOModule(
        observation_space=gym.spaces.Box(0, 255, (16, 16, 3), np.uint8),
        action_space=gym.spaces.Discrete(3),
        model_config={"features_dim": 8, "channels": 4},
    )
    module.forward_train({columns.Columns.OBS: torch.zeros(2, 16, 16, 3, dtype=torch.uint8)})


def test_bfloat16_that_is_asked_for_warns_once_where_it_is_slow(monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bf16", lambda: False)
    precision._warn_once.cache_clear()
    world = tiny_world()
    with pytest.warns(UserWarning, match=r"bfloat16 matmuls .* slower .* use dtype='auto'"):
        world.prepare(torch.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world.prepare(torch.bfloat16)
        world.prepare()
    assert next(world.dynamics.blocks.parameters()).dtype == torch.float32


def test_bfloat16_that_is_fast_warns_of_nothing(monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bf16", lambda: True)
    precision._warn_once.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny_world().prepare(torch.bfloat16)


SCRIPT = """
import torch
from tests.tiny import tiny_world
from worldmodel.layers.precision import Linear, fast_dtype
assert fast_dtype() == torch.float32, fast_dtype()
for dtype in (torch.bfloat16, torch.float16):
    world = tiny_world().prepare(dtype)
    state = world.start_codes(world.starts.codes, world.starts.actions)
    state, out = world.step(state, torch.zeros(5, dtype=torch.int64))
    out.frames()
    Linear(192, 256).to(dtype).requires_grad_(False)(torch.ones(2, 192))
"""


def test_half_precision_that_is_asked_for_works_on_a_processor_without_avx512():
    """oneDNN is limited to AVX2 in a new process, since it reads the setting only at its start."""
    limits = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"}
    root = Path(__file__).resolve().parent.parent  # where the script finds `tests`
    run = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(run, cwd=root, env=os.environ | limits, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("UserWarning: bfloat16") == 1 and done.stderr.count("UserWarning: float16") == 1

"""Forked children dream, although the parent's torch threads are missing there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import tiny_world

ROOT = Path(__file__).resolve().parent.parent
# Each part hangs for ever where torch keeps its threads.
PROGRAM = """
import os
import sys
import warnings

warnings.simplefilter("ignore")  # of Python 3.12 and later, about forks of processes with threads
sys.path.insert(0, sys.argv[1])
import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv

import worldmodel

torch.set_num_threads(3)
ID, OPTIONS = "VideoGenDream-Doom", {"model": sys.argv[2], "device": "cpu"}


def dream(env, action):
    env.reset(seed=1)
    return [env.step(action)[0] for _ in range(5)]


def make():
    return gym.make(ID, **OPTIONS)


def same(*dreams):
    return all(np.array_equal(*pair) for pair in zip(*dreams, strict=True))


here = dream(make(), 0)
large = torch.rand(700, 700)
product = large @ large  # large enough for all threads
if not (child := os.fork()):
    assert torch.allclose(large @ large, product, rtol=1e-4) and same(here, dream(make(), 0))
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0, "fork"
assert torch.get_num_threads() == 3  # here

by_fork = {"context": "fork"}  # the default on Linux before Python 3.14
make_vec = gym.make_vec(ID, 2, vectorization_mode="async", vector_kwargs=by_fork, **OPTIONS)
for name, envs in {"make_vec": make_vec, "AsyncVectorEnv": AsyncVectorEnv([make, make])}.items():
    assert same(here, [both[0] for both in dream(envs, np.zeros(2, int))]), name
    envs.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_forked_children_dream_what_their_parent_dreams(tmp_path):
    world = tiny_world().save_pretrained(tmp_path / "world")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    process = subprocess.Popen(
        [sys.executable, program, ROOT, world], env=environment, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors.decode()

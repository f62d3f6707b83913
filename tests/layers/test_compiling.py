"""Marked functions are not traced, and the compiler is imported only by who compiles."""

import subprocess
import sys
from functools import partial

import torch

from worldmodel.layers.compiling import compiled, uncompiled


def test_a_marked_function_runs_as_it_is_inside_a_compiled_one(monkeypatch):
    compiling = []

    @uncompiled
    def doubled(x: torch.Tensor) -> torch.Tensor:
        compiling.append(torch.compiler.is_compiling())
        return 2 * x

    def traced(x: torch.Tensor) -> torch.Tensor:
        return doubled(x + 1)

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    assert compiled(traced)(torch.tensor(3.0)) == 8
    assert compiling == [False]
    assert doubled.__name__ == "doubled"


def test_a_shipped_world_dreams_without_importing_the_compiler():
    code = (
        "import sys, gymnasium, worldmodel\n"
        "env = gymnasium.make('VideoGenDream-BAIR')\n"
        "env.reset(seed=0), env.step(env.action_space.sample())\n"
        "print([name for name in ('torch._dynamo', 'sympy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr

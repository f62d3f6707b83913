"""The way of one step from the agent's action to the codes, as CONTRIBUTING.md describes it."""

import re
import sys
from pathlib import Path

from tests.tiny import tiny_world
from worldmodel.dynamics import code_head, sampling
from worldmodel.envs import DreamVectorEnv

ROOT = Path(__file__).parents[3]
WRAPPERS = ("layers/defaults.py", "torch/utils/_contextlib.py")


def test_a_step_reaches_the_codes_through_the_functions_that_contributing_names(monkeypatch):
    walks = []

    def draw(*args):
        frame, walk = sys._getframe(1), ["draw"]
        while walk[-1] != "DreamVectorEnv.step":
            if not frame.f_code.co_filename.endswith(WRAPPERS):
                walk.append(frame.f_code.co_qualname)
            frame = frame.f_back
        walks.append(walk[::-1])
        return sampling.draw(*args)

    envs = DreamVectorEnv(2, tiny_world(), obs="codes")
    envs.reset(seed=0)
    monkeypatch.setattr(code_head, "draw", draw)
    envs.step(envs.action_space.sample())
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("A step of a dream goes")[2].partition("\n\n")[0]
    named = re.findall(r"`((?:[A-Z]\w+\.\w+)|draw)`", text)
    assert all(walk == named for walk in walks) and walks
    assert len(named) == 7

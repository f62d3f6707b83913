"""The examples in docstrings run, and the most used calls have one."""

import doctest
import importlib
import pkgutil
import tempfile
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MOST_USED = [
    "worldmodel.model.world_model.WorldModel",
    "worldmodel.model.dreaming.Dreamer.start",
    "worldmodel.model.dreaming.Dreamer.branch",
    "worldmodel.model.videos.VideoMaker.sample",
    "worldmodel.data.storage.EpisodeStorage",
    "worldmodel.envs.dream.env.DreamEnv",
    "worldmodel.envs.dream.vector_env.DreamVectorEnv",
    "worldmodel.envs.pixel_game.PixelGame",
    "worldmodel.agents.evaluate.evaluate",
    "worldmodel.agents.planner.planner.Planner",
    "worldmodel.agents.sb3.vec_env.SB3VecEnv",
]


def modules_with_examples() -> list[str]:
    found = []
    for room in ("worldmodel", "envs", "agents", "training"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if ">>> " in path.read_text(encoding="utf-8"):
                name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                found.append(name if room == "worldmodel" else f"worldmodel.{name}")
    return found


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_run(name, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    module = importlib.import_module(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Gymnasium's about seeds and spaces
        result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted and not result.failed, capsys.readouterr().out


@pytest.mark.parametrize("name", MOST_USED)
def test_the_calls_used_most_have_an_example(name):
    assert ">>> " in pkgutil.resolve_name(name).__doc__

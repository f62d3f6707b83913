"""Every file imports from its own floor or a lower one, by the installed names, and heavy packages only where used.

No files import each other in a circle.
"""

import ast
from collections import Counter
from collections.abc import Mapping, Set
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOP_FOLDERS = ("worldmodel", "envs", "agents", "training")

# A module has the floor of its longest prefix here.
FLOORS = {
    "worldmodel": 3,  # the public names
    "worldmodel.counted": 1,
    "worldmodel.devices": 1,
    "worldmodel.errors": 1,
    "worldmodel.files": 1,
    "worldmodel.forks": 1,
    "worldmodel.leftovers": 1,
    "worldmodel.progress": 1,
    "worldmodel.replacing": 1,
    "worldmodel.cards": 1,
    "worldmodel.checkpoint": 1,
    "worldmodel.checksums": 1,
    "worldmodel.hub": 1,
    "worldmodel.tensor_files": 1,
    "worldmodel.restoring": 1,
    "worldmodel.settings": 1,
    "worldmodel.shapes": 1,
    "worldmodel.statistics": 1,
    "worldmodel.data": 1,
    "worldmodel.locks": 1,
    "worldmodel.media": 1,
    "worldmodel.visualize": 7,
    "worldmodel.layers": 2,
    "worldmodel.tokenizer": 2,
    "worldmodel.dynamics": 3,
    "worldmodel.model": 3,
    "worldmodel.pretrained": 3,
    "worldmodel.evaluation": 4,
    "worldmodel.envs": 5,
    "worldmodel.agents": 6,
    "worldmodel.training": 7,
}
# Packages that are slow to import, and the modules that are about nothing else.
HEAVY = {
    "gymnasium.utils.play": (),
    "matplotlib": (),
    "minari": (),
    "moviepy": (),
    "pybullet": (),
    "pybullet_data": (),
    "ray": (
        *(f"worldmodel.agents.rllib.{part}" for part in ("config", "module", "policy", "env_runner")),
        "worldmodel.training.collect.ray_workers",
    ),
    "scipy.stats": ("worldmodel.evaluation.rank_correlation",),
    "stable_baselines3": tuple(
        f"worldmodel.agents.sb3.{part}"
        for part in (
            "agent",
            "batched",
            "eval_callback",
            "networks",
            "rollout_memory",
            "unfinished",
            "train",
            "vec_env",
        )
    ),
    "tensorboard": (),
    "torch.utils.tensorboard": (),
    "vizdoom": (),
}


class Import(NamedTuple):
    """One imported name as an absolute dotted path."""

    target: str
    line: int
    when_loading: bool  # False inside a function and under TYPE_CHECKING


@cache
def imports_of(source: str, module: str, is_package: bool = False) -> list[Import]:
    """All imports of a file: at the top, in functions, relative ones, and `import_module("…")`."""
    package, found = module.split(".") if is_package else module.split(".")[:-1], []

    def visit(node: ast.AST, when_loading: bool) -> None:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            path = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{path}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Call) and "import_module" in (getattr(node.func, at, "") for at in ("id", "attr")):
            names = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        found.extend(Import(name, node.lineno, when_loading) for name in names)
        late = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        for child in ast.iter_child_nodes(node):
            visit(child, when_loading and not late)

    visit(ast.parse(source), when_loading=True)
    return found


def inside(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def floor_of(name: str) -> int:
    prefixes = [prefix for prefix in FLOORS if inside(name, prefix)]
    return FLOORS[max(prefixes, key=len)]


def complaints(source: str, module: str, is_package: bool = False) -> list[str]:
    """What is wrong with the imports of one file."""
    found = []
    for target, line, when_loading in imports_of(source, module, is_package):
        where = f"{module}:{line} imports {target}"
        if target.split(".")[0] in TOP_FOLDERS[1:]:
            found.append(f"{where}: write worldmodel.{target}")
        elif target in ("worldmodel", "worldmodel.__version__"):
            continue  # registers the ids or reads the version; reaches no floor
        elif inside(target, "worldmodel") and floor_of(target) > floor_of(module):
            found.append(f"{where}: floor {floor_of(module)} reaches up to floor {floor_of(target)}")
        for package, users in HEAVY.items():
            if when_loading and inside(target, package) and module not in users:
                found.append(f"{where}: import it inside the function that needs it")
    return found


def imported_files(source: str, module: str, is_package: bool, files: Set[str]) -> set[str]:
    """Which of these files a file imports, anywhere in it."""
    found = set()
    for target, _, _ in imports_of(source, module, is_package):
        while target and target not in files:
            target = target.rpartition(".")[0]
        found.add(target)
    return found - {"", module}


def circles(imports: Mapping[str, Set[str]]) -> list[str]:
    """Groups of files that import each other, directly or through others: "a, b, c"."""

    def reachable(name: str) -> set[str]:
        found: set[str] = set()
        waiting = list(imports[name])
        while waiting:
            if (here := waiting.pop()) not in found:
                found.add(here)
                waiting += imports[here]
        return found

    reached = {name: reachable(name) for name in imports}
    groups = {", ".join(sorted(o for o in reached[name] if name in reached[o])) for name in imports}
    return sorted(groups - {""})


def library_files() -> dict[str, Path]:
    """Every file of the library by its dotted name."""
    files = {}
    for top in TOP_FOLDERS:
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            files[name if top == "worldmodel" else f"worldmodel.{name}"] = path
    return files


FILES = library_files()


@pytest.mark.parametrize("module", FILES)
def test_a_file_imports_only_from_its_own_floor_or_below(module):
    path = FILES[module]
    assert complaints(path.read_text(encoding="utf-8"), module, path.name == "__init__.py") == []


def test_no_files_import_each_other_in_a_circle():
    """Imports in functions and for types count; names that a package looks up lazily by a string do not."""
    imports = {
        name: imported_files(path.read_text(encoding="utf-8"), name, path.name == "__init__.py", FILES.keys())
        for name, path in FILES.items()
    }
    assert circles(imports) == []


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"a": "from w import b", "b": "from w.a import A"}, ["w.a, w.b"]),
        ({"a": "if TYPE_CHECKING:\n    from w.b import B", "b": "def f():\n    from . import a"}, ["w.a, w.b"]),
        ({"a": "import w.b", "b": "import w.c", "c": "import w.a", "d": "import w.a"}, ["w.a, w.b, w.c"]),
        ({"a": "import w.b", "b": "import w.a", "c": "import w.d", "d": "import w.c"}, ["w.a, w.b", "w.c, w.d"]),
        ({"a": "from w import b, c", "b": "import w.c", "c": "import torch"}, []),
        ({"a": "LAZY = {'B': 'w.b'}\ndef __getattr__(name):\n    import_module(LAZY[name])", "b": "import w.a"}, []),
    ],
)
def test_planted_circles_are_named(sources, expected):
    files = {f"w.{name}" for name in sources}
    imports = {f"w.{name}": imported_files(source, f"w.{name}", False, files) for name, source in sources.items()}
    assert circles(imports) == expected


def test_every_module_at_the_top_of_worldmodel_has_a_floor():
    direct = {name for name in FILES if name.count(".") == 1}
    assert direct - FLOORS.keys() == set(), "add it to FLOORS in this file"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("worldmodel.data.storage", "from worldmodel.tokenizer import VQVAE"),
        ("worldmodel.data.storage", "def f():\n    from worldmodel.envs import wrappers"),
        ("worldmodel.tokenizer.vqvae", "from ..dynamics.gpt import GPT"),
        ("worldmodel.tokenizer.vqvae", "from .. import model"),
        ("worldmodel.layers.conv", "from worldmodel import model"),
        ("worldmodel.model", "import worldmodel.envs.dream.env as dream"),
        ("worldmodel.model", "import_module('worldmodel.agents.sb3.train')"),
        ("worldmodel.envs.dream.env", "import importlib\nimportlib.import_module('worldmodel.training.fit')"),
        ("worldmodel.agents.evaluate", "if TYPE_CHECKING:\n    from worldmodel.training import fit"),
        ("worldmodel.data.storage", "from worldmodel import WorldModel"),
        ("worldmodel.agents.evaluate", "from envs import DreamEnv"),
        ("worldmodel.training.cli.main", "import agents.sb3"),
        ("worldmodel.training.cli.main", "import ray"),
        ("worldmodel.agents.evaluate", "from stable_baselines3.common import vec_env"),
        ("worldmodel.media.write", "if True:\n    from moviepy import ImageSequenceClip"),
        ("worldmodel.training.fit", "from torch.utils.tensorboard import SummaryWriter"),
    ],
)
def test_a_planted_wrong_import_is_caught(module, source):
    assert len(complaints(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("worldmodel.envs.dream.env", "from worldmodel.model import WorldModel"),
        ("worldmodel.tokenizer.vqvae", "from .codebook import SlicedCodebook\nfrom ..layers import conv"),
        ("worldmodel.agents.evaluate", "import worldmodel\nfrom worldmodel import __version__"),
        ("worldmodel.agents.sb3.train", "from stable_baselines3 import PPO"),
        ("worldmodel.media.write", "def save():\n    from moviepy import ImageSequenceClip"),
        ("worldmodel.envs.vizdoom.env", "if TYPE_CHECKING:\n    import vizdoom"),
        ("worldmodel.data.storage", "import rayon"),
    ],
)
def test_a_right_import_is_not_complained_about(module, source):
    assert complaints(source, module) == []


MOST_FILES = 20  # source files of one folder; more of them need a separate folder


def test_no_folder_holds_more_source_files_than_one_can_look_through():
    counts = Counter(path.parent.relative_to(ROOT).as_posix() for path in FILES.values() if path.name != "__init__.py")
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES} == {}

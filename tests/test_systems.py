"""No dream or command needs what Windows lacks (tested on Linux, with those parts removed)."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("data", "layers", "tokenizer", "dynamics", "envs", "agents", "training")
HIDE = """
import os, signal, sys, warnings
sys.modules["fcntl"] = None  # importing it raises ImportError
# Libraries ask sys.platform which of the others they may use, and so are imported before those go.
import gymnasium, h5py, moviepy, ray, stable_baselines3, torch.utils.data, tqdm, websockets
for name in ("resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline"):
    sys.modules[name] = None
for owner, names in (
    (os, ("sched_getaffinity", "register_at_fork", "fork", "forkpty", "getuid", "geteuid", "killpg", "getpgid")),
    (signal, ("SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "alarm", "setitimer")),
):
    for name in names:
        if hasattr(owner, name):
            delattr(owner, name)
warnings.filterwarnings("ignore", message="flock not supported")  # filelock's other lock takes over
"""
USE = """
import importlib, pkgutil
for package in sys.argv[2:]:
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, package + "."):
        importlib.import_module(module.name)
env = gymnasium.make("VideoGenDream-Doom")
obs, _ = env.reset(seed=0)
assert env.step(env.action_space.sample())[0].shape == obs.shape
from tests.data.makers import assert_holds, make_episode, make_store
store = make_store(sys.argv[1] + "/store", (6, 3))
store.append(make_episode(8, seed=2))
store.flush()
assert_holds(store, (6, 3, 8))
from worldmodel.training.reports.markdown import machine
assert machine()["cores"] > 0
"""


def test_everything_imports_dreams_and_stores_without_posix_modules(tmp_path):
    packages = [f"worldmodel.{name}" for name in PACKAGES]
    done = subprocess.run(
        [sys.executable, "-c", HIDE + USE, str(tmp_path), *packages],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr

"""LeRobot itself reads what we export and writes what we import.

It cannot be installed beside us (its versions of torch and huggingface-hub exclude ours), so it runs in a Python of its
own: `make test-lerobot` builds one and names it in LEROBOT_PYTHON.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.data.lerobot.makers import OF_FRAMES, TURNS, make_store, psnr
from worldmodel.data.lerobot.exporter import export_lerobot
from worldmodel.data.lerobot.importer import import_lerobot

THEIR_PYTHON = os.environ.get("LEROBOT_PYTHON", "")
SCRIPT = Path(__file__).with_name("in_their_python.py")

pytestmark = pytest.mark.skipif(not THEIR_PYTHON, reason="needs a Python with LeRobot: make test-lerobot")


def run(folder: Path, *arguments: object) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "PYTHONPATH": ""}
    done = subprocess.run([THEIR_PYTHON, SCRIPT, *map(str, arguments)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    "changes", [{"action": OF_FRAMES}, {"action": TURNS, "steps_per_second": 8.75, "signal_names": ("HEALTH",)}]
)
def test_lerobot_reads_every_row_and_frame_of_an_export(tmp_path, changes):
    store = make_store(tmp_path / "store", **changes)
    export_lerobot(store, tmp_path / "out", task="walk")
    run(tmp_path, "read", tmp_path / "out", tmp_path / "rows.npz")
    rows = np.load(tmp_path / "rows.npz")
    assert rows["episodes"] == 3 and str(rows["task"]) == "walk"
    first = 0
    for index, length in enumerate(store.lengths):
        mine = slice(first, first := first + 2 * length)
        assert (rows["episode"][mine] == index).all()
        wanted = store.actions(index)
        wanted = wanted.reshape(2 * length, 2) if wanted.ndim == 2 else wanted.repeat(2)
        np.testing.assert_array_equal(rows["action"][mine].reshape(wanted.shape), wanted)
        np.testing.assert_array_equal(rows["next.reward"][mine].reshape(-1)[1::2], store.rewards(index))
        state = rows["observation.state"][mine].reshape(2 * length, -1)
        np.testing.assert_array_equal(state[::2], store.signals(index)[:-1])
        terminated, truncated = store.ended(index)
        assert rows["next.done"][mine].ravel()[-1] == (terminated or truncated)
        assert rows["next.truncated"][mine].ravel()[-1] == truncated
        frames = store.frames(index)
        frames = np.concatenate((frames[0, -1:], frames[1:].reshape(-1, *frames.shape[2:])))[:-1]
        assert min(psnr(*pair) for pair in zip(rows["frames"][mine], frames, strict=True)) > 35
    np.testing.assert_array_equal(rows["window"], rows["frames"][:3])
    assert first == len(rows["frames"])


def test_a_data_set_that_lerobot_wrote_is_imported(tmp_path):
    run(tmp_path, "write", tmp_path / "set")
    store = import_lerobot(tmp_path / "set", tmp_path / "store", frames_per_step=1)
    assert store.lengths == [3, 2] and store.info.signal_names == ("x", "y")
    assert store.info.action.names == ("dx", "dy") and store.info.steps_per_second == 10
    assert [store.ended(episode) for episode in (0, 1)] == [(True, False)] * 2
    np.testing.assert_array_equal(store.rewards(1), [4, 5])
    np.testing.assert_allclose(store.actions(1), [[0.4, 0], [0.5, 1]], rtol=1e-6)
    np.testing.assert_array_equal(store.signals(0)[:, 0], [1, 2, 3, 3])
    shown = [store.frames(episode).mean((1, 2, 3, 4)) for episode in (0, 1)]
    np.testing.assert_allclose(shown[0], [40, 80, 120, 120], atol=4)
    np.testing.assert_allclose(shown[1], [160, 200, 200], atol=4)

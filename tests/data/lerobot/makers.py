"""Stores whose frames can still be distinguished after compression, and data sets as LeRobot writes them."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from worldmodel.data import ActionSpec, Episode, EpisodeStorage, StoreInfo

TURNS = ActionSpec(kind="discrete", n=3, names=("left", "right", "ahead"))
HELD = ActionSpec(kind="box", n=2, names=("x", "y"), low=(-1.0, -2.0), high=(1.0, 2.0))
OF_FRAMES = ActionSpec(kind="box", n=4, names=("x_0", "y_0", "x_1", "y_1"), low=(-1.0,) * 4, high=(1.0,) * 4, frames=2)
INFO = StoreInfo(
    env_id="Toy",
    frames_per_step=2,
    height=32,
    width=48,
    channels=3,
    action=HELD,
    signal_names=("HEALTH", "AMMO"),
    reward="health",
    steps_per_second=5.0,
)


def smooth_frames(count: int, height: int, width: int, channels: int, seed: int) -> np.ndarray:
    """(count, H, W, C) uint8: a bright square on a slope of colours, elsewhere in every frame."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(20, 120, width)[None, :, None] * rng.uniform(0.5, 1, channels)
    frames = np.broadcast_to(slope, (count, height, width, channels)).copy()
    for frame, (top, left) in zip(frames, rng.integers(0, (height - 8, width - 8), (count, 2)), strict=True):
        frame[top : top + 8, left : left + 8] = rng.uniform(130, 250, channels)
    return frames.astype(np.uint8)


def make_episode(num_steps: int, seed: int, info: StoreInfo = INFO, **changes) -> Episode:
    """Known content; the frames of the reset are one frame repeated, as in every store."""
    rng, F = np.random.default_rng(seed), info.frames_per_step
    frames = smooth_frames((num_steps + 1) * F, info.height, info.width, info.channels, seed)
    frames[: F - 1] = frames[F - 1]
    actions = (
        rng.integers(0, info.action.n, num_steps)
        if info.action.kind == "discrete"
        else rng.uniform(info.action.low, info.action.high, (num_steps, info.action.n)).astype(np.float32)
    )
    parts = {
        "frames": frames.reshape(num_steps + 1, F, *frames.shape[1:]),
        "actions": actions,
        "rewards": rng.normal(size=num_steps).astype(np.float32),
        "terminated": seed % 3 == 0,
        "truncated": seed % 3 == 1,
        "signals": rng.normal(size=(num_steps + 1, len(info.signal_names))).astype(np.float32),
        "seed": None if seed == 1 else seed,
    }
    return Episode(**parts | changes)


def make_store(root: Path, lengths=(4, 2, 5), **changes) -> EpisodeStorage:
    info = replace(INFO, **changes)
    with EpisodeStorage.create(root, info) as store:
        for seed, length in enumerate(lengths):
            store.append(make_episode(length, seed, info))
    return store


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((one.astype(float) - other) ** 2), 1e-9)))


def assert_same_but_for_frames(store: EpisodeStorage, wanted: EpisodeStorage, least_psnr: float = 35.0) -> None:
    """Everything is exact, and every single frame about the same."""
    assert store.info == wanted.info and store.lengths == wanted.lengths
    for index in range(len(wanted)):
        mine, theirs = store.episode(index), wanted.episode(index)
        for name in ("actions", "rewards", "signals"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name), err_msg=name)
        assert (mine.terminated, mine.truncated, mine.seed) == (theirs.terminated, theirs.truncated, theirs.seed)
        for ours, frame in zip(
            mine.frames.reshape(-1, *mine.frames.shape[2:]),
            theirs.frames.reshape(-1, *theirs.frames.shape[2:]),
            strict=True,
        ):
            assert psnr(ours, frame) > least_psnr

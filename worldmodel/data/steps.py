"""Group recordings with one action per frame into steps of F frames.

Letters: V frames of a recording, F frames per step, N steps, H W C pixels, A dimensions of a frame's action.
"""

import numpy as np
from numpy.typing import NDArray


def num_steps(num_frames: int, frames_per_step: int) -> int:
    """N: the first frame is the reset frame, the others form steps; the last step may be incomplete."""
    return -(-(num_frames - 1) // frames_per_step)


def frames_to_steps(frames: NDArray[np.uint8], frames_per_step: int) -> NDArray[np.uint8]:
    """(V, H, W, C) -> (N + 1, F, H, W, C): the first frame F times, then F per step; padded with the last frame."""
    steps = num_steps(len(frames), frames_per_step)
    # Index into the recording of each frame shown.
    shown = np.minimum(np.arange(1, 1 + steps * frames_per_step), len(frames) - 1)
    return frames[np.concatenate((np.zeros(frames_per_step, int), shown))].reshape(
        steps + 1, frames_per_step, *frames.shape[1:]
    )


def steps_to_frames(steps: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N + 1, F, H, W, C) -> (1 + N * F, H, W, C): the reset frame once, then the frames of the steps."""
    return np.concatenate((steps[0, -1:], steps[1:].reshape(-1, *steps.shape[2:])))


def numbers_to_steps(numbers: NDArray[np.float32], frames_per_step: int) -> NDArray[np.float32]:
    """(V - 1, A), the actions that led to each frame but the first, -> (N, F * A) concatenated; zero-padded."""
    steps = num_steps(len(numbers) + 1, frames_per_step)
    missing = steps * frames_per_step - len(numbers)
    return np.pad(numbers, ((0, missing), (0, 0))).reshape(steps, -1)


def state_frames(num_frames: int, frames_per_step: int) -> NDArray[np.int64]:
    """(N + 1,) index of the frame that shows the state before each step, and after the last one."""
    steps = num_steps(num_frames, frames_per_step)
    return np.minimum(np.arange(steps + 1) * frames_per_step, num_frames - 1)

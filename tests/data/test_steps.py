"""Grouping recordings with one action per frame into steps."""

import numpy as np
import pytest

from worldmodel.data.steps import frames_to_steps, num_steps, numbers_to_steps, state_frames


@pytest.mark.parametrize(
    ("num_frames", "frames_per_step", "frames", "actions", "states"),
    [
        (3, 1, [[0], [1], [2]], [[10], [11]], [0, 1, 2]),
        (5, 2, [[0, 0], [1, 2], [3, 4]], [[10, 11], [12, 13]], [0, 2, 4]),
        (4, 2, [[0, 0], [1, 2], [3, 3]], [[10, 11], [12, 0]], [0, 2, 3]),
        (2, 4, [[0, 0, 0, 0], [1, 1, 1, 1]], [[10, 0, 0, 0]], [0, 1]),
    ],
)
def test_a_step_is_its_frames_and_the_actions_that_led_to_them(num_frames, frames_per_step, frames, actions, states):
    recorded = np.arange(num_frames, dtype=np.uint8).reshape(-1, 1, 1, 1)
    shown = frames_to_steps(recorded, frames_per_step)
    assert shown.shape[2:] == (1, 1, 1) and shown[..., 0, 0, 0].tolist() == frames
    led = np.arange(10, 10 + num_frames - 1, dtype=np.float32)[:, None]
    assert numbers_to_steps(led, frames_per_step).tolist() == actions
    assert state_frames(num_frames, frames_per_step).tolist() == states
    assert num_steps(num_frames, frames_per_step) == len(actions)

"""Sizes of a BAIR trajectory, common to all file formats."""

from typing import Literal

Camera = Literal["aux1", "main"]
FRAMES, SIZE, CHANNELS = 30, 64, 3  # of a trajectory
ACTION_SIZE, POSITION_SIZE = 4, 3

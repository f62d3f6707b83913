"""Sizes of a BAIR trajectory, common to all file formats."""

from typing import Literal

Camera = Literal["aux1", "main"]
GAME = "BAIR"  # env id of stores of the recordings
FRAMES, SIZE, CHANNELS = 30, 64, 3  # of a trajectory
FRAMES_PER_SECOND = 10  # assumed: the recordings do not state it
ACTION_SIZE, POSITION_SIZE = 4, 3

"""Dynamics: codes of the next step given the codes and actions so far, and the heads that read rewards and ends."""

from worldmodel.dynamics.config import GPTConfig
from worldmodel.dynamics.frame_encoder import FrameEncoderConfig
from worldmodel.dynamics.generation import Video
from worldmodel.dynamics.gpt import GPT
from worldmodel.dynamics.heads import Heads, HeadsConfig
from worldmodel.dynamics.presets import PRESETS, Preset, preset
from worldmodel.dynamics.sampling import Sampling
from worldmodel.dynamics.state import DreamState

__all__ = [
    "GPT",
    "PRESETS",
    "DreamState",
    "FrameEncoderConfig",
    "GPTConfig",
    "Heads",
    "HeadsConfig",
    "Preset",
    "Sampling",
    "Video",
    "preset",
]

"""Dynamics: predict the codes of the next step from past codes and actions, and read rewards and ends from a step."""

from worldmodel.dynamics.base import Dynamics, DynamicsConfig
from worldmodel.dynamics.build import build
from worldmodel.dynamics.generation import Video
from worldmodel.dynamics.gpt.config import GPTConfig
from worldmodel.dynamics.gpt.frame_encoder import FrameEncoderConfig
from worldmodel.dynamics.gpt.gpt import GPT
from worldmodel.dynamics.heads import Heads, HeadsConfig
from worldmodel.dynamics.pixelcnn.config import PixelCNNConfig
from worldmodel.dynamics.pixelcnn.pair import PixelCNNPair
from worldmodel.dynamics.presets import PRESETS, Preset, preset
from worldmodel.dynamics.sampling import Sampling
from worldmodel.dynamics.state import DreamState
from worldmodel.dynamics.subscale.config import SubscaleConfig
from worldmodel.dynamics.subscale.transformer import SubscaleTransformer

__all__ = [
    "GPT",
    "PRESETS",
    "DreamState",
    "Dynamics",
    "DynamicsConfig",
    "FrameEncoderConfig",
    "GPTConfig",
    "Heads",
    "HeadsConfig",
    "PixelCNNConfig",
    "PixelCNNPair",
    "Preset",
    "Sampling",
    "SubscaleConfig",
    "SubscaleTransformer",
    "Video",
    "build",
    "preset",
]

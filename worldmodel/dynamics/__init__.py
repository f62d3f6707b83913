"""Dynamics: codes of the next step given the codes and actions so far, and the heads that read rewards and ends."""

from worldmodel.dynamics.gpt import GPT, GPTConfig
from worldmodel.dynamics.heads import Heads, HeadsConfig
from worldmodel.dynamics.state import DreamState

__all__ = ["GPT", "DreamState", "GPTConfig", "Heads", "HeadsConfig"]

"""The Latent Video Transformer's dynamics: an encoder over earlier slices of a video, a decoder over the current one."""

from worldmodel.dynamics.subscale.config import SubscaleConfig
from worldmodel.dynamics.subscale.transformer import SubscaleTransformer

__all__ = ["SubscaleConfig", "SubscaleTransformer"]

"""Build the dynamics that a config describes."""

from worldmodel.data import ActionSpec
from worldmodel.dynamics.base import Dynamics, DynamicsConfig
from worldmodel.dynamics.gpt.config import GPTConfig
from worldmodel.dynamics.gpt.gpt import GPT
from worldmodel.dynamics.pixelcnn.config import PixelCNNConfig
from worldmodel.dynamics.pixelcnn.pair import PixelCNNPair
from worldmodel.dynamics.subscale.config import SubscaleConfig
from worldmodel.dynamics.subscale.transformer import SubscaleTransformer
from worldmodel.tokenizer import Tokenizer

_CLASSES: dict[type, type[Dynamics]] = {
    GPTConfig: GPT,
    PixelCNNConfig: PixelCNNPair,
    SubscaleConfig: SubscaleTransformer,
}


def build(config: DynamicsConfig, tokenizer: Tokenizer, action: ActionSpec) -> Dynamics:
    """Untrained dynamics of this config, for the codes of a tokenizer."""
    about = tokenizer.config
    return build_for(
        config,
        tokenizer.grid,
        tokenizer.num_codes,
        tokenizer.num_slices,
        tokenizer.code_dim,
        action,
        (about.frames_per_step, about.channels),
    )


def build_for(
    config: DynamicsConfig,
    grid: tuple[int, int],
    num_codes: int,
    num_slices: int,
    code_dim: int,
    action: ActionSpec,
    step_frames: tuple[int, int],
) -> Dynamics:
    """Untrained dynamics for codes of these sizes; `step_frames`: number and channels of the frames of a step."""
    return _CLASSES[type(config)](config, grid, num_codes, num_slices, code_dim, action, step_frames)  # type: ignore[call-arg]

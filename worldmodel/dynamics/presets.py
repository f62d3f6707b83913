"""Named sizes: those of the papers, those of the Doom worlds, and one that trains on a CPU.

Letters: D width, V codes, M slices, E features of a token's code vectors.
Source: VideoGen (OpenReview 3InxcRQsYLf) section 4; VideoGPT (arXiv:2104.10157) tables 8 and 9. Differs: full
attention; "videogen-2x2x2" has width 576, because 512 is not divisible by the three axes of its positions;
"moving-mnist" has feed-forward layers of four times its width, not two. Latent Video
Transformer (arXiv:2006.10704) section 4.1, with the sizes of its authors' public code.
"""

from dataclasses import dataclass, replace
from typing import Any

from worldmodel.data import ActionSpec
from worldmodel.dynamics.base import Dynamics, DynamicsConfig
from worldmodel.dynamics.build import build_for
from worldmodel.dynamics.gpt.config import GPTConfig
from worldmodel.dynamics.gpt.frame_encoder import FrameEncoderConfig
from worldmodel.dynamics.pixelcnn.config import PixelCNNConfig
from worldmodel.dynamics.subscale.config import SubscaleConfig
from worldmodel.errors import check_known


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """Dynamics and the codes it is designed for."""

    model: DynamicsConfig
    latents: tuple[int, int, int]  # steps of a clip, height and width of the code grid
    num_codes: int  # V
    num_slices: int = 1  # M
    code_dim: int  # E, of all slices together

    def build(self, action: ActionSpec, step_frames: tuple[int, int] = (2, 3)) -> Dynamics:
        """Untrained dynamics for such codes."""
        grid = self.latents[1:]
        return build_for(self.model, grid, self.num_codes, self.num_slices, self.code_dim, action, step_frames)


# The paper's are unconditional; `preset(name, action_condition="clip", frame_condition=1, frame_condition_frames=1)`
# adds its conditions: all actions of a clip, and a single frame.
_PAPER = GPTConfig(
    order="raster",
    layers=22,
    width=384,
    heads=4,
    dropout=0.2,
    context_noise=0.0,
    condition_width=0,
    code_head_width=0,
    position="learned",
    action_condition="none",
)
_LVT = SubscaleConfig(
    clip_frames=16,
    books=4,
    layers=8,
    width=512,
    heads=8,
    head_width=128,
    code_width=128,
    code_head_width=512,
    dead_taps=True,
    training_slices=1,
    action_condition="none",
)
PRESETS = {
    "videogen-paper": Preset(model=_PAPER, latents=(8, 16, 16), num_codes=2048, code_dim=256),
    # For BAIR: conditioned on one frame and all actions of the clip, on one of them, or on nothing.
    "bair-paper": Preset(
        model=replace(
            _PAPER,
            action_condition="clip",
            drop_actions=0.1,
            frame_condition=1,
            frame_condition_frames=1,
            drop_frames=0.1,
        ),
        latents=(8, 16, 16),
        num_codes=2048,
        code_dim=256,
    ),
    "videogen-2x2x2": Preset(
        model=replace(_PAPER, layers=16, width=576), latents=(8, 32, 32), num_codes=1024, code_dim=256
    ),
    # For Moving MNIST: one frame given.
    "moving-mnist": Preset(
        model=replace(
            _PAPER,
            layers=8,
            width=192,
            dropout=0.1,
            window=4,
            max_steps=4,
            frame_condition=1,
            frame_condition_frames=1,
            frame_encoder=FrameEncoderConfig(depths=(2, 2, 2, 2)),
        ),
        latents=(4, 16, 16),
        num_codes=512,
        code_dim=64,
    ),
    # For the demo and the shipped Doom worlds; always needs frames and actions.
    "doom-tiny": Preset(model=GPTConfig(), latents=(16, 4, 4), num_codes=512, num_slices=2, code_dim=64),
    # For the shipped doom-hg and doom-take-cover, on codes of the tokenizer of that name; needs frames and actions.
    "doom-wide": Preset(
        model=GPTConfig(window=16, max_steps=16), latents=(16, 2, 8), num_codes=1024, num_slices=4, code_dim=128
    ),
    # Generates video from nothing, from first frames, from actions, or from both.
    "doom-small": Preset(
        model=GPTConfig(
            layers=6,
            width=256,
            heads=4,
            position="rotary-time",
            learn_start=True,
            drop_actions=0.1,
            frame_condition=1,
            frame_encoder=FrameEncoderConfig(width=16, depths=(1, 1, 1, 1)),
            drop_frames=0.5,
        ),
        latents=(16, 4, 4),
        num_codes=1024,
        num_slices=4,
        code_dim=128,
    ),
    # Robot pushing dreams; generates from nothing, first frames, actions or both. For the shipped "push" world.
    "push-small": Preset(
        model=GPTConfig(learn_start=True, drop_actions=0.1, code_head_width=32, echo=True),
        latents=(16, 4, 4),
        num_codes=512,
        num_slices=12,
        code_dim=192,
    ),
    # The Latent Video Transformer: one frame after the other, or `subscale` and `kernel` of its other two orders. The
    # published sizes count weights that never see a code.
    "lvt-paper": Preset(model=_LVT, latents=(16, 16, 16), num_codes=512, num_slices=4, code_dim=256),
    "lvt-paper-n1": Preset(model=replace(_LVT, books=1), latents=(16, 16, 16), num_codes=512, code_dim=256),
    # The same network for dreams: two frames a step, three past frames, any length.
    "lvt-small": Preset(
        model=SubscaleConfig(books=2, learn_start=True, drop_actions=0.1, context_noise=0.03),
        latents=(8, 8, 8),
        num_codes=512,
        num_slices=4,
        code_dim=256,
    ),
    "cpu-tiny": Preset(
        model=GPTConfig(
            layers=2,
            width=96,
            heads=2,
            position="learned",
            learn_start=True,
            frame_encoder=FrameEncoderConfig(width=8, depths=(1, 1, 1)),
            drop_actions=0.1,
        ),
        latents=(8, 4, 4),
        num_codes=256,
        code_dim=32,
    ),
    # Predicting Video with VQVAE at 256 x 256 pixels, without actions. Of its sizes the paper states the two batches,
    # the kernels of the bottom's conditions and the attention after every five layers: the rest is assumed.
    "pixelcnn-paper": Preset(
        model=PixelCNNConfig(
            layers=20,
            width=512,
            kernel=5,
            heads=8,
            dropout=0.1,
            action_condition="none",
            checkpointing=True,
        ),
        latents=(4, 32, 32),
        num_codes=512,
        num_slices=9,
        code_dim=9 * 64,
    ),
    # The same for frames of 64 x 64 pixels, with actions; trains on a CPU.
    "pixelcnn-small": Preset(model=PixelCNNConfig(), latents=(4, 8, 8), num_codes=512, num_slices=9, code_dim=9 * 32),
}


def preset(name: str, **changes: Any) -> Preset:
    """The preset of this name, with some fields of its config changed."""
    check_known("dynamics preset", name, PRESETS)
    chosen = PRESETS[name]
    return replace(chosen, model=replace(chosen.model, **changes))

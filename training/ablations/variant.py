"""A row of a table: the trainings that it needs, and the folders that they have."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from worldmodel.dynamics import GPTConfig, PixelCNNConfig
from worldmodel.tokenizer import TokenizerConfig
from worldmodel.training.train_dynamics import DynamicsTraining
from worldmodel.training.train_tokenizer import TokenizerTraining

CLIP_FRAMES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One row of a table."""

    name: str  # the row in the paper
    here: str  # the row at this size; equal at the paper's own
    tokenizer: TokenizerTraining | None  # None: not trained, for the reason in `here`
    dynamics: DynamicsTraining | None = None  # None: the table is about tokenizers
    given_frames: int = 0  # real frames that samples begin with; 0: those of the model's frame_condition
    judged_from: int = 0  # first frame whose prediction is compared with the real one; 0: none is

    @property
    def tokenizer_folder(self) -> str:
        """A name that describes the tokenizer and is unique to its settings."""
        assert self.tokenizer is not None
        model = self.tokenizer.model
        words = f"tokenizer-{latent_name(model)}-{model.codebook.num_codes}codes"
        return (
            words
            + ("" if getattr(model, "attention", True) else "-noattention")
            + f"-{_digest(asdict(self.tokenizer))}"
        )

    @property
    def dynamics_folder(self) -> str:
        """The same for the prior and its tokenizer."""
        assert self.dynamics is not None
        model = self.dynamics.model
        kind: list[str] = [model.net] if isinstance(model, PixelCNNConfig) else [model.attention]
        kind += [model.position] if isinstance(model, GPTConfig) else []
        words = [f"{model.layers}layers", *kind]
        words += [f"{model.action_condition}actions"] if model.action_condition != "none" else []
        words += ["firstframe"] if model.frame_condition else []
        settings = {"tokenizer": self.tokenizer_folder, "dynamics": asdict(self.dynamics)}
        return f"prior-{'-'.join(words)}-{_digest(settings)}"


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def latent_name(model: TokenizerConfig) -> str:
    """Codes of a clip, "8x32x32", and "x4" behind it with four slices."""
    slices = model.num_slices
    sizes = [CLIP_FRAMES // model.frames_per_step, *model.grid, *([slices] if slices > 1 else [])]
    return "x".join(map(str, sizes))

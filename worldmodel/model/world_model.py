"""WorldModel: a game learned from its video. Loads, saves, trains, dreams and makes videos.

`Network` holds the parts and their loss, `Dreamer` adds `start`, `step` and what belongs to them, `VideoMaker` adds
`sample`; here are the files.
"""

import os
from pathlib import Path

import torch
from torch import nn

from worldmodel import checkpoint
from worldmodel.devices import usable_device
from worldmodel.layers.defaults import own_defaults
from worldmodel.model.batches import Starts
from worldmodel.model.checks import check_starts
from worldmodel.model.dreaming import Dreamer
from worldmodel.model.network import WorldModelConfig
from worldmodel.model.videos import VideoMaker
from worldmodel.restoring import restore
from worldmodel.tensor_files import read_tensors


class WorldModel(Dreamer, VideoMaker):
    """A game learned from its video.

    Example:
        >>> from worldmodel import WorldModel
        >>> wm = WorldModel.from_pretrained("doom-hg")
        >>> wm.config.action.names
        ('noop', 'turn_left', 'turn_right', 'move_forward')
    """

    @classmethod
    @own_defaults
    @torch.inference_mode(False)  # weights that are made in it count no changes
    def from_pretrained(
        cls, name: str | os.PathLike, device: str | torch.device = "cpu", dtype: torch.dtype | str = "auto"
    ) -> "WorldModel":
        """Load a checkpoint for dreaming.

        Args:
            name: a shipped name, a folder, or a Hugging Face id.
            device: "auto" uses a GPU if there is one.
            dtype: of the matmuls; "auto" uses bfloat16 where the device multiplies it fast.
        """
        device = usable_device(device)
        folder = checkpoint.resolve(name)
        config = checkpoint.load_config(folder, "world_model", WorldModelConfig)
        model = restore(folder, lambda: cls(config), cls._parts)
        if (folder / "starts.safetensors").is_file():
            tensors = read_tensors(folder / "starts.safetensors")
            try:
                model.starts = Starts.unpacked(tensors)
                check_starts(model, model.starts)
            except ValueError as error:
                raise ValueError(
                    f"{folder / 'starts.safetensors'} does not fit its model: {error}. Fetch or train it again"
                ) from error
        return model.to(device).prepare(dtype)

    def save_pretrained(self, folder: str | os.PathLike, card: str = "") -> Path:
        """Save a checkpoint folder, weights in their current dtype (`prepare(torch.bfloat16)` halves the file)."""
        if self.starts is not None:
            check_starts(self, self.starts)
        starts = None if self.starts is None else self.starts.packed()
        return checkpoint.save(folder, "world_model", self.config, self._parts(), starts=starts, card=card)

    def _parts(self) -> dict[str, nn.Module]:
        return {"tokenizer": self.tokenizer, "dynamics": self.dynamics, "heads": self.heads}

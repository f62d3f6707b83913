"""WorldModel: a game learned from its video. Loads, saves, trains, dreams and makes videos.

`Network` holds the parts and their loss, `Dreamer` adds `start`, `step` and what belongs to them, `VideoMaker` adds
`sample`; here are the files.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from worldmodel import checkpoint, hub
from worldmodel.devices import usable_device
from worldmodel.layers.defaults import own_defaults
from worldmodel.model.batches import Starts
from worldmodel.model.card import plain_card
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
        cls,
        name: str | os.PathLike,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | str = "auto",
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike | None = None,
        local_files_only: bool = False,
    ) -> "WorldModel":
        """Load a checkpoint for dreaming. Its files are compared with its SHA256SUMS.

        Args:
            name: a shipped name, a folder, or a model of the Hugging Face hub, OWNER/NAME or OWNER/NAME@REVISION.
            device: "auto" uses a GPU if there is one.
            dtype: of the matmuls; "auto" uses bfloat16 where the device multiplies it fast.
            revision: branch, tag or commit of a model of the hub.
            token: for the hub, instead of that of `hf auth login` or HF_TOKEN.
            cache_dir: where models of the hub are kept, instead of the hub's own cache (HF_HUB_CACHE).
            local_files_only: of the hub's models use those in the cache, and ask no server.

        Raises: see `worldmodel.hub.fetch`; ValueError also for files that are damaged or do not fit each other.
        """
        device = usable_device(device)
        folder = checkpoint.resolve(
            name, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only
        )
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
        """Save a checkpoint folder, weights in their current dtype (`prepare(torch.bfloat16)` halves the file).

        `card` is the text of README.md (`worldmodel.cards.model_card`); without one it says what the model dreams of.
        """
        if self.starts is not None:
            check_starts(self, self.starts)
        starts = None if self.starts is None else self.starts.packed()
        card = card or plain_card(self.config)
        return checkpoint.save(folder, "world_model", self.config, self._parts(), starts=starts, card=card)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        commit_message: str | None = None,
        revision: str | None = None,
        card: str = "",
    ) -> str:
        """Upload to the Hugging Face hub as `repo_id`, OWNER/NAME, and return the commit's address.

        `publish` does so with a card that has the model's scores and recipe. The arguments are those of
        `worldmodel.hub.upload`, and the card is that of `save_pretrained`.
        """
        with TemporaryDirectory() as folder:
            saved = self.save_pretrained(Path(folder) / repo_id.rpartition("/")[2], card)
            return hub.upload(
                saved, repo_id, private=private, token=token, commit_message=commit_message, revision=revision
            )

    def _parts(self) -> dict[str, nn.Module]:
        return {"tokenizer": self.tokenizer, "dynamics": self.dynamics, "heads": self.heads}

"""WorldModel: tokenizer, dynamics and heads as one; start from a context, step with actions, sample whole videos.

Letters: B rows, T steps, F frames of a step, H W C pixels, h w latent grid, S = h*w tokens, M slices, E code features,
G signals, D width.
Time: `actions[:, t]` is taken after step t; frames, reward and end of step t+1 follow from it.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel import checkpoint
from worldmodel.data import ActionSpec
from worldmodel.devices import usable_device
from worldmodel.dynamics import GPT, DreamState, GPTConfig, Heads, HeadsConfig, Sampling, Video
from worldmodel.layers.cpu.memory import keep_freed_memory
from worldmodel.layers.defaults import own_defaults, own_dtype
from worldmodel.layers.precision import cast_products, fast_dtype, uncast_tensors, warn_if_slow
from worldmodel.model import dreaming, learning, videos
from worldmodel.model.batches import CodeBatch, DynamicsLoss, Starts
from worldmodel.model.checks import check_dreams, check_state
from worldmodel.model.dreaming import Branches, Rollout, StepOut
from worldmodel.restoring import restore
from worldmodel.settings import check_settings
from worldmodel.tensor_files import read_tensors
from worldmodel.tokenizer import VQVAE, VQVAEConfig

_LARGEST_CACHE = 2**36  # bytes of one dream's keys and values in float32


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldModelConfig:
    """What a world model is made of, and the game it was learned from."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    action: ActionSpec
    tokenizer: VQVAEConfig = field(default_factory=VQVAEConfig)
    dynamics: GPTConfig = field(default_factory=GPTConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    signal_names: tuple[str, ...] = ()
    env_id: str = ""  # of the real game
    reward: str = "native"  # unit of the rewards
    steps_per_second: float = 0.0  # of the game's own time; 0: nobody knows

    def __post_init__(self) -> None:
        check_settings(self, least={"steps_per_second": 0})
        if len(set(self.signal_names)) < len(self.signal_names):
            raise ValueError(f"signal_names must differ, got {', '.join(self.signal_names)}")


class WorldModel(nn.Module):
    """A game learned from its video."""

    @own_dtype
    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = VQVAE(config.tokenizer)
        tokenizer = self.tokenizer
        self.dynamics = GPT(
            config.dynamics,
            tokenizer.grid,
            tokenizer.num_codes,
            tokenizer.num_slices,
            tokenizer.code_dim,
            config.action,
            config.tokenizer.frames_per_step * config.tokenizer.channels,
        )
        tokens = tokenizer.grid[0] * tokenizer.grid[1]
        count, shape = self.dynamics.cache_shape
        if (held := 8 * count * math.prod(shape)) > _LARGEST_CACHE:
            raise ValueError(f"one dream's cache would take {held / 2**30:,.0f} GiB; give a smaller window or width")
        # The heads read a step twice: as it was predicted, and as it came.
        features = config.dynamics.width + tokenizer.code_dim
        self.heads = Heads(config.heads, tokens, features, len(config.signal_names), config.action.num_features)
        self.starts: Starts | None = None

    @property
    def frames_per_step(self) -> int:
        return self.config.tokenizer.frames_per_step

    @property
    def height(self) -> int:
        return self.config.tokenizer.height

    @property
    def width(self) -> int:
        return self.config.tokenizer.width

    @property
    def device(self) -> torch.device:
        return self.tokenizer.codebook.vectors.device

    @property
    @own_defaults
    def usual_signals(self) -> Tensor:
        """(G,) float32: each game variable's median over the start segments, for who does not know better; else zeros.

        Zeros may be the end: with health 0 a dream of Doom is over.
        """
        if self.starts is None or not len(self.starts.signals):
            return torch.zeros(len(self.config.signal_names), device=self.device)
        return self.starts.signals[:, -1].float().median(0).values.to(self.device)

    # --- files ---------------------------------------------------------------------------------------------------

    @classmethod
    @own_defaults
    @torch.inference_mode(False)  # weights that were made in it count no changes
    def from_pretrained(
        cls, name: str | os.PathLike, device: str | torch.device = "cpu", dtype: torch.dtype | str = "auto"
    ) -> "WorldModel":
        """Load a checkpoint for dreaming.

        Args:
            name: a shipped name, a folder, or a Hugging Face id.
            device: "auto" takes a GPU if there is one.
            dtype: of the matrix products; "auto" takes bfloat16 where the device multiplies it fast.
        """
        device = usable_device(device)
        folder = checkpoint.resolve(name)
        config = checkpoint.load_config(folder, "world_model", WorldModelConfig)
        model = restore(folder, lambda: cls(config), cls._parts)
        if (folder / "starts.safetensors").is_file():
            tensors = read_tensors(folder / "starts.safetensors")
            try:
                model.starts = Starts.unpacked(tensors)
                model.starts.check(model)
            except ValueError as error:
                raise ValueError(
                    f"{folder / 'starts.safetensors'} does not fit its model: {error}. Fetch or train it again"
                ) from error
        return model.to(device).prepare(dtype)

    def save_pretrained(self, folder: str | os.PathLike, card: str = "") -> Path:
        """Save the checkpoint folder, weights in their present dtype (`prepare(torch.bfloat16)` halves the file)."""
        if self.starts is not None:
            self.starts.check(self)
        starts = None if self.starts is None else self.starts.packed()
        return checkpoint.save(folder, "world_model", self.config, self._parts(), starts=starts, card=card)

    def _parts(self) -> dict[str, nn.Module]:
        return {"tokenizer": self.tokenizer, "dynamics": self.dynamics, "heads": self.heads}

    def prepare(self, dtype: torch.dtype | str = "auto") -> "WorldModel":
        """Make ready for dreaming: evaluation mode, matrix products in `dtype`; returns self.

        Warns once where the device multiplies matrices of that dtype much more slowly than float32.

        Weights that were changed through `.data` are seen from here on: what is kept of them is made anew. On a
        processor also lets the process keep memory that is freed (`worldmodel.layers.cpu.memory`).
        """
        if isinstance(dtype, str):
            if dtype != "auto":
                raise ValueError(f"dtype must be 'auto' or a torch.dtype, got {dtype!r}")
            dtype = fast_dtype(self.device)
        if dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise ValueError(f"dtype must be 'auto', torch.float32, torch.bfloat16 or torch.float16, got {dtype}")
        warn_if_slow(self.device, dtype)
        if self.device.type == "cpu":
            keep_freed_memory()
        cast_products(self, dtype)
        self.dynamics.forget_derived()
        return self.eval().requires_grad_(False)

    def fingerprint(self) -> str:
        """SHA-256 of what a dream's state depends on: the codebook and the dynamics, in whatever dtype they multiply.

        Saved with dream states, so that another world refuses them.
        """
        found = hashlib.sha256()
        for name, tensor in (("codebook", self.tokenizer.codebook.vectors), *uncast_tensors(self.dynamics)):
            found.update(name.encode())
            found.update(tensor.detach().float().cpu().contiguous().numpy().data)
        return found.hexdigest()

    # --- training ------------------------------------------------------------------------------------------------

    def head_inputs(self, outputs: Tensor, codes: Tensor) -> Tensor:
        """What the heads read: outputs (..., S, D) that predict a step, and its codes (..., h, w, M) -> (..., S, D+E).

        A reward is told from what did happen: heads that read the outputs alone pay for a thing that then stays there.
        """
        vectors = self.tokenizer.code_vectors(codes.flatten(-3, -2))
        return torch.cat((outputs, vectors.to(outputs.dtype)), dim=-1)

    def head_action(self, actions: Tensor) -> Tensor | None:
        """Actions (...) or (..., A) as the heads read them, if they do."""
        return self.dynamics.action.features(actions) if self.heads.law_out is not None else None

    @own_defaults
    def loss(self, batch: CodeBatch) -> DynamicsLoss:
        """Loss of dynamics and heads on encoded segments; the tokenizer stays as it is.

        In evaluation mode that of what dreams draw: of all passes, where a step is drawn in several (`refine`).
        """
        return learning.loss(self, batch)

    @own_defaults
    @torch.inference_mode()
    def predict(self, batch: CodeBatch) -> tuple[Tensor, Tensor, Tensor]:
        """What the heads tell of real steps: rewards (B, T), termination probabilities (B, T), changes (B, T, G)."""
        return learning.predict(self, batch)

    # --- dreaming ------------------------------------------------------------------------------------------------

    @own_defaults
    def start(
        self,
        frames: Tensor | np.ndarray,
        actions: Tensor | np.ndarray,
        signals: Tensor | np.ndarray | None = None,
        seeds: Sequence[int] | Tensor | None = None,
    ) -> DreamState:
        """Begin dreams from real play.

        Args:
            frames: (B, T, F, H, W, C) uint8, T given steps.
            actions: (B, T-1) or (B, T-1, A), the actions between them.
            signals: (B, G) game variables at the last given step; None: the usual ones (`usual_signals`).
            seeds: one per row; 0, 1, … if None.
        """
        check_dreams(self)
        frames = torch.as_tensor(frames, device=self.device)
        with torch.inference_mode():
            codes = self.tokenizer.encode(frames)
        return self.start_codes(codes, actions, signals, seeds, frames=frames)

    @own_defaults
    @torch.inference_mode()
    def start_codes(
        self,
        codes: Tensor | np.ndarray,
        actions: Tensor | np.ndarray,
        signals: Tensor | np.ndarray | None = None,
        seeds: Sequence[int] | Tensor | None = None,
        clock: int | None = None,
        frames: Tensor | None = None,
    ) -> DreamState:
        """Begin dreams from encoded steps: codes (B, T, h, w, M); the rest as in `start`.

        `clock` lets the new rows join a running batch (`state.put(rows, new)`): pass that batch's clock. Models with
        frame_condition see `frames`, or what the codes decode to.
        """
        return dreaming.start(self, codes, actions, signals, seeds, clock, frames)

    @own_defaults
    @torch.inference_mode()
    def at_clock(self, state: DreamState, clock: int) -> DreamState:
        """The same dreams at another time, so that they can join a batch with this clock (`batch.put(rows, moved)`).

        Moved are the keys, turned by the time between; what the dreams draw stays the same.
        """
        return dreaming.at_clock(self, state, clock)

    @own_defaults
    @torch.inference_mode()
    def step(
        self, state: DreamState, action: Tensor | np.ndarray, temperature: float = 1.0
    ) -> tuple[DreamState, StepOut]:
        """Dream one step of every row.

        Goes on in the memory of `state`, which is spent afterwards (`clone` it first to branch).

        Args:
            action: (B,) int64 in [0, n), or (B, A) float32 within the bounds.
            temperature: of the codes' distribution; 0 takes the likeliest.
        """
        return dreaming.step(self, state, action, temperature)

    @own_defaults
    @torch.inference_mode()
    def observe(
        self, state: DreamState, action: Tensor | np.ndarray, codes: Tensor | np.ndarray
    ) -> tuple[DreamState, StepOut]:
        """Follow play: as `step`, but the step is one that came and not one that is drawn.

        The `nll` of what it returns tells how much the model was surprised, its reward and signals what the heads read.

        Args:
            codes: (B, h, w, M) of the step that came, as `tokenizer.encode` gives them.
        """
        if codes is None:
            raise TypeError("observe needs the codes of the step that came, got None; step() draws a step")
        return dreaming.step(self, state, action, 1.0, codes)

    @own_defaults
    @torch.inference_mode()
    def branch(
        self,
        state: DreamState,
        actions: Tensor | np.ndarray,
        temperature: float = 1.0,
        seeds: Tensor | np.ndarray | Sequence[Sequence[int]] | None = None,
    ) -> Branches:
        """Dream N futures of every row side by side, in one batch of B*N; `state` stays as it is.

        Futures go on beyond a dreamt end: what follows the first `terminated` does not count.

        Args:
            actions: (B, N, H) or (B, N, H, A).
            seeds: (B, N) int64; None: the first future of a row is the one that `step` would dream, the others are
                drawn from seeds made of the row's and their own number.
        """
        return dreaming.branch(self, state, actions, temperature, seeds)

    @own_defaults
    @torch.inference_mode()
    def features(self, state: DreamState) -> Tensor:
        """What the model knows of the last step, (B, h, w, D+E) float32: the dynamics' outputs beside the code vectors.

        The outputs sum up all that came before the step and the action that led to it. Policies that read them need no
        memory of their own.
        """
        state = check_state(self, state)
        return self.head_inputs(state.outputs, state.codes).float().unflatten(1, state.codes.shape[1:3])

    @own_defaults
    @torch.inference_mode()
    def imagine(
        self,
        frames: Tensor | np.ndarray,
        actions: Tensor | np.ndarray,
        context_actions: Tensor | np.ndarray | None = None,
        signals: Tensor | np.ndarray | None = None,
        seeds: Sequence[int] | Tensor | None = None,
        temperature: float = 1.0,
    ) -> Rollout:
        """Dream open loop: the model sees only the context and the actions.

        Args:
            frames: (B, T, F, H, W, C) uint8, the context.
            actions: (B, N) or (B, N, A), the first one taken after the last given step.
            context_actions: (B, T-1) or (B, T-1, A), those between the given steps; may be left out if T is 1.
            signals, seeds, temperature: as in `start` and `step`.
        """
        return dreaming.imagine(self, frames, actions, context_actions, signals, seeds, temperature)

    @own_defaults
    @torch.inference_mode()
    def sample(
        self,
        n: int,
        steps: int = 8,
        first_frames: Tensor | np.ndarray | None = None,
        actions: Tensor | np.ndarray | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        guidance: float = 1.0,
        seeds: Sequence[int] | Tensor | None = None,
    ) -> Video:
        """Make n videos: from nothing, from given first frames, from actions, or from both.

        With a tokenizer of clips the model sees the first `frame_condition` given steps as frames and no others, shows
        them as it makes them itself, and goes on beyond a clip from the last frames of the one before.

        Args:
            steps: of each video, the given ones included.
            first_frames: (n, T, F, H, W, C) uint8, T <= steps.
            actions: (n, steps-1) or (n, steps-1, A), one after each step but the last.
            temperature, top_k, top_p, guidance: as in `Sampling`; guidance 1 is off.
            seeds: one per video; 0, 1, … if None.

        Raises: ValueError if the model was not trained for what is asked, with the setting that would have done it.
        """
        options = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, guidance=guidance)
        return videos.sample(self, n, steps, first_frames, actions, options, seeds)

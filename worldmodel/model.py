"""WorldModel: tokenizer, dynamics and heads as one; start from a context, step with actions, sample whole videos.

Letters: B rows, T steps, F frames of a step, H W C pixels, h w latent grid, S = h*w tokens, M slices, E code features,
G signals, N imagined steps.
Time: `actions[:, t]` is taken after step t; frames, reward and end of step t+1 follow from it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel import checkpoint
from worldmodel.data import ActionSpec
from worldmodel.dynamics import GPT, DreamState, GPTConfig, Heads, HeadsConfig, Sampling, Video
from worldmodel.dynamics.generation import generate
from worldmodel.dynamics.refine import random_known
from worldmodel.dynamics.sampling import uniforms
from worldmodel.layers.attention import KVCache
from worldmodel.layers.precision import cast_products, fast_dtype
from worldmodel.tokenizer import VQVAE, VQVAEConfig


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


@dataclass
class CodeBatch:
    """Encoded segments for the dynamics, T steps each."""

    codes: Tensor  # (B, T+1, h, w, M) int64
    actions: Tensor  # (B, T) int64 or (B, T, A) float32
    rewards: Tensor  # (B, T) float32
    terminated: Tensor  # (B, T) bool
    signals: Tensor  # (B, T+1, G) float32
    padding_mask: Tensor  # (B, T) bool, True on real steps
    frames: Tensor | None = None  # (B, n, F, H, W, C) uint8, the first n = frame_condition steps; for models with one

    def to(self, device: torch.device) -> "CodeBatch":
        return CodeBatch(*(None if tensor is None else tensor.to(device) for tensor in vars(self).values()))  # type: ignore[arg-type]

    def split(self, rows: int) -> list["CodeBatch"]:
        """Batches of at most `rows` rows."""
        count = -(-len(self.codes) // rows)
        parts = [(None,) * count if tensor is None else tensor.split(rows) for tensor in vars(self).values()]
        return [CodeBatch(*part) for part in zip(*parts, strict=True)]  # type: ignore[arg-type]

    @classmethod
    def join(cls, parts: Sequence["CodeBatch"]) -> "CodeBatch":
        """The rows of all parts, one below the other."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(*(None if column[0] is None else torch.cat(column) for column in columns))  # type: ignore[arg-type]


class DynamicsLoss(NamedTuple):
    total: Tensor  # () what training minimises
    codes: Tensor  # () nats per code
    reward: Tensor  # () nats
    termination: Tensor  # ()
    signals: Tensor  # () nats, summed over signals


class Starts(NamedTuple):
    """Encoded start segments that a dream resets to."""

    codes: Tensor  # (K, T, h, w, M) int64
    actions: Tensor  # (K, T-1) int64 or (K, T-1, A) float32
    signals: Tensor  # (K, T, G) float32

    def packed(self) -> dict[str, Tensor]:
        """For the file: codes as int16."""
        return self._asdict() | {"codes": self.codes.to(torch.int16)}

    @classmethod
    def unpacked(cls, tensors: dict[str, Tensor]) -> "Starts":
        """From the file."""
        if missing := set(cls._fields) ^ set(tensors):
            raise ValueError(f"starts.safetensors must hold {', '.join(cls._fields)}; differs in {sorted(missing)}")
        return cls(tensors["codes"].long(), tensors["actions"], tensors["signals"])

    def check(self, model: "WorldModel") -> None:
        """ValueError if these are not starts of `model`."""
        action, tokenizer = model.config.action, model.tokenizer
        count, steps = self.codes.shape[:2]
        wanted = {
            "codes": (count, steps, *tokenizer.grid, tokenizer.num_slices),
            "actions": (count, steps - 1, *action.shape),
            "signals": (count, steps, len(model.config.signal_names)),
        }
        for name, shape in wanted.items():
            if not count or not steps or getattr(self, name).shape != shape:
                found = tuple(getattr(self, name).shape)
                raise ValueError(f"{name} of the start segments must be {shape}, at least one, got {found}")
        if self.codes.min() < 0 or self.codes.max() >= tokenizer.num_codes:
            raise ValueError(f"codes of the start segments must be in [0, {tokenizer.num_codes})")
        action.check(self.actions.flatten(0, 1).numpy())


@dataclass
class StepOut:
    """What one dreamt step gives; entry b belongs to row b."""

    codes: Tensor  # (B, h, w, M) int64
    reward: Tensor  # (B,) float32, expectation in the unit of the data
    terminated: Tensor  # (B,) bool
    termination_probability: Tensor  # (B,) float32
    signals: Tensor  # (B, G) float32, running values after the step
    nll: Tensor  # (B,) nats per step: how unlikely the model found the step it drew
    entropy: Tensor  # (B,) nats per step: how unsure it was
    _tokenizer: VQVAE = field(repr=False)
    _frames: Tensor | None = field(default=None, repr=False)

    @torch.inference_mode()
    def frames(self) -> Tensor:
        """The step's frames (B, F, H, W, C) uint8, decoded when first asked for."""
        if self._frames is None:
            self._frames = self._tokenizer.decode(self.codes.unsqueeze(1)).squeeze(1)
        return self._frames

    @torch.inference_mode()
    def latents(self) -> Tensor:
        """The code vectors (B, h, w, E) float32."""
        return self._tokenizer.code_vectors(self.codes)


class Rollout(NamedTuple):
    """Imagined steps; entry n follows action n."""

    frames: Tensor  # (B, N, F, H, W, C) uint8
    rewards: Tensor  # (B, N) float32
    terminated: Tensor  # (B, N) bool
    codes: Tensor  # (B, N, h, w, M) int64


class WorldModel(nn.Module):
    """A game learned from its video."""

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
        # The heads read a step twice: as it was predicted, and as it came.
        features = config.dynamics.width + tokenizer.code_dim
        self.heads = Heads(config.heads, tokens, features, len(config.signal_names))
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

    # --- files ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike, device: str | torch.device = "cpu", dtype: torch.dtype | str = "auto"
    ) -> "WorldModel":
        """Load a checkpoint for dreaming.

        Args:
            name: a shipped name, a folder, or a Hugging Face id.
            device: "auto" takes a GPU if there is one.
            dtype: of the matrix products; "auto" takes bfloat16 where the device multiplies it fast.
        """
        folder = checkpoint.resolve(name)
        model = cls(checkpoint.load_config(folder, "world_model", WorldModelConfig))
        checkpoint.load_tensors(folder, model._parts())
        if (folder / "starts.safetensors").is_file():
            try:
                model.starts = Starts.unpacked(checkpoint.read_tensors(folder / "starts.safetensors"))
                model.starts.check(model)
            except ValueError as error:
                raise ValueError(
                    f"{folder / 'starts.safetensors'} does not fit its model: {error}. Fetch or train it again"
                ) from error
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return model.to(device).prepare(dtype)

    def save_pretrained(self, folder: str | os.PathLike, card: str = "") -> Path:
        """Save the checkpoint folder, weights in their present dtype (`prepare(torch.bfloat16)` halves the file)."""
        starts = None if self.starts is None else self.starts.packed()
        return checkpoint.save(folder, "world_model", self.config, self._parts(), starts=starts, card=card)

    def _parts(self) -> dict[str, nn.Module]:
        return {"tokenizer": self.tokenizer, "dynamics": self.dynamics, "heads": self.heads}

    def prepare(self, dtype: torch.dtype | str = "auto") -> "WorldModel":
        """Make ready for dreaming: evaluation mode, matrix products in `dtype`; returns self."""
        if isinstance(dtype, str):
            if dtype != "auto":
                raise ValueError(f"dtype must be 'auto' or a torch.dtype, got {dtype!r}")
            dtype = fast_dtype(self.device)
        cast_products(self, dtype)
        return self.eval().requires_grad_(False)

    # --- training ------------------------------------------------------------------------------------------------

    def _outputs(self, batch: CodeBatch, known: Tensor | None = None) -> Tensor:
        """Outputs that predict steps 1..T, (B, T, S, D), after that of step 0 if the model learns how video begins.

        With context noise in training.
        """
        if self.config.dynamics.frame_condition and batch.frames is None:
            raise ValueError("this model reads the first frames of a segment: batch.frames must not be None")
        codes = batch.codes.flatten(2, 3)
        noise = self.config.dynamics.context_noise
        if self.training and noise:
            wrong = torch.rand(codes.shape, device=codes.device) < noise
            codes = torch.where(wrong, torch.randint_like(codes, self.tokenizer.num_codes), codes)
        return self.dynamics(self.tokenizer.code_vectors(codes), batch.actions, batch.frames, first=True, known=known)

    def _with_codes(self, outputs: Tensor, codes: Tensor) -> Tensor:
        """What the heads read: outputs (..., S, D) that predict a step, and its codes (..., h, w, M) -> (..., S, D+E).

        A reward is told from what did happen: heads that read the outputs alone pay for a thing that then stays there.
        """
        vectors = self.tokenizer.code_vectors(codes.flatten(-3, -2))
        return torch.cat((outputs, vectors.to(outputs.dtype)), dim=-1)

    def loss(self, batch: CodeBatch) -> DynamicsLoss:
        """Loss of dynamics and heads on encoded segments; the tokenizer stays as it is."""
        lead = self.config.dynamics.lead
        targets = batch.codes[:, 1 - lead :].flatten(2, 3)
        known, refine = torch.zeros_like(targets[..., 0], dtype=torch.bool), self.config.dynamics.refine
        if self.training and refine:
            rows, count, tokens = known.shape
            known = random_known(rows, count, tokens, refine + 1, known.device)
        outputs = self._outputs(batch, known)
        mask = batch.padding_mask
        out = self.heads(self._with_codes(outputs[:, lead:], batch.codes[:, 1:]), batch.signals[:, :-1])
        heads = self.heads.loss(out, batch.rewards, batch.terminated, batch.signals.diff(dim=1))
        codes = (self.dynamics.code_head.loss(outputs, targets) * ~known).sum(-1) / (~known).sum(-1)
        steps = mask.sum().clamp_min(1)
        reward, termination, signals = ((part * mask).sum() / steps for part in heads)
        predicted = torch.cat((mask[:, :lead], mask), dim=1)  # the first step counts where the one after it does
        nats = (codes * predicted).sum() / predicted.sum().clamp_min(1)
        total = nats + 0.5 * reward + 0.5 * termination + 0.1 * signals
        return DynamicsLoss(total, nats, reward, termination, signals)

    @torch.inference_mode()
    def predict(self, batch: CodeBatch) -> tuple[Tensor, Tensor, Tensor]:
        """What the heads tell of real steps: rewards (B, T), termination probabilities (B, T), changes (B, T, G)."""
        outputs = self._outputs(batch)[:, self.config.dynamics.lead :]
        out = self.heads(self._with_codes(outputs, batch.codes[:, 1:]), batch.signals[:, :-1])
        two_hot = self.heads.two_hot
        return two_hot.mean(out.reward), self.heads.termination_probability(out), two_hot.mean(out.signals)

    # --- dreaming ------------------------------------------------------------------------------------------------

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
            signals: (B, G) game variables at the last given step; zeros if None.
            seeds: one per row; 0, 1, … if None.
        """
        self.check_dreams()
        frames = torch.as_tensor(frames, device=self.device)
        with torch.inference_mode():
            codes = self.tokenizer.encode(frames)
        return self.start_codes(codes, actions, signals, seeds, frames=frames)

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
        self.check_dreams()
        codes = torch.as_tensor(codes, device=self.device)
        if codes.ndim != 5 or not codes.shape[1]:
            raise ValueError(f"codes must be (B, T, h, w, M) with at least one given step, got {tuple(codes.shape)}")
        actions = self._check_actions(actions, codes.shape[:1], codes.shape[1] - 1)
        rows, num_signals = len(codes), len(self.config.signal_names)
        if signals is None:
            signals = torch.zeros(rows, num_signals)
        signals = torch.as_tensor(signals, dtype=torch.float32, device=self.device)
        if signals.shape != (rows, num_signals):
            raise ValueError(f"signals must be ({rows}, {num_signals}), got {tuple(signals.shape)}")
        seeds = self._check_seeds(seeds, rows)
        cache, extras = self._burn_in(codes, actions, clock, frames)
        counter = torch.zeros(rows, dtype=torch.int64, device=self.device)
        return DreamState(cache, codes[:, -1].clone(), signals.clone(), seeds.clone(), counter, cache.clock, extras)

    def _burn_in(
        self, codes: Tensor, actions: Tensor, clock: int | None, frames: Tensor | None = None
    ) -> tuple[KVCache, dict[str, Tensor]]:
        """Cache and extras of a dream that goes on from codes (B, T, h, w, M), actions (B, T-1, …) between them."""
        dynamics, config = self.dynamics, self.config.dynamics
        if config.action_condition == "clip":
            raise ValueError("a model of whole clips needs all actions at once: use sample(actions=…)")
        extras: dict[str, Tensor] = {}
        if config.limited:
            inputs = codes.shape[1] - 1 + config.lead
            if inputs >= config.max_steps:
                codes, actions, frames = codes[:, -config.half :], actions[:, 1 - config.half :], None
            extras["codes"] = _last(codes, config.half)
            extras["actions"] = _last(actions, config.half - 1)
        if config.frame_condition:
            if codes.shape[1] < config.frame_condition:
                raise ValueError(f"the model wants {config.frame_condition} first steps, got {codes.shape[1]}")
            if frames is None:
                frames = self.tokenizer.decode(codes[:, : config.frame_condition])
            vector = dynamics.frame_vector(frames, len(codes))
            assert vector is not None
            extras["frames"] = vector
        condition = dynamics.condition(len(codes), codes.shape[1] - 1 + config.lead, actions, extras.get("frames"))
        return dynamics.burn_in(self.tokenizer.code_vectors(codes.flatten(2, 3)), condition, clock), extras

    def _renew(self, state: DreamState) -> None:
        """Let the rows whose limited context is full begin again from its last half."""
        rows = (state.cache.lengths >= self.config.dynamics.max_steps).nonzero().flatten()
        if len(rows):
            full = state.select(rows)
            full.cache, full.extras = self._burn_in(full.extras["codes"], full.extras["actions"], state.clock)
            state.put(rows, full)

    def _check_seeds(self, seeds: Sequence[int] | Tensor | None, rows: int) -> Tensor:
        seeds = torch.as_tensor(range(rows) if seeds is None else seeds, dtype=torch.int64, device=self.device)
        if seeds.shape != (rows,):
            raise ValueError(f"seeds must be one whole number for each of the {rows} rows, got {tuple(seeds.shape)}")
        return seeds

    def check_dreams(self) -> None:
        """Refuse a tokenizer whose steps cannot be dreamt one after the other."""
        reasons = {
            "clip": "it codes a whole clip at once: every code depends on frames after it, and no step can be decoded "
            "before the clip is complete",
            "causal": "decoding a step needs the steps before it, which a dream's state does not hold yet",
        }
        temporal = self.config.tokenizer.temporal
        if temporal in reasons:
            raise ValueError(
                f'a tokenizer with temporal="{temporal}" cannot dream, since {reasons[temporal]}. '
                'Train one with temporal="step"'
            )

    def _check_actions(self, actions: Tensor | np.ndarray, lead: Sequence[int], steps: int | None) -> Tensor:
        spec = self.config.action
        dtype = torch.int64 if spec.kind == "discrete" else torch.float32
        given = torch.as_tensor(actions)
        actions = given.to(self.device)
        wanted = (*lead, *(() if steps is None else (steps,)), *spec.shape)
        if actions.is_floating_point() != dtype.is_floating_point or actions.shape != wanted:
            raise ValueError(f"actions must be {dtype} of shape {wanted}, got {actions.dtype} {tuple(actions.shape)}")
        if given.device.type == "cpu" and given.numel():  # on a GPU the check would make the host wait
            spec.check(given.to(dtype).flatten(0, -1 - len(spec.shape)).numpy())
        return actions.to(dtype)

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
        state.check_fresh()
        action = self._check_actions(action, (len(state),), None)
        if self.config.dynamics.limited:
            self._renew(state)
        noise = uniforms(state.seeds, state.counter, self.dynamics.noise_per_step)
        condition = self.dynamics.condition(len(state), 1, action[:, None], state.extras.get("frames"))
        options = Sampling(temperature=temperature)
        drawn, outputs = self.dynamics.step(
            state.codes.flatten(1, 2), condition, state.cache, noise, self.tokenizer.code_vectors, options
        )
        codes = drawn.codes.view_as(state.codes)
        heads = self.heads(self._with_codes(outputs, codes), state.signals)
        probability = self.heads.termination_probability(heads)
        signals = state.signals + self.heads.two_hot.mean(heads.signals)
        out = StepOut(
            codes=codes,
            reward=self.heads.two_hot.mean(heads.reward),
            terminated=probability >= self.heads.threshold,
            termination_probability=probability,
            signals=signals,
            nll=drawn.nll.sum(-1),
            entropy=drawn.entropy.sum(-1),
            _tokenizer=self.tokenizer,
        )
        extras = dict(state.extras)
        if self.config.dynamics.limited:
            half = self.config.dynamics.half
            extras["codes"] = _last(torch.cat((extras["codes"], codes[:, None]), dim=1), half)
            extras["actions"] = _last(torch.cat((extras["actions"], action[:, None]), dim=1), half - 1)
        return DreamState(state.cache, codes, signals, state.seeds, state.counter + 1, state.cache.clock, extras), out

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
        frames = torch.as_tensor(frames, device=self.device)
        if not torch.as_tensor(actions).shape[1]:
            raise ValueError("imagine needs at least one action; each one makes a step")
        if context_actions is None:
            if frames.shape[1] > 1:
                raise ValueError(
                    f"a context of {frames.shape[1]} steps needs context_actions, the actions between them"
                )
            context_actions = torch.as_tensor(actions)[:, :0]
        state = self.start(frames, context_actions, signals, seeds)
        steps = []
        for action in torch.as_tensor(actions, device=self.device).unbind(1):
            state, out = self.step(state, action, temperature)
            steps.append(out)
        codes = torch.stack([out.codes for out in steps], dim=1)
        rewards, terminated = (
            torch.stack([getattr(o, name) for o in steps], dim=1) for name in ("reward", "terminated")
        )
        return Rollout(self.tokenizer.decode(codes), rewards, terminated, codes)

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

        Args:
            steps: of each video, the given ones included.
            first_frames: (n, T, F, H, W, C) uint8, T <= steps.
            actions: (n, steps-1) or (n, steps-1, A), one after each step but the last.
            temperature, top_k, top_p, guidance: as in `Sampling`; guidance 1 is off.
            seeds: one per video; 0, 1, … if None.

        Raises: ValueError if the model was not trained for what is asked, with the setting that would have done it.
        """
        options = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, guidance=guidance)
        seeds = self._check_seeds(seeds, n)
        if actions is not None:
            actions = self._check_actions(actions, (n,), steps - 1)
        codes = torch.zeros(
            n, 0, *self.tokenizer.grid, self.tokenizer.num_slices, dtype=torch.int64, device=self.device
        )
        if first_frames is not None:
            first_frames = torch.as_tensor(first_frames, device=self.device)
            given, wanted = first_frames.shape[1], max(1, self.config.dynamics.frame_condition)
            if len(first_frames) != n or not wanted <= given <= steps:
                raise ValueError(
                    f"first_frames must be ({n}, T, F, H, W, C) with T from {wanted} to steps = {steps}, "
                    f"got {tuple(first_frames.shape)}"
                )
            codes = self.tokenizer.encode(first_frames)
        codes = generate(self.dynamics, self.tokenizer, codes, steps, seeds, first_frames, actions, options)
        return Video(self.tokenizer.decode(codes), codes)


def _last(x: Tensor, steps: int) -> Tensor:
    """The last steps of (B, T, …), with zeros before them if there are fewer: (B, steps, …)."""
    missing = x.new_zeros(len(x), max(steps - x.shape[1], 0), *x.shape[2:])
    return torch.cat((missing, x), dim=1)[:, max(x.shape[1] - steps, 0) :]

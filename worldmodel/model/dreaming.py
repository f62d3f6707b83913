"""Dreaming step by step: start from a context, step with actions, branch into futures, imagine a whole rollout.

Letters: B rows, T context steps, N imagined steps, F frames of a step, H W C pixels, h w latent grid, S = h*w tokens,
M slices, E code features, D width, G signals, A dimensions of an action. In `branch`: N futures of H steps.
"""

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from worldmodel.dynamics import DreamState, Sampling
from worldmodel.dynamics.conditioning import Condition
from worldmodel.dynamics.sampling import Draw, uniforms
from worldmodel.layers.attention import KVCache
from worldmodel.layers.defaults import own_defaults
from worldmodel.model.burn_in import burn_in, extras_after, renew
from worldmodel.model.checks import check_actions, check_dreams, check_mode, check_seeds, check_signals, check_state
from worldmodel.model.network import Network
from worldmodel.model.outputs import Branches, Rollout, StepOut
from worldmodel.tokenizer import CodeLookup


class Dreamer(Network):
    """A network that dreams. The caller holds the `DreamState`; the methods store nothing of a dream."""

    @own_defaults
    def start(
        self,
        frames: Tensor | np.ndarray,
        actions: Tensor | np.ndarray,
        signals: Tensor | np.ndarray | None = None,
        seeds: Sequence[int] | Tensor | None = None,
    ) -> DreamState:
        """Start dreams from recorded frames.

        Args:
            frames: (B, T, F, H, W, C) uint8, T context steps.
            actions: (B, T-1) or (B, T-1, A), the actions between them.
            signals: (B, G) game variables at the last context step; None: `usual_signals`.
            seeds: one per row; 0, 1, … if None.

        Example:
            >>> import numpy as np
            >>> from worldmodel import WorldModel
            >>> wm = WorldModel.from_pretrained("doom-hg")
            >>> frames = np.zeros((2, 1, 2, 64, 64, 3), np.uint8)  # two rows, one context step of two frames
            >>> state = wm.start(frames, np.zeros((2, 0), np.int64), seeds=[0, 1])
            >>> state, out = wm.step(state, np.array([3, 3]))
            >>> out.codes.shape, out.reward.shape, out.frames().shape
            (torch.Size([2, 2, 8, 4]), torch.Size([2]), torch.Size([2, 2, 64, 64, 3]))
        """
        check_dreams(self)
        check_mode(self)
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
        """Start dreams from encoded steps: codes (B, T, h, w, M); the rest as in `start`.

        To add the new rows to a running batch (`state.put(rows, new)`), pass the clock of that batch. Models with
        frame_condition read `frames`, or the decoded codes if there are none.
        """
        check_dreams(self)
        check_mode(self)
        codes = torch.as_tensor(codes, device=self.device)
        if codes.ndim != 5 or not codes.shape[1]:
            raise ValueError(f"codes must be (B, T, h, w, M) with at least one given step, got {tuple(codes.shape)}")
        codes = self.tokenizer.check_codes(codes)
        actions = check_actions(self, actions, codes.shape[:1], codes.shape[1] - 1)
        rows = len(codes)
        signals = check_signals(self, signals, rows)
        seeds = check_seeds(seeds, rows, self.device)
        cache, outputs, extras = burn_in(self, codes, actions, frames)
        counter = torch.zeros(rows, dtype=torch.int64, device=self.device)
        last = codes[:, -1].clone()
        state = DreamState(cache, last, outputs, signals.clone(), seeds.clone(), counter, cache.clock, extras, self)
        return state if clock is None else self.at_clock(state, clock)

    @own_defaults
    @torch.inference_mode()
    def at_clock(self, state: DreamState, clock: int) -> DreamState:
        """The same dreams at another clock, to add them to a batch with that clock: `batch.put(rows, moved)`.

        Returns a copy. Rotates the cached keys to the new clock; sampling is unaffected.
        """
        if isinstance(clock, bool) or not isinstance(clock, Integral) or clock < 0:
            raise ValueError(f"clock must be an integer of at least 0, got {clock!r}")
        state = check_state(self, state)
        return state.with_cache(self.dynamics.move(state.cache, int(clock)))

    @own_defaults
    @torch.inference_mode()
    def step(
        self, state: DreamState, action: Tensor | np.ndarray, temperature: float = 1.0, *, draw_ends: bool = True
    ) -> tuple[DreamState, StepOut]:
        """Dream one step of every row.

        Reuses the memory of `state`, which is invalid afterwards (`clone` it first to branch).

        Args:
            action: (B,) int64 in [0, n), or (B, A) float32 within the bounds.
            temperature: of the codes' distribution; 0 takes the most likely code, and then no end is drawn: it comes
                where its probability reaches the threshold.
            draw_ends: False: in worlds that draw ends no dream ends, and rewards are expected over both cases, to be
                weighed by `termination_probability`; other worlds are not affected.
        """
        options = Sampling(temperature=temperature)
        state = check_state(self, state)
        action = check_actions(self, action, (len(state),))
        count, draws = self.dynamics.noise_per_step, self.draws_ends and draw_ends and temperature > 0
        noise = uniforms(state.seeds, state.counter, count + draws)
        drawn, outputs = self.dynamics.step(*self._inputs(state, action, noise[:, :count]), options)
        state, out = self._after(state, action, drawn, outputs, noise[:, count] if draws else None, not draw_ends)
        if self.draws_ends and not draw_ends:
            out = replace(out, terminated=torch.zeros_like(out.terminated))
        return state, out

    def _inputs(
        self, state: DreamState, action: Tensor, noise: Tensor
    ) -> tuple[Tensor, Condition, KVCache, Tensor, CodeLookup]:
        """The first arguments of the dynamics' `step`, of rows whose context is not full."""
        renew(self, state)
        condition = self.dynamics.condition(len(state), 1, action[:, None], state.extras.get("frames"))
        return state.codes.flatten(1, 2), condition, state.cache, noise, self.tokenizer.lookup

    def _after(
        self,
        state: DreamState,
        action: Tensor,
        drawn: Draw,
        outputs: Tensor,
        noise: Tensor | None = None,
        open_ended: bool = False,
    ) -> tuple[DreamState, StepOut]:
        """What the heads read in a step, and the state after it, in the memory of `state`.

        Args:
            noise: (B,) in [0, 1) to draw ends; None: they come where the probability reaches the threshold.
            open_ended: whether the episode ended is not known. Where ends are drawn, the reward is then expected over
                both cases, and the signals are those of play that continues.
        """
        codes = drawn.codes.view_as(state.codes)
        heads = self.heads(self.head_inputs(outputs, codes), state.signals, self.head_action(action))
        probability = self.heads.termination_probability(heads)
        terminated = probability >= self.heads.threshold if noise is None else noise < probability
        signals = self.heads.signals_after(heads, state.signals, None if open_ended else terminated)
        out = StepOut(
            codes=codes,
            reward=self.heads.reward_mean(heads, probability if open_ended else terminated),
            terminated=terminated,
            termination_probability=probability,
            signals=signals,
            nll=drawn.nll.sum(-1),
            entropy=drawn.entropy.sum(-1),
            outputs=outputs,
            _tokenizer=self.tokenizer,
        )
        extras = extras_after(self.config.dynamics, state.extras, codes, action)
        next_state = DreamState(
            state.cache, codes, outputs, signals, state.seeds, state.counter + 1, state.cache.clock, extras, self
        )
        return next_state, out

    @own_defaults
    @torch.inference_mode()
    def observe(
        self, state: DreamState, action: Tensor | np.ndarray, codes: Tensor | np.ndarray
    ) -> tuple[DreamState, StepOut]:
        """Like `step`, but with the codes of a real step instead of sampled ones.

        In the result, `nll` says how unlikely the model found the real step; reward and signals are the heads' reading.
        Where ends are drawn, it cannot know whether the real step was one: the reward is then the expected one, the
        signals are those of play that continues, and `terminated` says that an end was to be expected.

        Args:
            codes: (B, h, w, M) of the real step, as `tokenizer.encode` returns them.
        """
        if codes is None:
            raise TypeError("observe needs the codes of the step that came, got None; step() draws a step")
        state = check_state(self, state)
        given = torch.as_tensor(codes, device=self.device)
        if given.shape != state.codes.shape:
            raise ValueError(f"codes must be of shape {tuple(state.codes.shape)}, got {tuple(given.shape)}")
        given = self.tokenizer.check_codes(given).flatten(1, 2)
        action = check_actions(self, action, (len(state),))
        noise = uniforms(state.seeds, state.counter, self.dynamics.noise_per_step)
        drawn, outputs = self.dynamics.step(*self._inputs(state, action, noise), given=given)
        return self._after(state, action, drawn, outputs, open_ended=True)

    @own_defaults
    @torch.inference_mode()
    def branch(
        self,
        state: DreamState,
        actions: Tensor | np.ndarray,
        temperature: float = 1.0,
        seeds: Tensor | np.ndarray | Sequence[Sequence[int]] | None = None,
        draw_ends: bool = True,
    ) -> Branches:
        """Dream N futures of every row in one batch of B*N rows; `state` is left unchanged.

        Futures continue past a dreamt end: ignore everything after the first `terminated`.

        Args:
            actions: (B, N, H) or (B, N, H, A).
            seeds: (B, N) int64; None: the first future of a row equals what `step` would dream, and the seeds of the
                others are derived from the row's seed and their index.
            draw_ends: False: in worlds that draw ends no future ends, and rewards are expected over both cases, to be
                weighed by `termination_probability`; other worlds are not affected.

        Example:
            >>> import numpy as np
            >>> from worldmodel import WorldModel
            >>> wm = WorldModel.from_pretrained("doom-hg")
            >>> state = wm.start(np.zeros((1, 1, 2, 64, 64, 3), np.uint8), np.zeros((1, 0), np.int64))
            >>> futures = wm.branch(state, np.array([[[3, 3, 3], [1, 1, 1]]]))  # forward, or turn left
            >>> futures.rewards.shape
            torch.Size([1, 2, 3])
        """
        actions = torch.as_tensor(actions)
        lead = actions.shape[1:3]
        if actions.ndim < 3 or not all(lead):
            raise ValueError(
                f"actions must be ({len(state)}, N, H, …), for N futures of H steps of each row, got "
                f"{tuple(actions.shape)}"
            )
        actions = check_actions(self, actions, (len(state), *lead))
        futures = lead[0]
        own = branch_seeds(state.seeds, futures) if seeds is None else torch.as_tensor(seeds, device=self.device)
        if own.shape != (len(state), futures):
            raise ValueError(f"seeds must be ({len(state)}, {futures}), one for each future, got {tuple(own.shape)}")
        running = state.repeat(futures).reseed(own.flatten())
        outs = []
        for action in actions.flatten(0, 1).unbind(1):
            running, out = self.step(running, action, temperature, draw_ends=draw_ends)
            outs.append(out)
        return Branches(
            *(
                torch.stack([getattr(out, name) for out in outs], dim=1).unflatten(0, (len(state), futures))
                for name in ("reward", "terminated", "termination_probability", "signals", "nll", "codes")
            )
        )

    @own_defaults
    @torch.inference_mode()
    def features(self, state: DreamState) -> Tensor:
        """Features of the last step, (B, h, w, D+E) float32: the dynamics' outputs and the code vectors, concatenated.

        The outputs summarise everything before the step and the action that led to it, so that policies that read them
        need no memory of their own.
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
            actions: (B, N) or (B, N, A), the first one taken after the last context step.
            context_actions: (B, T-1) or (B, T-1, A), those between the context steps; optional if T is 1.
            signals, seeds, temperature: as in `start` and `step`.
        """
        frames = torch.as_tensor(frames, device=self.device)
        actions = torch.as_tensor(actions)
        if actions.ndim < 2:
            raise ValueError(f"actions must be (B, N, …), N of each row, got shape {tuple(actions.shape)}")
        if not actions.shape[1]:
            raise ValueError("imagine needs at least one action; each one makes a step")
        if context_actions is None:
            if frames.shape[1] > 1:
                raise ValueError(
                    f"a context of {frames.shape[1]} steps needs context_actions, the actions between them"
                )
            context_actions = actions[:, :0]
        state = self.start(frames, context_actions, signals, seeds)
        steps = []
        for action in actions.to(self.device).unbind(1):
            state, out = self.step(state, action, temperature)
            steps.append(out)
        codes, rewards, terminated = (
            torch.stack([getattr(out, name) for out in steps], dim=1) for name in ("codes", "reward", "terminated")
        )
        return Rollout(self.tokenizer.decode(codes), rewards, terminated, codes)


def branch_seeds(seeds: Tensor, futures: int) -> Tensor:
    """Seeds of N futures of rows with seeds (B,): (B, N) int64; the first future keeps the row's seed."""
    return seeds[:, None] ^ (torch.arange(futures, device=seeds.device) * 0x9E3779B1)

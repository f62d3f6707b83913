"""Several futures of one dream in parallel: the same actions, but different random draws.

Letters: N futures, F frames of a step, H W pixels.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from worldmodel.dynamics import DreamState
from worldmodel.envs.dream.rollout import Dreams
from worldmodel.media.write import as_rgb
from worldmodel.model.dreaming import branch_seeds
from worldmodel.training.show.play.timeline import Moment, Seen
from worldmodel.training.show.scenes import KEPT, DreamScene, Kept, Shown

FUTURES = 4


class _Step(NamedTuple):
    """All futures before a step, and the action taken."""

    state: DreamState  # N rows
    observations: np.ndarray  # (N, …)
    shown: list[Shown]
    action: Any


class Futures:
    """N continuations of a dream; the first is the one that it would dream by itself.

    The dream itself does not move until `choose`.
    """

    def __init__(self, scene: DreamScene, count: int = FUTURES) -> None:
        state, observation, shown = scene.now()
        self._scene, self._device = scene, scene.dream.model.device
        self._dreams = Dreams(scene.dream.model, scene.dream.obs, scene.dream.rules)
        self._dreams.restore(state.repeat(count).reseed(branch_seeds(state.seeds, count).flatten()))
        self._observations = np.stack([observation] * count)
        self._past: list[_Step] = []
        self._codes: list[np.ndarray] = []  # (N, h, w, M) after each step
        self.shown = [shown] * count

    @property
    def ended(self) -> bool:
        """Whether no further step is possible: all have ended, or the limit of steps that can be undone is reached."""
        return all(shown.ended for shown in self.shown) or len(self._past) >= KEPT

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of later steps."""
        self._dreams.rules = replace(self._dreams.rules, temperature=temperature)

    @torch.inference_mode()
    def step(self, action: Any) -> list[Shown]:
        """Take the same action in all futures; those that have ended do not change."""
        dreams, before = self._dreams, self.shown
        done = np.asarray(action, self._scene.action.dtype)
        self._past.append(_Step(dreams.running.clone(), self._observations, before, done[()]))
        out = dreams.step(torch.from_numpy(np.stack([done] * len(before))).to(self._device))
        codes = dreams.running.codes
        self._codes.append(codes.cpu().numpy())
        frames = self._scene.dream.model.tokenizer.decode(codes[:, None])[:, 0].cpu().numpy()
        self._observations = out.observations.cpu().numpy()
        self.shown = [
            last if last.ended else self._next(last, row, out, as_rgb(frames[row])) for row, last in enumerate(before)
        ]
        return self.shown

    def _next(self, last: Shown, row: int, out: Any, frames: np.ndarray) -> Shown:
        ended = "terminated" if out.terminations[row] else "truncated" if out.truncations[row] else ""
        reward = float(out.rewards[row])
        signals = {name: float(out.infos[name][row]) for name in self._scene.signal_names}
        nll = float(out.infos["nll"][row])
        return Shown(frames, last.step + 1, reward, last.total + reward, None, signals, nll, ended)

    def choose(self, row: int) -> list[Moment]:
        """Continue the dream as one of the futures; returns that future's steps."""
        if not 0 <= row < len(self.shown):
            raise ValueError(f"there are futures 0 to {len(self.shown) - 1}, got {row}")
        after = [step.shown[row] for step in self._past[1:]] + [self.shown[row]]  # shown after each step
        steps = next((number + 1 for number, shown in enumerate(after) if shown.ended), len(self._past))
        kept = [Kept(s.state.select([row]), s.observations[row], s.shown[row], s.action) for s in self._past[:steps]]
        if steps < len(self._past):
            state, observations = self._past[steps].state, self._past[steps].observations
        else:
            state, observations = self._dreams.running, self._observations
        self._scene.resume(kept, state.select([row]), observations[row], self.shown[row])
        pairs = zip(after[:steps], self._codes[:steps], strict=True)
        return [Moment(shown, Seen(codes[row], shown.nll)) for shown, codes in pairs]

"""Dreams to show: step by step with frames, codes, surprise and reward; and how surprising a model finds real steps.

Letters: B rows, T steps, F frames of a step, H W C pixels, h w latent grid, M slices.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.dynamics import DreamState
from worldmodel.model import WorldModel
from worldmodel.progress import Progress
from worldmodel.training.show.real_play import Clip

Act = Callable[[DreamState], Tensor]  # the actions (B, …) of all rows, each for a whole step


class Dreamt(NamedTuple):
    """The steps of one dream after those that it was given, up to its end."""

    codes: NDArray[np.int64]  # (T, h, w, M)
    actions: NDArray  # (T, …) that led to them
    rewards: NDArray[np.float32]  # (T,)
    nll: NDArray[np.float32]  # (T,) nats
    ended: bool  # with the last step


@torch.inference_mode()
def dream(wm: WorldModel, state: DreamState, act: Act, steps: int, temperature: float, bar: Progress) -> list[Dreamt]:
    """Dream `steps` steps of every row; its memory is reused. The bar counts the steps of all rows."""
    outs, taken = [], []
    for _ in range(steps):
        action = act(state)
        state, out = wm.step(state, action, temperature)
        outs.append(out)
        taken.append(action.cpu())
        bar.update(len(state))
    codes, rewards, nll, terminated = (
        torch.stack([getattr(out, name) for out in outs], dim=1).cpu().numpy()
        for name in ("codes", "reward", "nll", "terminated")
    )
    actions = torch.stack(taken, dim=1).numpy()
    dreams = []
    for row in range(len(codes)):
        ends = np.flatnonzero(terminated[row])
        count = int(ends[0]) + 1 if len(ends) else steps
        own = slice(0, count)
        dreams.append(
            Dreamt(codes[row, own], actions[row, own], rewards[row, own], nll[row, own], ended=bool(len(ends)))
        )
    return dreams


def begin(wm: WorldModel, clip: Clip, given: int, seed: int) -> DreamState:
    """The state of a dream, one row, after the first `given` steps of a clip."""
    frames, actions = clip.frames[None, :given], clip.actions[None, : given - 1]
    return wm.start(frames, actions, clip.signals[None, given - 1], [seed])


def recorded(wm: WorldModel, clip: Clip, given: int) -> Act:
    """The actions of a clip after its first `given` steps, one after the other, in every row."""
    following = iter(torch.from_numpy(clip.actions[given - 1 :]).to(wm.device))
    return lambda state: next(following).expand(len(state), *wm.config.action.shape)


@torch.inference_mode()
def surprise(wm: WorldModel, clip: Clip, codes: Tensor, given: int) -> NDArray[np.float32]:
    """Negative log-likelihood of each real step after the first `given`, given all before it, in nats.

    Args:
        codes: (T, h, w, M) of the clip.
    """
    state, found = begin(wm, clip, given, 0), []
    for step in range(given, len(codes)):
        action = torch.from_numpy(clip.actions[step - 1 : step])
        state, out = wm.observe(state, action, codes[step : step + 1])
        found.append(float(out.nll))
    return np.array(found, np.float32)


@torch.inference_mode()
def decoded(wm: WorldModel, codes: Tensor | NDArray) -> NDArray[np.uint8]:
    """Frames (T, F, H, W, C) of codes (T, h, w, M)."""
    steps = torch.as_tensor(codes, device=wm.device)[:, None]
    return torch.cat([wm.tokenizer.decode(part).cpu() for part in steps.split(64)])[:, 0].numpy()


@torch.inference_mode()
def encoded(wm: WorldModel, frames: NDArray[np.uint8]) -> Tensor:
    """Codes (T, h, w, M) of frames (T, F, H, W, C), on the CPU."""
    steps = torch.from_numpy(np.ascontiguousarray(frames))[:, None]
    return torch.cat([wm.tokenizer.encode(part.to(wm.device)).cpu() for part in steps.split(64)])[:, 0]

"""A world model follows its real game while it is played: codes, reconstruction, surprise; and colours of codes.

Letters: V codes, M slices of a codebook, E features of a code vector, F frames of a step, H W C pixels.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.agents.scripted import RandomPolicy
from worldmodel.dynamics import DreamState
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.media.write import as_rgb
from worldmodel.model import WorldModel
from worldmodel.tokenizer import FrameVQVAE, Tokenizer
from worldmodel.training.show.play.timeline import Seen
from worldmodel.training.show.scenes import DreamScene, Frames

_ROWS, _STEPS = 8, 8  # of the dreams by which a world's typical surprise is measured


class Onlooker:
    """Follows a real game step by step with a world model, which observes each step and predicts the next.

    Its surprise is the negative log-likelihood of a step's codes (`WorldModel.observe`).
    """

    def __init__(self, world: WorldModel) -> None:
        self._world = world
        self._state: DreamState | None = None

    def begin(self, frames: Frames, signals: Mapping[str, float]) -> Seen:
        """The first step of an episode: frames (F, H, W, C) uint8."""
        codes = self._encode(frames)
        values = np.array([list(signals.values())], np.float32).reshape(1, len(signals))
        spec = self._world.config.action
        nothing = np.zeros((1, 0, *spec.shape), spec.dtype)
        given = torch.as_tensor(frames, device=self._world.device)[None, None]
        several = self._world.config.dynamics.frame_condition > 1  # such a model cannot start from one step
        self._state = None if several else self._world.start_codes(codes[:, None], nothing, values, frames=given)
        return self._seen(codes, None)

    def step(self, action: Any, frames: Frames) -> Seen:
        """The step that followed an action."""
        codes = self._encode(frames)
        if self._state is None:
            return self._seen(codes, None)
        whole = self._world.config.action.hold(torch.as_tensor(np.asarray(action))[None])
        self._state, out = self._world.observe(self._state, whole, codes)
        return self._seen(codes, float(out.nll))

    @torch.inference_mode()
    def _encode(self, frames: Frames) -> torch.Tensor:
        """(1, h, w, M) codes."""
        return self._world.tokenizer.encode(torch.as_tensor(frames, device=self._world.device)[None, None])[:, 0]

    @torch.inference_mode()
    def _seen(self, codes: torch.Tensor, nll: float | None) -> Seen:
        frames = as_rgb(self._world.tokenizer.decode(codes[:, None])[0, 0].cpu().numpy())
        return Seen(codes[0].cpu().numpy(), nll, frames)


def seen_in(scene: DreamScene) -> Seen:
    """The current step of a dream."""
    state, _, shown = scene.now()
    return Seen(state.codes[0].cpu().numpy(), shown.nll)


def usual_surprise(world: WorldModel) -> float:
    """Mean nll of a step in nats, over 8 dreams of 8 random steps at temperature 1: the scale of a world's surprise."""
    dreams = DreamVectorEnv(_ROWS, world, "codes")
    dreams.reset(seed=0)
    policy = RandomPolicy(dreams.action_spec)
    nats = []
    for _ in range(_STEPS):
        infos = dreams.step(policy.act(np.zeros((_ROWS, 1))))[-1]
        nats.append(infos["nll"][infos["_nll"]])
    dreams.close()
    return float(np.concatenate(nats).mean())


def code_colors(tokenizer: Tokenizer) -> dict[str, Any]:
    """How the page draws a step's codes: a map for each slice of the codebook, and of each frame that is coded alone.

    Returns: "slices", the number of maps: a token holds one code of each map for every latent of its patch, in this
    order; "num_codes" V; "palette", colours of each map's codes as hexadecimal digits of (slices, V, 3) uint8.
    """
    colors = palette(tokenizer)
    if isinstance(tokenizer, FrameVQVAE):
        colors = np.tile(colors, (tokenizer.frames_per_step, 1, 1))
    return {"palette": colors.tobytes().hex(), "num_codes": tokenizer.num_codes, "slices": len(colors)}


def palette(tokenizer: Tokenizer) -> NDArray[np.uint8]:
    """A colour for each code of each slice of the codebook, (M, V, 3) uint8: similar vectors have similar colours.

    The three principal directions of a slice's code vectors become red, green and blue, each spread evenly by rank.
    """
    colors = []
    for vectors_VE in tokenizer.lookup.vectors.float().cpu():
        centred = vectors_VE - vectors_VE.mean(0)
        directions = torch.linalg.svd(centred, full_matrices=False).Vh[:3]
        main = centred @ directions.T  # (V, up to 3)
        main = torch.nn.functional.pad(main, (0, 3 - main.shape[1]))
        ranks = main.argsort(0).argsort(0).float() / max(1, len(main) - 1)
        colors.append((40 + 200 * ranks).round().to(torch.uint8))
    return torch.stack(colors).numpy()

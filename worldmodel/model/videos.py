"""Whole videos: from nothing, from given first frames, from actions, or from both.

A tokenizer of clips looks ahead: codes of given frames would leak the frames after them. Its videos are therefore made
clip by clip, and given frames enter through the frame encoder only.

Letters: n videos, T given steps, F frames of a step, H W C pixels, h w latent grid, M slices, A action dimensions.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from worldmodel.dynamics import DynamicsConfig, Sampling, Video
from worldmodel.dynamics.base import VideoRequest
from worldmodel.layers.defaults import own_defaults
from worldmodel.model.checks import check_actions, check_mode, check_seeds
from worldmodel.model.network import Network


class VideoMaker(Network):
    """A network that makes whole videos, with any tokenizer; those that cannot dream step by step included."""

    @property
    def longest_video(self) -> int | None:
        """Steps of the longest video that `sample` can make; None: no limit.

        A model of clips that is given nothing makes one clip.
        """
        tokenizer, given = self.config.tokenizer, self.dynamics.given_steps or self.config.dynamics.frame_condition
        return tokenizer.clip_steps if tokenizer.temporal == "clip" and not given else self.dynamics.longest_clip

    @property
    def reads_frames(self) -> bool:
        """Whether `sample` can be given first frames: as codes of steps, or as a model of clips was trained to read."""
        reads = self.dynamics.given_steps or self.config.dynamics.frame_condition
        return self.config.tokenizer.temporal == "step" or bool(reads)

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

        With a tokenizer of clips a GPT reads only the first `frame_condition` of the given steps, as frames, and the
        video shows them as the model generates them. A PixelCNNPair reads the first given step, coded alone. Both
        continue past a clip from the last frames of that clip.

        Args:
            steps: of each video, including the given ones.
            first_frames: (n, T, F, H, W, C) uint8, T <= steps.
            actions: (n, steps-1) or (n, steps-1, A), one after each step but the last.
            temperature, top_k, top_p, guidance: as in `Sampling`; guidance 1 is off.
            seeds: one per video; 0, 1, … if None.

        Raises: ValueError if the model was not trained for what is asked; it names the setting that would allow it.

        Example:
            >>> from worldmodel import WorldModel
            >>> video = WorldModel.from_pretrained("push").sample(1, steps=2)  # from nothing
            >>> video.frames.shape  # (n, steps, F, H, W, C)
            torch.Size([1, 2, 2, 64, 64, 3])
        """
        options = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, guidance=guidance)
        check_mode(self)
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        seeds = check_seeds(seeds, n, self.device)
        if actions is not None:
            actions = check_actions(self, actions, (n,), steps - 1)
        if first_frames is not None:
            first_frames = torch.as_tensor(first_frames, device=self.device)
            given = first_frames.shape[1] if first_frames.ndim == 6 else 0
            wanted = max(1, self.config.dynamics.frame_condition, self.dynamics.given_steps)
            if not wanted <= given <= steps or len(first_frames) != n:
                raise ValueError(
                    f"first_frames must be ({n}, T, F, H, W, C) with T from {wanted} to steps = {steps}, "
                    f"got {tuple(first_frames.shape)}"
                )
        if self.config.tokenizer.temporal == "clip":
            return self._clip_by_clip(n, steps, first_frames, actions, options, seeds)
        codes = self._no_codes(n) if first_frames is None else self.tokenizer.encode(first_frames)
        codes = self.dynamics.generate(
            self.tokenizer, codes, VideoRequest(steps, seeds, first_frames, actions, options)
        )
        return Video(self.tokenizer.decode(codes), codes)

    def _clip_by_clip(
        self,
        n: int,
        steps: int,
        first_frames: Tensor | None,
        actions: Tensor | None,
        options: Sampling,
        seeds: Tensor,
    ) -> Video:
        """Clips, each conditioned on the last decoded steps before it: as frames, or as codes of these steps alone.

        The first steps of a clip repeat those and are dropped.
        """
        config, length, given_steps = self.config.dynamics, self.config.tokenizer.clip_steps, self.dynamics.given_steps
        if given_steps:
            _check_given(given_steps, length, first_frames)
        else:
            _check_clips(config, length, steps, first_frames is not None)
        overlap = given_steps or config.frame_condition
        shift = length - overlap
        frames, codes = [], []
        for clip in range(1 + max(0, -((length - steps) // shift))):
            begin = clip * shift
            known = None if actions is None else _filled(actions[:, begin : begin + length - 1], length - 1)
            given, counter = self._no_codes(n), clip * length
            if given_steps and first_frames is not None:
                given = self.tokenizer.encode_given(first_frames[:, :given_steps])
            request = VideoRequest(length, seeds, first_frames, known, options, counter)
            drawn = self.dynamics.generate(self.tokenizer, given, request)
            seen = self.tokenizer.decode(drawn)
            first_frames = seen[:, shift:]
            new = slice(overlap if clip else 0, None)
            frames.append(seen[:, new])
            codes.append(drawn[:, new])
        return Video(torch.cat(frames, dim=1)[:, :steps], torch.cat(codes, dim=1)[:, :steps])

    def _no_codes(self, n: int) -> Tensor:
        """Codes of zero steps, (n, 0, h, w, M)."""
        shape = n, 0, *self.tokenizer.grid, self.tokenizer.num_slices
        return torch.zeros(shape, dtype=torch.int64, device=self.device)


def _check_given(given_steps: int, length: int, first_frames: Tensor | None) -> None:
    """ValueError unless the steps that a clip must be given are there, and no more than a clip has."""
    if first_frames is None:
        raise ValueError(
            f"this model continues video and does not begin one: pass first_frames, {given_steps} step or more of each "
            "video"
        )
    if first_frames.shape[1] > length:
        raise ValueError(
            f"first_frames must have at most the {length} steps of a clip, got {first_frames.shape[1]}; only the first "
            f"{given_steps} is read"
        )


def _check_clips(config: DynamicsConfig, length: int, steps: int, given_frames: bool) -> None:
    """ValueError if a model of clips of `length` steps was not trained for this request."""
    if not config.lead:
        raise ValueError(
            'this model has not learned how a clip begins: train it with learn_start=True, or with order "raster"'
        )
    if config.frame_condition >= length:
        raise ValueError(f"frame_condition must be below the {length} steps of a clip, got {config.frame_condition}")
    if config.frame_condition:
        return
    if given_frames:
        raise ValueError(
            "codes of a clip look at later frames, so first_frames cannot be given as codes: leave them out, or train "
            "the model with frame_condition"
        )
    if steps > length:
        raise ValueError(
            f"this model makes clips of {length} steps, got steps {steps}: ask for at most {length}, or train it with "
            "frame_condition, so that a clip can continue from the last frames of another"
        )


def _filled(actions: Tensor, count: int) -> Tensor:
    """Actions (n, up to count, …), padded to (n, count, …) with the last one, or with zeros if there is none.

    The steps cut off at the end of a clip need actions too.
    """
    missing = count - actions.shape[1]
    last = actions[:, -1:] if actions.shape[1] else actions.new_zeros(len(actions), 1, *actions.shape[2:])
    return torch.cat((actions, last.expand(-1, missing, *last.shape[2:])), dim=1)

"""Generate video from nothing, from first frames, from actions, or from both; of any length.

Letters: n videos, T context steps, F frames of a step, H W C pixels, h w latent grid, S = h*w tokens, M slices.
Time: `actions[:, t]` is taken after step t; step t+1 follows from it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from worldmodel.dynamics.base import Dynamics, DynamicsConfig, VideoRequest
from worldmodel.dynamics.conditioning import Condition
from worldmodel.dynamics.sampling import Sampling, uniforms
from worldmodel.progress import stepwise
from worldmodel.tokenizer import Tokenizer


class Video(NamedTuple):
    """Generated video, beginning with the context steps."""

    frames: Tensor  # (n, steps, F, H, W, C) uint8, all decoded from codes
    codes: Tensor  # (n, steps, h, w, M) int64; with a clip tokenizer, each step's codes within its clip


def check_request(config: DynamicsConfig, given_frames: bool, given_actions: bool, options: Sampling) -> None:
    """Raise ValueError if the model was not trained for the requested conditions."""
    if not given_frames and not config.lead:
        raise ValueError(
            "this model has not learned how a video begins: pass first frames"
            + (", or train it with learn_start=True" if hasattr(config, "learn_start") else "")
        )
    if not given_frames and config.frame_condition and not config.drop_frames:
        raise ValueError("this model needs first frames: pass them, or train a model with drop_frames > 0")
    if given_actions and config.action_condition == "none":
        raise ValueError("this model ignores actions: omit them, or train a model with another action_condition")
    if not given_actions and config.action_condition != "none" and not config.drop_actions:
        raise ValueError("this model needs actions: pass them, or train a model with drop_actions > 0")
    can_hide = (given_actions and config.drop_actions) or (
        given_frames and config.frame_condition and config.drop_frames
    )
    if options.guided and not can_hide:
        raise ValueError(
            f"guidance {options.guidance} needs a condition that the model can also do without: pass actions to one "
            "trained with drop_actions > 0, or first_frames to one trained with frame_condition and drop_frames > 0"
        )


class _Conditions:
    """The conditions for each position of the videos; with guidance followed by rows without them."""

    def __init__(
        self, dynamics: Dynamics, actions: Tensor | None, vector: Tensor | None, rows: int, guided: bool
    ) -> None:
        self.dynamics, self.actions, self.vector, self.rows, self.guided = dynamics, actions, vector, rows, guided

    def of(self, inputs: int, begin: int, first: int, last: int) -> Condition:
        """Conditions of `inputs` inputs with actions first … last-1 before them; clip actions start at step `begin`."""
        config, actions = self.dynamics.config, self.actions
        if config.action_condition == "clip":
            first, last = begin, begin + config.clip_actions
        known = None if actions is None else actions[:, max(first, 0) : max(last, 0)]
        condition = self.dynamics.condition(self.rows, inputs, known, self.vector)
        if not self.guided:
            return condition
        without = self.dynamics.condition(
            self.rows, inputs, None if config.drop_actions else known, None if config.drop_frames else self.vector
        )
        return condition.join(without)


@torch.inference_mode()
def generate_steps(dynamics: Dynamics, tokenizer: Tokenizer, codes: Tensor, request: VideoRequest) -> Tensor:
    """Continue codes (n, T, h, w, M), T >= 0, step by step: (n, steps, h, w, M).

    A context limited to `max_steps` restarts from its last half when full: the codes of that half become the context,
    its first frames are decoded from them, and its actions are those of the new clip.
    """
    config, (steps, seeds, first_frames, actions, options, counter) = dynamics.config, request
    check_request(config, first_frames is not None, actions is not None, options)
    shape, num_context = codes.shape, codes.shape[1]
    codes = codes.flatten(2, 3)  # (n, T, S, M)
    rows, _, tokens, slices = codes.shape
    times = 2 if options.guided else 1
    conditions = _Conditions(dynamics, actions, dynamics.frame_vector(first_frames, rows), rows, options.guided)
    lookup = tokenizer.lookup
    cache, begin = None, 0
    for now in stepwise(range(num_context, steps), "step", "sample"):
        full = config.limited and now - begin - 1 + config.lead >= config.max_steps
        if full:
            begin = now - config.half
            if first_frames is not None and config.frame_condition:
                since = 0 if tokenizer.config.temporal == "causal" else begin  # a causal step needs its predecessors
                seen = tokenizer.decode(codes[:, since : begin + config.frame_condition].unflatten(2, shape[2:4]))
                conditions.vector = dynamics.frame_vector(seen[:, begin - since :], rows)
        if cache is None or full:
            condition = conditions.of(now - begin - 1 + config.lead, begin, begin, now - 1)
            cache, _ = dynamics.burn_in(codes[:, begin:].repeat(times, 1, 1, 1), condition, lookup)
        last = codes[:, -1] if now else codes.new_zeros(rows, tokens, slices)
        noise = uniforms(seeds, torch.full_like(seeds, counter + now - num_context), dynamics.noise_per_step)
        condition = conditions.of(1, begin, now - 1, now)
        drawn, _ = dynamics.step(last.repeat(times, 1, 1), condition, cache, noise, lookup, options)
        codes = torch.cat((codes, drawn.codes[:, None]), dim=1)
    return codes.unflatten(2, shape[2:4])

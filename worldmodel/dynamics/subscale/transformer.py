"""SubscaleTransformer: dream step by step in single-frame order, and draw whole clips slice by slice.

Letters: B rows, T steps, F latent frames of a step, S = h*w tokens per step, n books, M = F*n codes of a token (frame
after frame), D width, W steps of a cache, P = T*F*S positions of a clip, N positions of a slice.
Source: Latent Video Transformer (arXiv:2006.10704) section 3.2. Differs: rows of the decoder are computed once, with
keys and values kept, where the public code repeats the whole decoder for each position.
"""

import torch
from torch import Tensor

from worldmodel.dynamics.base import VideoRequest
from worldmodel.dynamics.conditioning import Condition
from worldmodel.dynamics.generation import check_request, generate_steps
from worldmodel.dynamics.sampling import Draw, Sampling, uniforms
from worldmodel.dynamics.subscale.context_encoder import NO_CODE
from worldmodel.dynamics.subscale.network import SubscaleNetwork
from worldmodel.dynamics.subscale.pixel_pass import PixelPass
from worldmodel.layers.attention import KVCache
from worldmodel.tokenizer import CodeLookup, Tokenizer


class SubscaleTransformer(SubscaleNetwork):
    """The dynamics of the Latent Video Transformer: encoder over earlier slices, decoder over the current one.

    With `subscale`, given frames are seen only through slices that precede the current one, as in the paper's public
    code: a given position of a later slice is not. Single-frame order sees all given frames within its kernel.
    """

    @property
    def cannot_dream(self) -> str:
        if self.config.single_frame:
            return ""
        return (
            f"a slice of subscale {self.config.subscale} holds positions of the whole clip, so that its last frame is "
            "begun before its first is complete, and no step can be drawn on its own. Make whole clips with sample(…), "
            "or train a model of single frames (subscale None)"
        )

    @property
    def cannot_record(self) -> str:
        return "a step draws hundreds of positions one after the other, which were never recorded; leave graphs out"

    @property
    def longest_clip(self) -> int | None:
        """Steps of the clip that slices are cut from; None in single-frame order."""
        clip = self.config.clip_frames
        return None if self.config.single_frame or clip is None else clip // self.latent_frames

    @property
    def cache_dtype(self) -> torch.dtype:
        return torch.int64

    @property
    def cache_shape(self) -> tuple[int, tuple[int, int, int, int]]:
        """A cache holds the codes of the last steps as int64 "keys" (B, 1, W, S, M); its "values" have no features."""
        if self.cannot_dream:
            return 0, (0, 0, 0, 0)
        return 1, (1, self.window, self.tokens_per_step, self.num_slices)

    @property
    def window(self) -> int:
        """W, number of past steps that a dream's state holds: those that a frame sees, and those that it counts."""
        config, frames = self.config, self.latent_frames
        seen = -(-config.context_frames // frames)
        counted = -(-(config.slice_entries - 1) // frames) - 1 + config.lead
        return max(seen, counted, 1)

    # --- dreams --------------------------------------------------------------------------------------------------

    def step(
        self,
        codes: Tensor,
        condition: Condition,
        cache: KVCache,
        noise: Tensor,
        lookup: CodeLookup,
        options: Sampling | None = None,
        given: Tensor | None = None,
    ) -> tuple[Draw, Tensor]:
        """Draw the next step, frame by frame, and advance the cache in place.

        Args:
            codes: (B, S, M) the last step; ignored in rows with an empty cache if the model has a learned start.
            condition: condition of the one step.
            noise: (B, noise_per_step) float32 in [0, 1).
            lookup: not used.
            options: with guidance, codes, condition and cache have 2B rows; the second half is without conditions.
            given: (B, S, M) an observed step to score instead of drawing one; the draw then has its likelihood.

        Returns the drawn codes (B, S, M) with nll and entropy (B, S), and the outputs (B, S, D) of its last frame.
        """
        options = options or Sampling()
        known = cache.lengths + (1 - self.config.lead)  # steps before the one to draw
        cache.keys[0][:, 0, cache.clock % cache.window] = codes
        past = self._past(cache, known)
        encoder, decoder, last = self._modulate(condition.steps)
        seen, times = self.config.context_frames * self.tokens_per_step, 2 if options.guided else 1
        of_frames = noise.view(len(noise), self.latent_frames, self.tokens_per_step, self.books)
        observed = None if given is None else self._volume(given[:, None])  # (B, F, S, n)
        parts: list[Draw] = []
        for frame in range(self.latent_frames):
            entries = (known * self.latent_frames + frame).clamp_max(self.config.slice_entries - 1)
            context = self.encoder(past, self.seen, entries, encoder)
            pixels = PixelPass(self.decoder, self.norm, context, decoder, last)
            known_frame = None if observed is None else observed[:, frame]
            drawn, outputs = self._draw(pixels, of_frames[:, frame], options, given=known_frame)
            parts.append(drawn)
            past = torch.cat((past, drawn.codes.repeat(times, 1, 1)), dim=1)[:, -seen:]
        cache.advance()
        new, nll, entropy = (torch.stack(field, dim=-1) for field in zip(*parts, strict=True))
        return Draw(new.transpose(2, 3).flatten(2), nll.sum(-1), entropy.sum(-1)), outputs

    def _past(self, cache: KVCache, known: Tensor) -> Tensor:
        """Codes of the last frames before the step at the cache's clock, (B, context_frames*S, n).

        `known` (B,): how many steps of each row exist; NO_CODE stands for frames before them.
        """
        ages = torch.arange(cache.window, device=known.device).flip(0)  # oldest first
        steps = cache.keys[0][:, 0, (cache.clock - ages) % cache.window]
        steps = torch.where((ages < known[:, None])[..., None, None], steps, NO_CODE)
        return self._volume(steps)[:, -self.config.context_frames :].flatten(1, 2)

    def burn_in(self, codes: Tensor, condition: Condition, lookup: CodeLookup) -> tuple[KVCache, Tensor]:
        """Make a cache of context steps, so that `step` can continue after the last of them.

        Args:
            codes: (B, T, S, M); T may be 0 with a learned start.
            condition: conditions of the T-1+lead predicted steps among them.
            lookup: not used.

        Returns the cache, and the outputs (B, S, D) that predict the last context step: zeros if none does.
        """
        if self.cannot_dream:
            raise ValueError(f"these dynamics cannot dream: {self.cannot_dream}")
        lead, (rows, steps) = self.config.lead, codes.shape[:2]
        inputs = steps - 1 + lead
        if inputs < 0:
            raise ValueError("a model without a learned start needs a context step; train it with learn_start=True")
        window = self.window
        ring = codes.new_zeros(rows, 1, window, *codes.shape[2:])
        for step in range(max(0, inputs - window), inputs):  # with a learned start, input 0 holds no step
            if step >= lead:
                ring[:, 0, step % window] = codes[:, step - lead]
        lengths = codes.new_full((rows,), min(inputs, window))
        cache = KVCache([ring], [codes.new_zeros(*ring.shape[:-1], 0)], lengths, inputs, min(inputs, window))
        if not inputs or not steps:
            return cache, torch.zeros(rows, self.tokens_per_step, self.config.width, device=codes.device)
        last = torch.full((rows, 1), steps - 1, device=codes.device)
        outputs = self._predict(self._frame_rows(codes, last, condition.steps[:, -1:]))
        return cache, outputs.unflatten(0, (rows, -1))[:, -1]

    def move(self, cache: KVCache, clock: int) -> KVCache:
        """Shift a cache in time, so that its rows can join those of a cache with this clock."""
        return cache.at(clock, None)

    # --- drawing -------------------------------------------------------------------------------------------------

    def _draw(
        self, pixels: PixelPass, noise: Tensor, options: Sampling, first: int = 0, given: Tensor | None = None
    ) -> tuple[Draw, Tensor]:
        """Draw the positions of slices from `first`: noise (B, N, n) -> draws and outputs of those positions.

        With guidance the pass has 2B rows, the outputs too. Codes that are `given` (B, N, n) are scored instead.
        """
        times = 2 if options.guided else 1
        parts, outputs = [], []
        for position in range(first, noise.shape[1]):
            output = pixels(position).unsqueeze(1)
            one = slice(position, position + 1)
            drawn = self.code_head.sample(output, noise[:, one], options, None if given is None else given[:, one])
            pixels.put(position, drawn.codes.squeeze(1).repeat(times, 1))
            parts.append(drawn)
            outputs.append(output)
        return Draw(*(torch.cat(field, dim=1) for field in zip(*parts, strict=True))), torch.cat(outputs, dim=1)

    @torch.inference_mode()
    def generate(self, tokenizer: Tokenizer, codes: Tensor, request: VideoRequest) -> Tensor:
        """As of every dynamics; with `subscale` a whole clip is drawn, of which the requested steps are returned.

        Its later steps then have the last action.
        """
        length = self.longest_clip
        if length is None:
            return generate_steps(self, tokenizer, codes, request)
        steps, seeds, first_frames, actions, options, counter = request
        check_request(self.config, first_frames is not None or codes.shape[1] > 0, actions is not None, options)
        if steps > length:
            raise ValueError(
                f"this model makes clips of {length} steps, got steps {steps} with {codes.shape[1]} given; ask for at "
                f"most {length}, or train a model of single frames (subscale None), which has no longest video"
            )
        if actions is not None:
            last = actions[:, -1:] if actions.shape[1] else actions.new_zeros(len(actions), 1, *actions.shape[2:])
            actions = torch.cat((actions, last.expand(-1, length - steps, *last.shape[2:])), dim=1)
        drawn = self.draw_clip(codes.flatten(2, 3), seeds, actions, options, counter)
        return drawn[:, :steps].unflatten(2, codes.shape[2:4])

    def draw_clip(
        self, given: Tensor, seeds: Tensor, actions: Tensor | None, options: Sampling, counter: int = 0
    ) -> Tensor:
        """Draw a whole clip slice by slice: given first steps (B, T', S, M), T' >= 0 -> (B, T, S, M).

        Args:
            seeds: (B,) int64; slice q is drawn with counter `counter` + q.
            actions: (B, T-1, …); None: unknown.
            options: how to draw.
        """
        steps = self.longest_clip
        assert steps is not None
        rows, times, frames = len(given), 2 if options.guided else 1, given.shape[1] * self.latent_frames
        condition = self.condition(rows, steps, actions).steps
        if options.guided:
            condition = torch.cat((condition, self.condition(rows, steps).steps))
        video = given.new_full((rows, len(self.positions) * self.positions.shape[1], self.books), NO_CODE)
        video[:, : frames * self.tokens_per_step] = self._volume(given).flatten(1, 2)
        for index, places in enumerate(self.positions):
            which = torch.full((rows * times,), index, device=given.device)
            known = int((places.unflatten(0, self.shape)[:, 0, 0] < frames * self.tokens_per_step).sum())
            if known == self.shape[0]:
                continue
            encoder, decoder, last = self._modulate(condition[:, self._steps_of(which[:1])[0]])
            context = self.encoder(video.repeat(times, 1, 1), self.seen[index], which, encoder)
            pixels = PixelPass(self.decoder, self.norm, context, decoder, last)
            first = known * self.shape[1] * self.shape[2]
            if known:
                pixels.begin(video[:, places[:first]].repeat(times, 1, 1).unflatten(1, (known, *self.shape[1:])))
            noise = uniforms(seeds, torch.full_like(seeds, counter + index), len(places) * self.books)
            self._draw(pixels, noise.unflatten(1, (-1, self.books)), options, first)
            video[:, places] = pixels.codes[:rows, :-1]
        return video.unflatten(1, (steps, self.latent_frames, -1)).transpose(2, 3).flatten(3)

"""One step of a dream as three plain functions of tensors, to be exported: the pass, the draw, the picture.

The functions read the weights of a world's own layers, but call none of the kernels that only a processor of this
machine has. A dream's cache lies outside: the caller keeps the keys and values of the last W-1 steps in a ring.

Letters: S = h*w tokens, M slices, E code features, D width, H heads, K features of one head, N layers, W window in
steps, V codes, A action features, G signals, F frames of a step.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.dynamics import GPTConfig
from worldmodel.dynamics.conditioning import ConditionalNorm
from worldmodel.dynamics.gpt.gpt import GPT
from worldmodel.layers.attention import WindowAttention
from worldmodel.model import WorldModel
from worldmodel.tokenizer import VQVAEConfig


def check_exportable(world: WorldModel) -> None:
    """ValueError, with the reason, for a world whose steps these functions do not compute."""
    config, tokenizer = world.config.dynamics, world.config.tokenizer
    reason = ""
    if not isinstance(config, GPTConfig):
        reason = f"its dynamics are {type(world.dynamics).__name__}, and only those of a GPT are exported"
    elif config.order != "block":
        reason = 'its order is "raster": one pass for each token would be too slow in a browser'
    elif config.attention != "full":
        reason = "its attention is axial, and only full attention is exported"
    elif config.refine:
        reason = f"it draws a step in {config.refine + 1} passes, and only one pass is exported"
    elif config.limited:
        reason = (
            "its context is limited and restarts when full, and only sliding windows are exported "
            '(position="rotary-time" and one action per step)'
        )
    elif config.frame_condition:
        reason = "it reads the first frames, and only dreams that begin with codes are exported"
    elif not isinstance(tokenizer, VQVAEConfig) or tokenizer.temporal != "step":
        reason = 'its tokenizer does not decode single steps by itself; only a VQVAE with temporal="step" is exported'
    if reason:
        raise ValueError(f"this world cannot be exported for the browser: {reason}. It can be played with `play`")


class Pass(nn.Module):
    """The GPT on one step: its outputs, which predict the next step, and its keys and values for the ring."""

    def __init__(self, world: WorldModel) -> None:
        super().__init__()
        assert isinstance(world.dynamics, GPT)
        self.dynamics, self.vectors = world.dynamics, world.tokenizer.lookup.vectors
        self.blocks = self.dynamics.each_block

    def forward(
        self, codes: Tensor, action: Tensor, first: Tensor, keys: Tensor, values: Tensor, hidden: Tensor, turn: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step into the future.

        Args:
            codes: (S, M) int32, the last step.
            action: (A,) float32, one-hot or as it is.
            first: () float32, 1 for the input before the first step of a model with a learned start; else 0.
            keys, values: (N, H, W-1, S, K) float32, the ring.
            hidden: (W-1,) float32, -inf for slots of the ring that are empty, else 0.
            turn: (2, K) float32, cosines and sines of the rotation at this time.

        Returns: outputs (S, D), keys and values of this step, (N, H, S, K) each.
        """
        dynamics = self.dynamics
        content, condition = self._content(codes), self._condition(action)
        if dynamics.config.lead:
            content = content + first * (dynamics.start_token - content)
            condition = condition + first * (dynamics.action.null - condition)
        x = content + dynamics._positions()[0] if dynamics.position is not None else content
        new_keys, new_values = [], []
        bias = hidden[:, None].expand(-1, len(codes)).flatten()
        bias = torch.cat((bias, torch.zeros(len(codes), device=bias.device)))  # the step sees itself
        for layer, block in enumerate(self.blocks):
            assert isinstance(block.attention, WindowAttention)
            q, k, v = self._split(block.attention, _norm(block.norm_attention, x, condition), turn)
            new_keys.append(k)
            new_values.append(v)
            past_k, past_v = keys[layer].flatten(1, 2), values[layer].flatten(1, 2)  # (H, (W-1)*S, K)
            scores = (q * q.shape[-1] ** -0.5) @ torch.cat((past_k, k), dim=1).transpose(1, 2) + bias
            mixed = scores.softmax(-1) @ torch.cat((past_v, v), dim=1)  # (H, S, K)
            x = x + _linear(block.attention.out, mixed.transpose(0, 1).flatten(1))
            part = block.forward_part
            hidden_units = F.gelu(_linear(part.rise, _norm(block.norm_forward, x, condition)))
            x = x + _linear(part.fall, hidden_units)
        return _norm(dynamics.norm, x, condition), torch.stack(new_keys), torch.stack(new_values)

    def _content(self, codes: Tensor) -> Tensor:
        """(S, M) -> (S, D)."""
        dynamics, vectors = self.dynamics, look_up(self.vectors, codes)
        assert dynamics.neighbours is not None
        around = vectors.unflatten(0, dynamics.grid).permute(2, 0, 1)[None]  # (1, E, h, w)
        around = F.conv2d(around, dynamics.neighbours.weight.squeeze(2), padding=1)
        return _linear(dynamics.token_in, vectors) + around[0].flatten(1).T

    def _condition(self, action: Tensor) -> Tensor:
        """(A,) -> (C,)."""
        embedding = self.dynamics.action
        if embedding.kind == "none":
            return embedding.null
        features = scaled_action(self.dynamics, action)
        return features if embedding.linear is None else _linear(embedding.linear, features)

    def _split(self, attention: WindowAttention, x: Tensor, turn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(S, D) -> queries, keys, values, (H, S, K) each; the first two rotated."""
        q, k, v = _linear(attention.qkv, x).unflatten(-1, (3, attention.heads, -1)).permute(1, 2, 0, 3).unbind(0)
        if self.dynamics.config.position != "rotary-time":
            return q, k, v
        cos, sin = turn
        return _turned(q, cos, sin), _turned(k, cos, sin), v


class Drawing(nn.Module):
    """Draws the codes of a step from the outputs that predict it, and reads what it earns and where it ends."""

    def __init__(self, world: WorldModel) -> None:
        super().__init__()
        assert isinstance(world.dynamics, GPT)
        self.dynamics, self.heads, self.vectors = world.dynamics, world.heads, world.tokenizer.lookup.vectors

    def forward(
        self,
        outputs: Tensor,
        before: Tensor,
        first: Tensor,
        noise: Tensor,
        temperature: Tensor,
        signals: Tensor,
        action: Tensor,
        chance: Tensor,
    ) -> tuple[Tensor, ...]:
        """Outputs of a step.

        Args:
            outputs: (S, D) of the pass.
            before: (S, M) int32, codes of the step before.
            first: as in the pass.
            noise: (S, M) float32 in [0, 1).
            temperature: () float32; 0 takes the likeliest codes.
            signals: (G,) float32 before the step.
            action: as in the pass.
            chance: () float32 in [0, 1), the noise that draws whether the episode ends; unused if the world reads ends.

        Returns: codes (S, M) int32; nll, entropy, reward and the probability of an end, () each; whether it ends, ()
        float32 0 or 1; signals (G,).
        """
        board = self.dynamics.code_head.checkerboard
        if board is None:
            codes, nll, entropy = self._draw(outputs, before, first, noise, temperature)
        else:
            black, white = board.black, board.white
            order = torch.cat((black, white)).argsort()
            codes, nll, entropy = self._draw(outputs[black], before[black], first, noise[black], temperature)
            known = torch.cat((codes, before[white], torch.full_like(codes[:1], board.num_codes)))
            around = torch.cat((order, order.new_full((1,), len(order))))[board.around]  # where `known` has them
            hints = F.embedding((known[around] + board.first).flatten(1), board.tables.weight).sum(-2)
            last, *rest = self._draw(outputs[white], before[white], first, noise[white], temperature, hints)
            codes, nll, entropy = torch.cat((codes, last))[order], nll + rest[0], entropy + rest[1]
        tokens = torch.cat((outputs, look_up(self.vectors, codes)), dim=-1)
        heads, read = self.heads, scaled_action(self.dynamics, action) if self.heads.law_out is not None else None
        out = heads(tokens[None], signals[None], None if read is None else read[None])
        probability = heads.termination_probability(out)[0]
        ended = probability >= heads.threshold
        if heads.ahead is not None:
            sampled = temperature > 0  # ONNX Runtime cannot choose between bools
            ended = (sampled & (chance < probability)) | (~sampled & ended)
        after = heads.signals_after(out, signals[None], ended[None])[0]
        reward = heads.reward_mean(out, ended[None])[0]
        return codes.int(), nll, entropy, reward, probability, ended.float(), after

    def _draw(
        self,
        outputs: Tensor,
        before: Tensor,
        first: Tensor,
        noise: Tensor,
        temperature: Tensor,
        hints: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Codes (S, M) of tokens that do not depend on each other, their nll and entropy ()."""
        head = self.dynamics.code_head
        chosen: list[Tensor] = []
        sums: list[Tensor] = []
        stays = None if head.stay is None else _linear(head.stay, outputs) * (1 - first)
        for index in range(noise.shape[-1]):
            logits = self._logits(outputs, chosen, index, hints)
            if stays is not None:
                one = slice(index, index + 1)
                logits = logits + stays[:, one] * (before[:, one] == torch.arange(head.num_codes, device=before.device))
            code, nll, entropy = draw(logits, noise[:, index], temperature)
            chosen.append(code)
            sums.append(torch.stack((nll.sum(), entropy.sum())))
        nll, entropy = torch.stack(sums).sum(0)
        return torch.stack(chosen, dim=-1), nll, entropy

    def _logits(self, outputs: Tensor, chosen: list[Tensor], index: int, hints: Tensor | None) -> Tensor:
        """(S, V) of a slice, given the codes of those before it and a checkerboard's hints."""
        head = self.dynamics.code_head
        to_logits = head.to_logits[index]
        if head.linear:
            return _linear(to_logits, outputs)
        hidden = _linear(head.from_output[index], outputs)
        if hints is not None:
            hidden = hidden + hints
        for earlier, codes in enumerate(chosen):
            table = head.from_codes[index - 1].get_parameter("weight")
            hidden = hidden + F.embedding(codes + earlier * head.num_codes, table)
        return _linear(to_logits, F.gelu(hidden))


def draw(logits: Tensor, noise: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`worldmodel.dynamics.sampling.draw` in operations that ONNX has: codes (S,) int64, nll and entropy (S,).

    The running sums are made in float64, as torch makes them.
    """
    greedy = temperature <= 0
    odds = (logits / torch.where(greedy, torch.ones_like(temperature), temperature)).softmax(-1)
    mass = odds.double().cumsum(-1).float()
    drawn = (mass <= (noise * mass[:, -1])[:, None]).int().sum(-1).clamp(max=logits.shape[-1] - 1)
    codes = torch.where(greedy, logits.argmax(-1), drawn)
    total = logits.logsumexp(-1)
    likelihoods = logits.softmax(-1)
    return codes, total - logits.gather(-1, codes[:, None])[:, 0], total - (likelihoods * logits).sum(-1)


def look_up(vectors: Tensor, codes: Tensor) -> Tensor:
    """Codes (S, M) -> code vectors (S, E); `vectors` (slices, V, E/slices) of a codebook."""
    slices, num_codes, _ = vectors.shape
    offsets = torch.arange(slices, device=codes.device) * num_codes
    return F.embedding(codes.unflatten(-1, (-1, slices)) + offsets, vectors.flatten(0, 1)).flatten(1)


def scaled_action(dynamics: GPT, action: Tensor) -> Tensor:
    """An action (A,) as features in [-1, 1]; one-hot vectors stay as they are."""
    embedding = dynamics.action
    return action if embedding.spec.kind == "discrete" else (action - embedding.center) / embedding.radius


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(layer, nn.Linear)
    return F.linear(x, layer.weight, layer.bias)


def _norm(norm: ConditionalNorm, x: Tensor, condition: Tensor) -> Tensor:
    gain, bias = _linear(norm.modulation, condition).chunk(2, dim=-1)
    return F.layer_norm(x, (norm.width,), norm.ones, norm.zeros) * (1.0 + gain) + bias


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate features (…, K): feature i and i + K/2 are a pair."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((right, left), dim=-1) * sin

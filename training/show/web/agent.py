"""A trained agent's policy as a function to be exported: what it sees of a dream's step, and what it would do.

Letters: S = h*w tokens, M slices, D width, E code features, A actions or numbers of one, K stacked observations, F
frames of a step, C channels of an observation, P planes of the last action.
"""

import os
from typing import Any

import torch
from torch import Tensor, nn

from worldmodel.agents.action_memory import planes_of
from worldmodel.agents.sb3.agent import Agent, check_fits, load_agent
from worldmodel.agents.sb3.networks import ImageFeatures
from worldmodel.model import WorldModel
from worldmodel.training.show.web.graphs import look_up
from worldmodel.training.show.web.onnx_files import halve, to_onnx


def open_agent(folder: str | os.PathLike, world: WorldModel) -> Agent:
    """The agent of a folder; ValueError, with the reason, if it cannot play this world's dreams in a browser."""
    agent = load_agent(folder)
    check_fits(agent, str(folder), world)
    if agent.file.training.durations:
        raise ValueError(
            f"the agent {folder} chooses for how long it holds an action, which the page cannot: give one that was "
            "trained without durations"
        )
    return agent


def agent_graph(agent: Agent, world: WorldModel) -> bytes:
    """The agent's policy as an ONNX graph with weights of half size."""
    halve(agent.policy)
    config, shape = world.config, seen_shape(agent)
    tokens = world.tokenizer.grid[0] * world.tokenizer.grid[1]
    inputs = {
        "codes": torch.zeros(tokens, world.tokenizer.num_slices, dtype=torch.int32),
        "outputs": torch.zeros(tokens, config.dynamics.width),
        "frames": torch.zeros(world.frames_per_step, world.height, world.width, 3, dtype=torch.uint8),
        "last": torch.zeros(agent.file.action.num_features),
        "begun": torch.zeros(()),
        "past": torch.zeros(agent.file.training.frame_stack - 1, *shape),
    }
    return to_onnx(Acting(agent, world), inputs, ["choice", "seen"])


def seen_shape(agent: Agent) -> tuple[int, ...]:
    """(h, w, C + P) of one observation with the planes of the last action."""
    *grid, depth = agent.file.observation_shape
    return (*grid, depth + planes_of(agent.file.action, agent.file.training))


def about_agent(agent: Agent) -> dict[str, Any]:
    """What the page needs to know about an agent."""
    return {"stack": agent.file.training.frame_stack, "seen": list(seen_shape(agent))}


class Acting(nn.Module):
    """What an agent sees of a step, and how likely it takes each action."""

    def __init__(self, agent: Agent, world: WorldModel) -> None:
        super().__init__()
        self.policy, self.file, self.obs = agent.policy, agent.file, agent.obs
        self.vectors, self.grid = world.tokenizer.lookup.vectors, world.tokenizer.grid

    def forward(
        self, codes: Tensor, outputs: Tensor, frames: Tensor, last: Tensor, begun: Tensor, past: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One choice.

        Args:
            codes: (S, M) int32 of the step.
            outputs: (S, D) that predicted it.
            frames: (F, H, W, 3) uint8 of the step.
            last: (A,) float32, the action that led to it, one-hot or as it is.
            begun: () float32, 0 at the beginning of an episode, else 1.
            past: (K-1, h, w, C+P) float32, what it saw at the steps before, the oldest first; zeros before the first.

        Returns: probabilities of its actions (A,), or means and deviations of its numbers (2, A); what it sees (h, w,
        C+P).
        """
        seen = self._observation(codes, outputs, frames)
        if self.file.training.shows_actions:
            planes = self._planes(last) * begun
            seen = torch.cat((seen, planes.expand(*seen.shape[:2], -1)), dim=-1)
        stacked = torch.cat((past, seen[None])).permute(1, 2, 0, 3).flatten(2)[None]
        features = self._features(stacked)
        choice = self.policy.action_net(self.policy.mlp_extractor.forward_actor(features))[0]
        if self.file.action.kind == "discrete":
            return choice.softmax(-1), seen
        return torch.stack((choice, self.policy.log_std.exp())), seen

    def _observation(self, codes: Tensor, outputs: Tensor, frames: Tensor) -> Tensor:
        if self.obs == "rgb":
            return frames[-1, :, :, : self.file.observation_shape[-1]].float()
        vectors = look_up(self.vectors, codes)
        if self.obs == "features":
            vectors = torch.cat((outputs, vectors), dim=-1)
        return vectors.unflatten(0, self.grid)

    def _planes(self, last: Tensor) -> Tensor:
        """(P,), as `ActionMemory` has them."""
        action, pixels = self.file.action, self.file.pixels
        if action.kind == "discrete":
            return last * (255 if pixels else 1)
        low, high = torch.tensor(action.low), torch.tensor(action.high)
        scaled = 2 * (last - low) / (high - low) - 1
        return 128 + (127 * scaled).round() if pixels else scaled

    def _features(self, stacked: Tensor) -> Tensor:
        """Of (1, h, w, K*(C+P)); in float32, whatever this processor multiplies fast."""
        extractor: Any = self.policy.features_extractor
        if isinstance(extractor, ImageFeatures):
            return extractor.convs(stacked.permute(0, 3, 1, 2) / 255)
        return extractor(stacked)

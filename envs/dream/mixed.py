"""Dreams of several worlds in one vector env, so that an agent cannot rely on the mistakes of any one of them.

Letters: B rows, B_i those of one world.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from worldmodel.data import ActionSpec
from worldmodel.envs.actions import check_actions, valid_actions
from worldmodel.envs.dream.rules import DreamRules
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.envs.vectors import NamesItsAdapter, row_seeds, rows_to_reset
from worldmodel.model import WorldModel


class MixedDreams(VectorEnv[np.ndarray, np.ndarray, np.ndarray], metaclass=NamesItsAdapter):
    """Several `DreamVectorEnv` combined; their rows follow each other in the order of the parts.

    A row dreams what it would dream in its own env. `infos` holds the union of their keys, with masks of the rows that
    have them.

    Args:
        parts: in same-step autoreset, with the same rules, of worlds that `check_alike` accepts.
    """

    def __init__(self, parts: Sequence[DreamVectorEnv]) -> None:
        if not parts:
            raise ValueError("no dream to mix: give at least one DreamVectorEnv")
        home = parts[0]
        for number, part in enumerate(parts):
            if part.autoreset_mode is not AutoresetMode.SAME_STEP:
                raise ValueError(f"mixed dreams need autoreset_mode 'same_step', got {part.autoreset_mode}")
            if part.obs != home.obs or part.rules != home.rules:
                raise ValueError(f"mixed dreams need the same obs and rules; number {number} differs from the first")
            check_alike(home.model, part.model, home.obs, "the first world", f"world {number}")
        self.parts = tuple(parts)
        counts = [part.num_envs for part in parts]
        ends = np.cumsum(counts).tolist()
        self._rows = [slice(end - count, end) for count, end in zip(counts, ends, strict=True)]
        self.num_envs = ends[-1]
        self.model, self.metadata, self.autoreset_mode = home.model, home.metadata, home.autoreset_mode
        self.render_mode = home.render_mode
        self.single_observation_space = home.single_observation_space
        self.single_action_space = home.single_action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._observations = np.zeros(self.observation_space.shape, self.observation_space.dtype)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin dreams; `seed` as in `DreamVectorEnv`, and of its options only "reset_mask"."""
        options = options or {}
        if others := set(options) - {"reset_mask"}:
            name = min(map(str, others))
            raise ValueError(f"the only reset option of mixed dreams is 'reset_mask', got {name!r}")
        mask = np.isin(np.arange(self.num_envs), rows_to_reset(options, self.num_envs))
        for part, rows in zip(self.parts, self._rows, strict=True):
            if not mask[rows].all():
                part.check_begun("a reset of some rows")
        seeds = row_seeds(seed, self.num_envs)
        infos: list[dict[str, Any]] = []
        for part, rows in zip(self.parts, self._rows, strict=True):
            if not mask[rows].any():
                infos.append({})
                continue
            some = None if mask[rows].all() else {"reset_mask": mask[rows]}
            self._observations[rows], part_infos = part.reset(seed=list(seeds[rows]), options=some)
            infos.append(part_infos)
        return self._observations.copy(), self._joined(infos)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """As in `DreamVectorEnv`."""
        for part in self.parts:
            part.check_begun("step()")
        actions = valid_actions(self.single_action_space, actions, (self.num_envs,))  # before any world dreams on
        steps = [part.step(actions[rows]) for part, rows in zip(self.parts, self._rows, strict=True)]
        self._observations, rewards, terminations, truncations = (
            np.concatenate([step[entry] for step in steps]) for entry in range(4)
        )
        return self._observations.copy(), rewards, terminations, truncations, self._joined([step[4] for step in steps])

    def render(self) -> tuple[Any, ...]:
        return tuple(frame for part in self.parts for frame in part.render())

    def close_extras(self, **kwargs: Any) -> None:
        for part in getattr(self, "parts", ()):
            part.close()

    @property
    def action_spec(self) -> ActionSpec:
        """The actions of each row, with names."""
        return self.parts[0].action_spec

    @property
    def rules(self) -> DreamRules:
        """Temperature, reward and end rules, the same in all worlds."""
        return self.parts[0].rules

    @rules.setter
    def rules(self, rules: DreamRules) -> None:
        for part in self.parts:
            part.rules = rules

    def _joined(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Vector infos of all rows from those of the parts; 0 or None, and a mask, where a part lacks a key."""
        joined: dict[str, Any] = {}
        for name in dict.fromkeys(name for part_infos in infos for name in part_infos):
            values = [part_infos.get(name) for part_infos in infos]
            first = next(value for value in values if value is not None)
            if isinstance(first, dict):
                joined[name] = self._joined([value or {} for value in values])
                continue
            empty = None if first.dtype == object else first.dtype.type(0)
            joined[name] = np.concatenate(
                [
                    np.full(part.num_envs, empty, first.dtype) if value is None else value
                    for part, value in zip(self.parts, values, strict=True)
                ]
            )
        return joined


def divided(rows: int, worlds: int) -> list[int]:
    """How many rows each world gets: as equal as possible, the first ones get the rest."""
    if rows < worlds:
        raise ValueError(f"{worlds} worlds need at least as many rows, got {rows}: increase num_envs")
    return [rows // worlds + (number < rows % worlds) for number in range(worlds)]


def check_alike(home: WorldModel, other: WorldModel, obs: str, who: str, whom: str) -> None:
    """ValueError unless an agent can act in both worlds: equal tokenizers, actions and width of the observations.

    Not checked: features of separately trained dynamics have the same width but different meanings, whereas those of
    worlds of which one was trained from the other (`start_from`) have much in common.
    """
    if home is other:
        return
    check_actions(other.config.action.held, home.config.action.held, whom, who)
    ours, theirs = (_tokenizer_of(world) for world in (home, other))
    if ours.keys() != theirs.keys() or not all(_equal(ours[name], theirs[name]) for name in ours):
        raise ValueError(
            f"{whom} has another tokenizer than {who}, so that an agent's observations mean something else in it; mix "
            "worlds whose dynamics were trained on the codes of one tokenizer"
        )
    widths = home.config.dynamics.width, other.config.dynamics.width
    if obs == "features" and widths[0] != widths[1]:
        raise ValueError(
            f"the dynamics of {who} have width {widths[0]}, those of {whom} {widths[1]}: their features differ in "
            'size; mix worlds of one width, or use obs="latent"'
        )


def _tokenizer_of(world: WorldModel) -> dict[str, torch.Tensor]:
    """A tokenizer's weights and code vectors, without its running counts."""
    tokenizer = world.tokenizer
    return dict(tokenizer.named_parameters()) | tokenizer.code_vectors


def _equal(mine: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Whether both are equal up to the rounding of published weights."""
    mine, theirs = mine.cpu().float(), theirs.cpu().float()
    return mine.shape == theirs.shape and torch.allclose(mine, theirs, rtol=1e-2, atol=1e-3)

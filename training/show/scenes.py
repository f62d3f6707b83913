"""A game or a dream played step by step with every frame of a step, for `play` and `watch`.

Letters: T steps, F frames of a step, H W pixels, C channels.
"""

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.agents.blind.policies import FORMS, is_scripted, scripted_policy
from worldmodel.agents.policy import Policy
from worldmodel.agents.sb3.agent import Agent, check_fits, load_agent
from worldmodel.data import ActionSpec
from worldmodel.dynamics import DreamState
from worldmodel.envs.actions import check_actions, named_actions
from worldmodel.envs.dream.env import DreamEnv, world_of
from worldmodel.envs.ids import env_spec, is_dream, is_env_id
from worldmodel.envs.registry import load_model
from worldmodel.envs.wrappers import DreamView
from worldmodel.media.write import as_rgb
from worldmodel.model import WorldModel

_DEFAULT_FPS = 8.75  # steps per second if the env gives none; Doom's
_HANDED_OVER = 8  # last steps of a game from which a dream continues
KEPT = 256  # steps of an episode that can be looked at or returned to

Frames = NDArray[np.uint8]


class Shown(NamedTuple):
    """One step as it is shown."""

    frames: Frames  # (F, H, W, 3) RGB; at the beginning the first frame F times, or a dream's last context step
    step: int  # of the episode; 0 at its beginning
    reward: float
    total: float  # the episode's rewards so far
    native: float | None  # the same in the game's native reward; None if the env does not give it, as in dreams
    signals: dict[str, float]
    nll: float | None  # negative log-likelihood of the step in nats; dreams only
    ended: str  # "terminated", "truncated", or "" during the episode

    @property
    def ending(self) -> str:
        """How the episode ended, as pictures say it; "" during the episode."""
        return {"terminated": "ended", "truncated": "time up"}.get(self.ended, "")


class Kept(NamedTuple):
    """A step of a dream that can be returned to."""

    state: DreamState  # one row
    observation: np.ndarray
    shown: Shown
    action: Any  # taken after it


class Scene(ABC):
    """One env, played episode by episode: number i begins with seed + i, as in `worldmodel.agents.evaluate`.

    Args:
        env: closed by `close`.
        action: the actions, with names.
        signal_names: of the values in `info` that are shown.
        policy: reset and seeded for each episode; None: every action must be given.
        seed: of the first episode.
    """

    is_dream = False
    world: WorldModel | None = None  # of the dream, or the one through which a policy sees the game

    def __init__(
        self,
        env: gym.Env,
        action: ActionSpec,
        signal_names: tuple[str, ...] = (),
        policy: Policy | None = None,
        seed: int = 0,
    ) -> None:
        self.env, self.action, self.signal_names = env, action, signal_names
        self.fps = float(env.metadata.get("render_fps") or _DEFAULT_FPS)
        self.seed = seed - 1  # of the episode that is shown
        self.shown: Shown | None = None
        self.last_action: Any = None  # the one that led to the latest step
        self._past: deque[Any] = deque()  # latest steps of the episode
        self._policy = policy
        self._observation: np.ndarray = np.zeros(0)

    @property
    def has_policy(self) -> bool:
        return self._policy is not None

    def begin(self, options: Mapping[str, Any] | None = None) -> Shown:
        """The next episode; `options` are those of the env's reset."""
        self.seed += 1
        self._past.clear()
        self._observation, info = self.env.reset(seed=self.seed, options=None if options is None else dict(options))
        if self._policy is not None:
            self._policy.reset()
            self._policy.seed_rows([0], [self.seed])
        native = 0.0 if "native_reward" in info else None
        self.shown = Shown(self._frames(None, info), 0, 0.0, 0.0, native, self._signals(info), None, "")
        return self.shown

    def step(self, action: Any = None) -> Shown:
        """Take one step by the given action, or by the policy's.

        The policy sees every step, whoever acts, so that it can take over at any time.
        """
        before = self.shown
        if before is None or before.ended:
            raise ValueError("no episode is running: begin() one")
        chosen = None if self._policy is None else self._policy.act(self._observation[None])[0]
        if action is None and chosen is None:
            raise ValueError("this scene has no policy: give an action, or open it with one")
        taken = chosen if action is None else np.asarray(action, self.action.dtype)[()]
        self._observation, reward, terminated, truncated, info = self.env.step(taken)
        if self._policy is not None and action is not None:
            self._policy.acted(np.asarray(taken)[None])
        self.last_action, frames = taken, self._frames(taken, info)
        native = None if before.native is None else before.native + float(info["native_reward"])
        ended = "terminated" if terminated else "truncated" if truncated else ""
        step, total, nll = before.step + 1, before.total + float(reward), info.get("nll")
        self.shown = Shown(frames, step, float(reward), total, native, self._signals(info), nll, ended)
        return self.shown

    def close(self) -> None:
        self.env.close()

    @abstractmethod
    def _frames(self, action: Any, info: Mapping[str, Any]) -> Frames:
        """All frames (F, H, W, 3) of the latest step, to which the action led; None at an episode's beginning."""

    def _signals(self, info: Mapping[str, Any]) -> dict[str, float]:
        if missing := [name for name in self.signal_names if name not in info]:
            raise ValueError(
                f"a step needs info[{missing[0]!r}], as VideoGenReal-… envs give it; this one has {', '.join(info)}"
            )
        return {name: float(info[name]) for name in self.signal_names}


class GameScene(Scene):
    """A real game whose `info` has the frames of each step, as in `VideoGenReal-…` envs.

    Args:
        view: (model, obs) through which the policy sees the game; None: it sees the game's own observations.
    """

    def __init__(
        self,
        env: gym.Env,
        action: ActionSpec,
        policy: Policy | None = None,
        view: tuple[WorldModel, str] | None = None,
        seed: int = 0,
    ) -> None:
        signal_names = getattr(env.unwrapped, "signal_names", ())
        super().__init__(env if view is None else DreamView(env, *view), action, signal_names, policy, seed)
        self.world = None if view is None else view[0]
        # Of each step the action that led to it, its frames and its signals.
        self._past: deque[tuple[Any, Frames, dict[str, float]]] = deque(maxlen=KEPT + _HANDED_OVER)

    def recent(self, back: int = 0) -> dict[str, Any]:
        """The steps up to the one `back` steps ago, as the reset options of a dream that continues from there."""
        if not 0 <= back < len(self._past):
            raise ValueError(f"back must be in [0, {len(self._past)}), the steps that are kept, got {back}")
        past = list(self._past)[: len(self._past) - back][-_HANDED_OVER:]
        actions = [action for action, _, _ in past][1:]
        return {
            "frames": np.stack([frames for _, frames, _ in past]),
            "actions": np.array(actions, self.action.dtype).reshape(len(actions), *self.action.shape),
            "signals": past[-1][2],
        }

    def last_step(self) -> tuple[Any, Frames]:
        """The action that led to the current step, and the step's frames as the game gave them, (F, H, W, C)."""
        action, frames, _ = self._past[-1]
        return action, frames

    def _frames(self, action: Any, info: Mapping[str, Any]) -> Frames:
        if "frames" not in info:
            raise ValueError(
                'a game is shown by the frames of its steps, in info["frames"] (F, H, W, C) uint8, as VideoGenReal-… '
                f"envs give them; this env's info holds {', '.join(info) or 'nothing'}. Wrap a game that shows images "
                "in worldmodel.envs.PixelGame (docs/own-game.md)"
            )
        frames = np.array(info["frames"])  # a copy, since a game may fill the same array at every step
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] not in (1, 3):
            raise ValueError(
                f'info["frames"] must be (F, H, W, 1 or 3) uint8 in [0, 255], got {frames.shape} {frames.dtype}; '
                "PixelGame converts what an env shows (docs/own-game.md)"
            )
        self._past.append((action, frames, self._signals(info)))
        return as_rgb(frames)


class DreamScene(Scene):
    """A dream whose steps can be undone; `begin(game.recent())` continues a game as a dream."""

    is_dream = True

    def __init__(self, dream: DreamEnv, policy: Policy | None = None, seed: int = 0) -> None:
        config = dream.model.config
        super().__init__(dream, config.action.held, config.signal_names, policy, seed)
        self.dream, self.world = dream, dream.model
        self._past: deque[Kept] = deque(maxlen=KEPT)  # the steps before this one

    @property
    def temperature(self) -> float:
        """Temperature of later steps."""
        return self.dream.rules.temperature

    @temperature.setter
    def temperature(self, temperature: float) -> None:
        self.dream.rules = replace(self.dream.rules, temperature=temperature)

    def step(self, action: Any = None) -> Shown:
        if self.shown is None or self.shown.ended:
            return super().step(action)  # raises the error
        before = self.dream.state, self._observation, self.shown
        shown = super().step(action)
        self._past.append(Kept(*before, self.last_action))
        return shown

    def take_back(self, steps: int) -> Shown:
        """Undo up to `steps` steps. Equal actions will then lead to the same steps again."""
        if self.shown is None:
            raise ValueError("no dream is running: begin() one")
        for _ in range(min(steps, len(self._past))):
            state, self._observation, self.shown, _ = self._past.pop()
            self.dream.state = state
        self._remind()
        return self.shown

    def resume(self, past: Sequence[Kept], state: DreamState, observation: np.ndarray, shown: Shown) -> None:
        """Resume from a step that was dreamt elsewhere; `past` are the steps before it, from the current one on."""
        self.dream.state = state
        self._past.extend(past)
        self._observation, self.shown = observation, shown
        self._remind()

    def now(self) -> tuple[DreamState, np.ndarray, Shown]:
        """A copy of the current step: state, observation, and what is shown."""
        if self.shown is None:
            raise ValueError("no dream is running: begin() one")
        return self.dream.state, self._observation, self.shown

    def _remind(self) -> None:
        """Show the policy the last steps again."""
        if self._policy is not None:
            self._policy.reset()
            for kept in list(self._past)[-_HANDED_OVER:]:
                self._policy.act(kept.observation[None])
                self._policy.acted(np.asarray(kept.action)[None])

    @torch.inference_mode()
    def _frames(self, action: Any, info: Mapping[str, Any]) -> Frames:
        codes = self.dream.state.codes
        return as_rgb(self.dream.model.tokenizer.decode(codes[:, None])[0, 0].cpu().numpy())


def open_scene(
    name: str,
    player: str | os.PathLike = "",
    *,
    world: str | os.PathLike | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    device: str = "auto",
) -> Scene:
    """The scene of a game or a dream.

    Args:
        name: id of a real game or of a dream; or the world model to dream with: a run folder, a checkpoint folder, a
            shipped name or a hub id.
        player: the name of a scripted policy (`worldmodel.agents.blind`), the folder of a saved agent, or "" for none.
        world: the world model to dream with instead of the one shipped for an id; in a real game, the one through
            which the agent sees, if it has moved since the agent's training.
        temperature: of a dream.
        seed: of the first episode.
    """
    agent = None if not str(player) or is_scripted(str(player)) else _saved_agent(player)
    if is_env_id(name) and not is_dream(name):
        if agent is None and world is not None:
            raise ValueError(f"{name} is a real game, and no player sees it through a world: leave out {world}")
        view = None if agent is None else agent.view(world)
        seen = None if view is None else (load_model(view[0], device), view[1])
        if agent is not None and seen is not None:
            check_fits(agent, str(player), seen[0])
        env = gym.make(name)
        action = named_actions(env)
        if agent is not None:
            try:
                check_actions(agent.action_spec, action, f"the agent {player}", name)
            except ValueError:
                env.close()
                raise
        return GameScene(env, action, agent or _scripted(player, action), seen, seed)
    if world is not None and not is_env_id(name) and str(world) != name:
        raise ValueError(f"got two worlds to dream with, {name} and {world}: leave one out")
    model = load_model(world_of(name) if world is None else world, device)
    if agent is not None:
        check_fits(agent, str(player), model)
    registered = env_spec(name).kwargs if is_env_id(name) else {}  # e.g. the horizon of a dream that a user registered
    asked = {"model": model, "obs": "codes" if agent is None else agent.obs, "temperature": temperature}
    dream = DreamEnv(**registered | asked)
    return DreamScene(dream, agent or _scripted(player, model.config.action.held), seed)


def _saved_agent(player: str | os.PathLike) -> Agent:
    if not Path(player).is_dir():
        raise ValueError(f"a player is a blind policy ({FORMS}) or the folder of a saved agent, got {str(player)!r}")
    return load_agent(player)


def _scripted(player: str | os.PathLike, action: ActionSpec) -> Policy | None:
    return scripted_policy(str(player), action) if str(player) else None

"""Starts of dreams taken from the real game: the first step of its episodes, or a step in the middle of one.

Half of the starts in a checkpoint (in older ones all) come from the middle of recorded episodes. A dream from there is
a different task from a whole episode of the game, and their returns cannot be compared.

Letters: K episodes, T context steps, F frames of a step, H W C pixels, G signals.
"""

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from worldmodel.agents.blind.policies import scripted_policy
from worldmodel.data import ActionSpec
from worldmodel.envs.ids import is_dream
from worldmodel.envs.registry import other_speed
from worldmodel.evaluation.scores import CHUNK
from worldmodel.model import WorldModel
from worldmodel.model.batches import Starts
from worldmodel.progress import stepwise

_TRIES = 50  # seeds to find an episode that is long enough


class Contexts(NamedTuple):
    """K starts as the game showed them, for worlds of other projects."""

    frames: np.ndarray  # (K, T, F, H, W, C) uint8
    actions: np.ndarray  # (K, T - 1) int64 or (K, T - 1, A) float32, those between the steps
    action: ActionSpec


class Openings(NamedTuple):
    """K states of the game, and the same as starts of dreams."""

    starts: Starts | Contexts
    seeds: list[int]  # state i comes from a reset with seeds[i] …
    leads: list[np.ndarray]  # … and these actions, as a policy returns them; none: it is the first step

    @property
    def elapsed(self) -> np.ndarray:
        """Steps of the game before each state, (K,)."""
        return np.array([len(lead) for lead in self.leads])


@contextmanager
def open_game(wm: WorldModel, env_id: str) -> Iterator[gym.Env]:
    """Open the real game after checking that it has the dream's actions and unit of reward.

    Warns if its steps are longer or shorter than those the model learned from.
    """
    with open_real(env_id) as env:
        if env.action_space != wm.config.action.held.to_gym():
            raise ValueError(
                f"the dream's actions are {wm.config.action.held.to_gym()}, those of {env_id} are {env.action_space}; "
                f"compare it with the game it was learned from{_home(wm)}"
            )
        unit = getattr(env.unwrapped, "reward_kind", wm.config.reward)
        if unit != wm.config.reward:
            raise ValueError(
                f"the dream's rewards are of the kind {wm.config.reward!r}, those of {env_id} are {unit!r}, and their "
                f"sums do not compare; give the game it was learned from{_home(wm)}"
            )
        if differs := other_speed(wm.config, env.metadata):
            warnings.warn(differs, stacklevel=4)  # no error: some games state the speed at which to show them
        yield env


@contextmanager
def open_real(env_id: str) -> Iterator[gym.Env]:
    """Open a real game, and close it at the end; ValueError for a dream."""
    if is_dream(env_id):
        raise ValueError(f"{env_id} is a dream; give the real game to compare with, such as VideoGenReal-Doom")
    with closing(gym.make(env_id)) as env:
        yield env


def _home(wm: WorldModel) -> str:
    return f", {wm.config.env_id}" if wm.config.env_id else ""


def first_steps(wm: WorldModel, env: gym.Env, count: int, seed: int) -> Openings:
    """The first step of the episodes with seeds seed, seed + 1, …, of a game from `open_game`."""
    if wm.config.dynamics.frame_condition > 1:
        raise ValueError(
            f"this model needs {wm.config.dynamics.frame_condition} first steps, and the game shows one before the "
            'first action; begin with recorded play instead (starts="recorded", --starts recorded)'
        )
    seeds = [seed + i for i in range(count)]
    shown = _first(Wanted.of(wm), env, seeds)
    spec = wm.config.action.held
    nothing = np.zeros((0, *spec.shape), spec.dtype)
    return Openings(_encoded(wm, shown, [nothing] * count), seeds, [nothing] * count)


def mid_play(
    wm: WorldModel, env: gym.Env, count: int, seed: int, given: int, lead: str, most_steps: int = 200
) -> Openings:
    """States in the middle of episodes that a scripted policy plays; all steps of an episode are equally likely.

    Args:
        env: from `open_game`; must repeat itself after a reset with the same seed. State i is from the episode with
            seed + i.
        given: T, context steps of a dream; the last one is the state.
        lead: name of the policy (`scripted_policy`).
        most_steps: actions before a state.
    """
    seeds = [seed + i for i in range(count)]
    shown, between, leads = _mid(Wanted.of(wm), env, seeds, given, lead, most_steps)
    return Openings(_encoded(wm, shown, between), seeds, leads)


def plain_openings(
    wanted: "Wanted", env: gym.Env, count: int, seed: int, given: int, lead: str | None = None, most_steps: int = 200
) -> Openings:
    """As `first_steps`, or `mid_play` if there is a `lead`, with starts as the game showed them."""
    seeds = [seed + i for i in range(count)]
    if lead is None:
        shown, nothing = _first(wanted, env, seeds), np.zeros((0, *wanted.action.shape), wanted.action.dtype)
        between = leads = [nothing] * count
    else:
        shown, between, leads = _mid(wanted, env, seeds, given, lead, most_steps)
    frames = np.stack([[step.frames for step in context] for context in shown])
    return Openings(Contexts(frames, np.stack(between), wanted.action), seeds, leads)


def recorded_starts(wm: WorldModel, count: int, seed: int) -> Openings:
    """Starts recorded in the checkpoint, beside the first steps of the game's episodes, which are other states."""
    if wm.starts is None:
        raise ValueError("this model has no recorded starts; begin as the game does (--starts game)")
    chosen = torch.from_numpy(np.random.default_rng(seed).choice(len(wm.starts.codes), count))
    spec = wm.config.action.held
    codes, actions, signals = wm.starts[:3]
    starts = Starts(codes[chosen], actions[chosen], signals[chosen])
    return Openings(starts, [seed + i for i in range(count)], [np.zeros((0, *spec.shape), spec.dtype)] * count)


class Wanted(NamedTuple):
    """What starts are made of."""

    action: ActionSpec
    signal_names: tuple[str, ...] = ()
    frame_shape: tuple[int, ...] | None = None  # (F, H, W, C); None: whatever the game shows

    @classmethod
    def of(cls, wm: WorldModel) -> "Wanted":
        """For dreams of this model."""
        shape = (wm.frames_per_step, wm.height, wm.width, wm.config.tokenizer.channels)
        return cls(wm.config.action.held, wm.config.signal_names, shape)


class _Shown(NamedTuple):
    """One step as the game showed it."""

    frames: np.ndarray  # (F, H, W, C) uint8
    signals: list[float]  # G

    @classmethod
    def of(cls, wanted: Wanted, info: dict[str, Any]) -> "_Shown":
        names, shape = wanted.signal_names, wanted.frame_shape
        for name in ("frames", *names):
            if name not in info:
                raise ValueError(
                    f"a start needs info[{name!r}], as VideoGenReal-… envs give it; this one has {', '.join(info)}"
                )
        if shape is not None and info["frames"].shape != shape:
            raise ValueError(f"the dream has frames {shape} (F, H, W, C), the game shows {info['frames'].shape}")
        return cls(info["frames"].copy(), [float(info[name]) for name in names])


def _first(wanted: Wanted, env: gym.Env, seeds: Sequence[int]) -> list[list[_Shown]]:
    return [[_Shown.of(wanted, env.reset(seed=each)[1])] for each in stepwise(seeds, "episode", "first steps")]


def _mid(
    wanted: Wanted, env: gym.Env, seeds: Sequence[int], given: int, lead: str, most_steps: int
) -> tuple[list[list[_Shown]], list[np.ndarray], list[np.ndarray]]:
    """Contexts of `given` steps, the actions between these, and all actions before the last one."""
    numbers = stepwise(seeds, "episode", "middle of episodes")
    found = [_middle(wanted, env, each, given, lead, most_steps) for each in numbers]
    shown, leads = [context for context, _ in found], [actions for _, actions in found]
    _check_repeats(wanted, env, seeds[0], leads[0], shown[0][-1])
    return shown, [actions[len(actions) - (given - 1) :] for actions in leads], leads


def _middle(
    wanted: Wanted, env: gym.Env, seed: int, given: int, lead: str, most_steps: int
) -> tuple[list[_Shown], np.ndarray]:
    """One state: the context steps that end with it, and all actions before it."""
    spec = wanted.action
    least = max(given - 1, 1)
    for attempt in range(_TRIES):
        rng = np.random.default_rng((seed, attempt))
        policy = scripted_policy(lead, spec, seed=int(rng.integers(2**31)))
        observation, info = env.reset(seed=seed)
        recent = deque([_Shown.of(wanted, info)], maxlen=given)
        actions: list[np.ndarray] = []
        chosen: tuple[list[_Shown], int] | None = None
        over = False
        while not over and len(actions) < most_steps:
            actions.append(policy.act(np.asarray(observation)[None])[0])
            observation, _, terminated, truncated, info = env.step(actions[-1])
            over = terminated or truncated
            recent.append(_Shown.of(wanted, info))
            # Reservoir sampling: the n-th candidate replaces the chosen one with probability 1/n.
            if not over and len(actions) >= least and rng.random() * (len(actions) - least + 1) < 1.0:
                chosen = list(recent), len(actions)
        if chosen is not None:
            return chosen[0], np.array(actions[: chosen[1]], spec.dtype)
    raise ValueError(
        f"no episode of {lead} play lasted longer than the {given} steps that a dream is given: ask for fewer "
        "(--context-steps, or context_steps of another project's world), or leave out the middle of play "
        "(--no-mid-play)"
    )


def _check_repeats(wanted: Wanted, env: gym.Env, seed: int, lead: np.ndarray, last: _Shown) -> None:
    """Raise ValueError if the same seed and actions lead to another step."""
    env.reset(seed=seed)
    info: dict[str, Any] = {}
    for action in lead:
        *_, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            break
    again = _Shown.of(wanted, info)
    if not np.array_equal(again.frames, last.frames) or again.signals != last.signals:
        raise ValueError(
            "after a reset with the same seed and the same actions the game shows something else, so a policy cannot "
            "continue where a dream begins; leave out the middle of play (--no-mid-play)"
        )


@torch.inference_mode()
def _encoded(wm: WorldModel, shown: Sequence[Sequence[_Shown]], between: Sequence[np.ndarray]) -> Starts:
    """K contexts of T steps, and the T - 1 actions within each, as starts."""
    frames = torch.from_numpy(np.stack([[step.frames for step in context] for context in shown]))
    codes = torch.cat([wm.tokenizer.encode(part.to(wm.device)).cpu() for part in frames.split(CHUNK)])
    actions: Tensor = wm.config.action.hold(torch.from_numpy(np.stack(between)))
    signals = torch.tensor([[step.signals for step in context] for context in shown], dtype=torch.float32)
    return Starts(codes, actions, signals.view(*codes.shape[:2], len(wm.config.signal_names)))

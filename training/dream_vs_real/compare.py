"""How far a dream can be trusted: the same policies in the dream and in the real game, and the dream's own predictions.

Letters: H steps of the horizon.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from worldmodel.data import EpisodeStorage
from worldmodel.evaluation.evaluate_model import ModelEvaluation, evaluate_model
from worldmodel.evaluation.held_out import check_measurable
from worldmodel.evaluation.inverse_dynamics import InverseDynamicsConfig
from worldmodel.evaluation.open_loop import check_long_enough, given_steps
from worldmodel.evaluation.rank_correlation import correlation, rank_violation
from worldmodel.evaluation.survival import survival_curve, survival_gap
from worldmodel.layers.defaults import own_defaults
from worldmodel.model import WorldModel
from worldmodel.model.checks import check_dreams
from worldmodel.settings import AtLeastTwo, PositiveInt, Temperature, checked_dataclass
from worldmodel.statistics import difference_with_interval, mean_with_interval
from worldmodel.training.dream_vs_real.game_starts import Openings, first_steps, mid_play, open_game, recorded_starts
from worldmodel.training.dream_vs_real.paired_play import Match, RealPlay, Trace, play_both
from worldmodel.training.dream_vs_real.policies import Player, make_players
from worldmodel.training.dream_vs_real.trust import Side, trust_section

NEEDS_DATA = {"absent": "no recorded play was given (--data STORE)"}
_MARGIN = 0.05  # above the score without looking, from which on a network has learned to recognise real actions


@checked_dataclass
class DreamReport:
    """Which policies play, from which starts, and what else is measured."""

    epsilons: tuple[float, ...] = (0.25, 0.5)  # shares of random actions with which agents and sticky play also play
    policies: tuple[str, ...] = ()  # blind ones beside sticky and random play; none: a family for the game's actions
    starts: Literal["game", "recorded"] = "game"  # dreams begin as the game does, or in the middle of recorded play
    mid_play: bool = True  # also play from the middle of episodes, in the game and in the dream
    lead: str = "diverse"  # blind policy that leads to the middle of episodes
    lead_steps: PositiveInt = 200  # steps of the lead
    temperature: Temperature = 1.0  # temperature of the dreams
    split: str = "test"  # split of the store; the inverse dynamics are trained on its train split
    samples: AtLeastTwo = 64  # dreams with recorded actions, for control and drift
    context_steps: PositiveInt = 8  # real steps of context of these dreams, and of dreams from the middle of episodes
    drift_steps: PositiveInt = 32  # dreamt steps of these
    max_segments: AtLeastTwo = 512  # segments for the calibration
    inverse_dynamics: InverseDynamicsConfig = field(default_factory=InverseDynamicsConfig)


@own_defaults
def dream_report(
    wm: WorldModel,
    env_id: str,
    agents: Sequence[str | os.PathLike] = (),
    store: EpisodeStorage | None = None,
    *,
    episodes: int = 20,
    horizon: int = 300,
    seed: int = 10_000,
    config: DreamReport | None = None,
) -> dict[str, Any]:
    """Play agents, sticky and random play and blind policies in the dream and in the real game, and compare.

    Args:
        wm: the dream, prepared (`from_pretrained`, or `wm.prepare()`).
        env_id: of the real game.
        agents: folders of saved agents.
        store: recorded play of the game; without it the sections "reward", "termination", "control" and "drift" are
            absent.
        episodes: of each policy, in the dream and in the game; at least 2.
        horizon: H; dreams are cut there, or where the game's own time is up, and real returns are summed up to there.
        seed: episode i is reset with seed + i.

    Returns: the sections "settings", "trust", "policies" (one entry for each), "agreement", "reward", "termination",
    "control" and "drift"; one that cannot be measured is {"absent": why}.
    """
    config = config or DreamReport()
    if episodes < 2 or horizon < 1:
        raise ValueError(f"a report needs at least 2 episodes and a horizon of 1 step, got {episodes} and {horizon}")
    check_dreams(wm)
    if store is not None:
        check_measurable(wm, store)
        check_long_enough(store, config.split, given_steps(wm, config.context_steps), config.drift_steps, "drift_steps")
    players = make_players(wm, agents, config.epsilons, config.policies)
    with open_game(wm, env_id) as env:
        openings = _openings(wm, env, episodes, seed, config)
    recorded = _recorded(wm, store, config, seed)  # before the long part, since most errors show here
    options: dict[str, Any] = {"horizon": horizon, "seed": seed, "temperature": config.temperature}
    matches = play_both(wm, env_id, players, openings, **options, whole=("first", "recorded"))
    match = matches["first" if config.starts == "game" else "recorded"]
    settings = {
        "env_id": env_id,
        "learned_from": wm.config.env_id,
        "reward_unit": wm.config.reward,
        "episodes": episodes,
        "seed": seed,
        "data": None if store is None else store.folders,
    } | asdict(config)
    trust = _trust([player.name for player in players], matches, seed)
    return {"settings": {}, "trust": trust} | side_by_side(players, match, horizon, settings) | recorded


def side_by_side(players: Sequence[Player], match: Match, horizon: int, settings: dict[str, Any]) -> dict[str, Any]:
    """The sections "settings", with what the match adds to them, "policies" and "agreement"."""
    steps = min(horizon, match.clock or horizon)
    policies = [
        {"policy": player.name, "sees": player.sees} | compare(dream, real, steps)
        for player, dream, real in zip(players, match.dream, match.real, strict=True)
    ]
    return {
        "settings": settings | {"horizon": steps, "clock": match.clock},
        "policies": policies,
        "agreement": agreement(policies, settings["seed"]),
    }


def _openings(wm: WorldModel, env: gym.Env, episodes: int, seed: int, config: DreamReport) -> dict[str, Openings]:
    """Where episodes begin in both worlds, by the kind of start."""
    if config.starts == "game":
        openings = {"first": first_steps(wm, env, episodes, seed)}
    else:
        openings = {"recorded": recorded_starts(wm, episodes, seed)}
    if config.mid_play:
        given = given_steps(wm, config.context_steps)
        openings["mid"] = mid_play(wm, env, episodes, seed, given, config.lead, config.lead_steps)
    return openings


def _trust(names: Sequence[str], matches: Mapping[str, Match], seed: int) -> dict[str, Any]:
    """The section "trust", for starts that are the same in both worlds."""
    alike = {kind: match for kind, match in matches.items() if kind != "recorded"}
    if not alike:
        return {"absent": "dreams began in the middle of recorded play, and the game with its first frames"}
    return trust_section(names, alike, seed)


# --- returns ---------------------------------------------------------------------------------------------------------


def compare(dream: Trace, real: RealPlay, horizon: int) -> dict[str, Any]:
    """A policy's episodes in the dream and in the game, over the first `horizon` steps; and its whole real episodes."""
    sides = {"dream": _side(dream, horizon), "real": _side(real.trace, horizon)}
    whole, whole_half_width = mean_with_interval(real.returns)
    difference, half_width = difference_with_interval(sides["dream"]["returns"], sides["real"]["returns"])
    curves = [np.array(side["survival"]) for side in sides.values()]
    return sides | {
        "difference": {"mean": difference, "half_width": half_width},
        "survival_gap": survival_gap(*curves),
        "whole": {
            "mean": whole,
            "half_width": whole_half_width,
            "mean_steps": float(real.trace.lengths.mean()),
            "returns": real.returns.tolist(),
        },
    }


def _side(trace: Trace, horizon: int) -> dict[str, Any]:
    """Returns, pace and survival over the first `horizon` steps of each episode."""
    lengths = trace.lengths
    steps, all_returns, ended = Side.of(trace, np.full(len(lengths), horizon))
    returns = all_returns.tolist()
    mean, half_width = mean_with_interval(returns)
    return {
        "mean": mean,
        "half_width": half_width,
        "reward_per_step": sum(returns) / int(steps.sum()),
        "mean_steps": float(steps.mean()),
        "cut_early": int((~ended & (lengths < horizon)).sum()),  # by the clock of the game
        "survival": survival_curve(steps, ended, horizon).tolist(),
        "returns": returns,
        "steps": steps.tolist(),
    }


def agreement(policies: Sequence[dict[str, Any]], seed: int = 0) -> dict[str, Any]:
    """Whether the dream ranks the policies as the game does, by return and by steps; the cost of trusting it."""
    dream, real, whole = (np.array([row[name]["mean"] for row in policies]) for name in ("dream", "real", "whole"))
    dreamt_steps, real_steps = (np.array([row[name]["mean_steps"] for row in policies]) for name in ("dream", "real"))
    best = int(dream.argmax())
    pairs = {"real": (dream, real), "whole": (dream, whole), "steps": (dreamt_steps, real_steps)}
    return {
        name: {kind: correlation(kind, *pair, seed) for kind in ("spearman", "pearson")} for name, pair in pairs.items()
    } | {
        "mean_gap": float((dream - real).mean()),
        "rank_violation": rank_violation(dream, real),
        "picked": policies[best]["policy"],
        "picked_real": float(real[best]),
        "best": policies[int(real.argmax())]["policy"],
        "best_real": float(real.max()),
    }


# --- recorded play ---------------------------------------------------------------------------------------------------


def _recorded(wm: WorldModel, store: EpisodeStorage | None, config: DreamReport, seed: int) -> dict[str, Any]:
    """The sections that need recorded play: those of `evaluate_model`, and control without doubtful ratios."""
    if store is None:
        return dict.fromkeys(("reward", "termination", "control", "drift"), NEEDS_DATA)
    measuring = ModelEvaluation(
        split=config.split,
        samples=config.samples,
        context_steps=config.context_steps,
        horizon=config.drift_steps,
        temperature=config.temperature,
        max_segments=config.max_segments,
        inverse_dynamics=config.inverse_dynamics,
        seed=seed,
    )
    found = evaluate_model(wm, store, measuring, sections=("reward", "termination", "control", "open_loop"))
    found["drift"] = found.pop("open_loop") | {
        "dreams": config.samples,
        "context_steps": given_steps(wm, config.context_steps),
    }
    control = found["control"]
    if "absent" not in control:
        control["reliable"] = control["real"] >= control["blind"] + _MARGIN
        control |= {} if control["reliable"] else dict.fromkeys(("dream_over_real", "error_over_real"))
    return found

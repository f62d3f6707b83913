"""`videogen-dream evaluate PLAYER --env ID`: an agent or a blind policy in a game or a dream, beside random play.

PLAYER "blind" is the best blind policy that a search finds, evaluated on other episodes than those of the search.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.agents.blind.policies import is_scripted, scripted_policy
from worldmodel.agents.blind.search import SEED, BlindSearch, search_blind
from worldmodel.agents.evaluate import compare_with_random, evaluate
from worldmodel.agents.sb3.agent import Agent, check_fits, load_agent
from worldmodel.checkpoint import shipped
from worldmodel.envs.dream.env import world_of
from worldmodel.envs.ids import is_dream
from worldmodel.envs.registry import load_model
from worldmodel.files import check_output, write_json

BLIND = "blind"  # the player that a search finds
_EPISODES, _BLIND_EPISODES, _SEARCH_EPISODES = 30, 100, 40  # defaults


def check_plays_one(agents: Sequence[Path], report_only: Mapping[str, Any], others_untouched: bool) -> None:
    """ValueError if `evaluate --env` is given options that only a report on a dream uses."""
    for name, given in report_only.items():
        if given is not None:
            raise ValueError(
                f"--{name} is for a report on a dream, --env for playing one agent: leave out --{name}, or give "
                "--dream and --real without --env"
            )
    if not others_untouched:
        raise ValueError(
            "with --env only --episodes, --search-episodes, --horizon, --seed, --world, --deterministic and --out are "
            "used; leave out others"
        )
    if len(agents) != 1:
        raise ValueError(f"--env plays one agent, got {len(agents)}; to compare several give --dream and --real")


def play_one(
    player: Path,
    env: str,
    episodes: int | None,
    horizon: int | None,
    seed: int,
    world: str | None,
    out: Path | None,
    deterministic: bool,
    search_episodes: int | None = None,
) -> None:
    """Play, write the return of every episode to `out`, and print the means; arguments as of the command."""
    if env in shipped() or Path(env).is_dir():
        raise ValueError(
            f"{env} is a world, --env takes the id of a game or a dream: --env VideoGenDream-… --world {env}"
        )
    name = str(player)
    scripted = name if is_scripted(name) or name == BLIND else ""
    if scripted and deterministic:
        raise ValueError(f"--deterministic is for agents, {scripted} play samples its actions: leave it out")
    if search_episodes is not None and name != BLIND:
        raise ValueError(f"--search-episodes is for evaluate {BLIND}, which searches for a policy; {name} is one")
    if episodes is None:
        episodes = _BLIND_EPISODES if name == BLIND else _EPISODES
    if out is not None:
        check_output(out)
    agent = None if scripted else load_agent(player)
    options = _options(agent, name, env, horizon, world)
    search = _search(env, search_episodes, seed, episodes, options) if name == BLIND else None
    policy = partial(scripted_policy, scripted if search is None else search.best) if agent is None else agent
    if scripted == "random":
        played = {"random": evaluate(policy, env, episodes, seed, **options)}
    else:
        result = compare_with_random(policy, env, episodes, seed, deterministic=deterministic, **options)
        played = {scripted or "agent": result.agent, "random": result.random}
    if out is not None:
        found = {} if search is None else {"policy": search.best, "search": asdict(search)}
        write_json(out, found | {who: asdict(evaluation) for who, evaluation in played.items()})
    if world is not None and is_dream(env):
        print(f"world:  {world}")
    if search is not None:
        print(f"policy: {search.best}, the best of {len(search.tried)} in {search.episodes:,} other episodes")
    for who, evaluation in played.items():
        print(f"{who + ':':7} {evaluation}")
    if len(played) > 1:
        gain, half_width = result.gain
        print(f"gain:   {gain:.1f}" + (f" ± {half_width:.1f}" if np.isfinite(half_width) else ""))


def _search(env: str, search_episodes: int | None, seed: int, episodes: int, options: Mapping[str, Any]) -> BlindSearch:
    if search_episodes is None:
        search_episodes = _SEARCH_EPISODES
    if seed < SEED + search_episodes and seed + episodes > SEED:
        raise ValueError(
            f"the search plays the episodes from seed {SEED} on, and its winner is evaluated on others: give another "
            f"--seed, got {seed}"
        )
    return search_blind(env, search_episodes, **options)


def _options(agent: Agent | None, name: str, env: str, horizon: int | None, world: str | None) -> dict[str, Any]:
    """The options of `evaluate` for this player in this game or dream."""
    if is_dream(env):
        if horizon is None:
            raise ValueError("a dream may never end: give --horizon, e.g. --horizon 200")
        dream = load_model(world_of(env) if world is None else world)
        if agent is None:  # blind: codes need no decoding
            return {"obs": "codes", "horizon": horizon, "model": dream}
        check_fits(agent, name, dream)
        return {"obs": agent.obs, "horizon": horizon, "model": dream}
    if horizon is not None:
        raise ValueError(f"--horizon is for dreams; episodes of {env} end by themselves")
    if agent is None:
        if world is not None:
            raise ValueError(f"{env} is a real game, and no player sees it through a world: leave out --world {world}")
        return {}
    view = agent.view(world)
    if view is not None and world is not None:
        seen = load_model(view[0])
        check_fits(agent, name, seen)
        view = seen, view[1]
    return {"view": view}


__all__ = ["BLIND", "check_plays_one", "play_one"]

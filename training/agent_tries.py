"""Train several agents briefly in a dream, and choose the one that does best there."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from gymnasium.vector import VectorEnv

from worldmodel.agents.sb3.config import AgentConfig, AgentMeta
from worldmodel.agents.sb3.train import TRIES, is_trained, train_ppo
from worldmodel.files import write_json

_JUDGED_SHARE = 0.2  # the last share of a try's updates, over which its return is averaged


@dataclass(frozen=True)
class Try:
    """A briefly trained agent, and its return in the dream at the end."""

    seed: int
    folder: Path
    dreamt_return: float  # mean of the dreams that ended in the last fifth of its updates


def try_seeds(seed: int, count: int) -> list[int]:
    """Seeds of the tries of an agent: far from each other and from other agents', whose rows begin with the next ones.

    Row i of an agent's dreams is seeded with its seed + i.
    """
    return [int(draw) for draw in np.random.SeedSequence((seed, count)).generate_state(count) % 2**31]


def best_try(
    dreams: Callable[[], VectorEnv],
    config: AgentConfig,
    count: int,
    out: Path,
    meta: AgentMeta,
    about: dict,
    start_from: str | Path | None,
) -> Try:
    """Train `count` agents for `config.steps` env steps in OUT/tries; the one with the highest dreamt return.

    Finished tries are kept and an interrupted one is resumed. OUT/tries/tries.json lists them all.

    Args:
        dreams: makes the envs of a try, which are closed here.
        about: further settings that decide the tries, stored with each.
    """
    tries = []
    for index, seed in enumerate(try_seeds(config.seed, count)):
        folder = out / TRIES / f"{index}"
        own = replace(config, seed=seed)
        if not is_trained(folder, own, meta, about):
            envs = dreams()
            try:
                train_ppo(envs, own, folder, meta, about=about, start_from=start_from)
            finally:
                envs.close()
        tries.append(Try(seed, folder, _dreamt_return(folder / "metrics.jsonl")))
    best = max(tries, key=lambda one: one.dreamt_return)
    listed = [{"seed": one.seed, "dreamt_return": one.dreamt_return, "best": one is best} for one in tries]
    write_json(out / TRIES / "tries.json", {"steps": config.steps, "tries": listed})
    returns = ", ".join(f"{one.dreamt_return:.2f}" for one in tries)
    print(f"agent: try {tries.index(best) + 1} of {count} continues; mean returns in the dream: {returns}")
    return best


def _dreamt_return(metrics: Path) -> float:
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    updates = [line for line in lines if "time/total_timesteps" in line]
    last = updates[-max(1, round(_JUDGED_SHARE * len(updates))) :]
    returns = [line["rollout/ep_rew_mean"] for line in last if "rollout/ep_rew_mean" in line]
    if not returns:
        raise ValueError(
            f"no dream ended in the last updates of {metrics.parent}, so tries cannot be compared: wanted a horizon "
            "below the steps of a try, or longer tries (try_steps)"
        )
    return float(np.mean(returns))

"""Iterated imagination: record play, train the world model, train an agent in its dream, record play of it, repeat.

Round 0 records diverse blind play, which trains the models of all rounds. Every other round records play of the agent
of the round before, and more blind play beside it: where that agent never goes, the dream would otherwise have errors
that the next agent exploits.
"""

import math
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from worldmodel.agents.blind.known import best_blind
from worldmodel.agents.evaluate import evaluate
from worldmodel.agents.sb3.agent import load_agent
from worldmodel.agents.scripted import RandomPolicy
from worldmodel.data import EpisodeStorage, JoinedStorage
from worldmodel.files import write_json
from worldmodel.training.pipeline.config import Iteration
from worldmodel.training.pipeline.loop_report import (
    BLIND_FILE,
    FACTS,
    facts_of,
    returns_of,
    round_label,
    write_rounds,
)
from worldmodel.training.pipeline.round import JUDGED_FROM, Play, Round, play_best_blind, run_round
from worldmodel.training.pipeline.stages import Stages, check_begins, staged

AGENT_PLAY, BLIND_PLAY = "data", "blind"  # stores in the folder of a round, which has one of them or both


def iterate(out: str | Path = "runs/loop", config: Iteration | None = None, *, fresh: bool = False) -> Path:
    """Run the rounds that are not finished; returns the path of report.md.

    Args:
        out: the run folder; new, empty, or an earlier loop's with the same settings except `rounds`.
        fresh: delete the earlier loop first.

    Raises:
        ValueError: `out` holds something else, or a loop with other settings without `fresh`; or a setting is not
            valid. Nothing is written then.
    """
    config, out = config or Iteration(), Path(out)
    check_begins(config.env_id, config.workers, config.seed)
    with staged(out, config, fresh, free=("rounds",), kind="a loop") as stages:
        stages("random play", lambda: _judge_random(out, config))
        if best_blind(config.env_id):
            stages("blind play", lambda: _judge_blind(out, config))
        for number in range(config.rounds):
            own = config.of_round(number)
            run_round(_round(out, number, own, stages), partial(_judge, out, number, own))
            report = write_rounds(out, config, stages.minutes)
    print(report.read_text(encoding="utf-8"))
    return report


def _round(out: Path, number: int, config: Iteration, stages: Stages) -> Round:
    before = round_folder(out, number - 1) if number else None
    agent = before and before / "agent" / "agent"
    coding = number if config.tokenizer_rounds is None else min(number, config.tokenizer_rounds - 1)
    return Round(
        folder=round_folder(out, number),
        config=config,
        stages=stages,
        plays=_plays(config, agent),
        data=lambda: play_of(out, number, config.fade),
        label=round_label(number),
        tokenizer_from=round_folder(out, coding) if coding < number else None,
        model_from=before if config.warm_model else None,
        agent_from=agent if config.warm_agent else None,
    )


def _plays(config: Iteration, agent: Path | None) -> tuple[Play, ...]:
    """What a round records: play of the agent of the round before, if there is one, and blind play."""
    blind = config.first_steps if agent is None else round(config.blind_share * config.collect_steps)
    plays = []
    if agent is not None and blind < config.collect_steps:
        plays.append(Play(AGENT_PLAY, config.collect_steps - blind, agent, config.seed, config.epsilon))
    if blind:  # other episodes than the agent's
        seed = int(np.random.SeedSequence((config.seed, 1)).generate_state(1)[0]) >> 1
        plays.append(Play(BLIND_PLAY, blind, "diverse", seed))
    return tuple(plays)


def _judge_random(out: Path, config: Iteration) -> None:
    write_json(out / "random.json", returns_of(evaluate(RandomPolicy, config.env_id, config.episodes, JUDGED_FROM)))


def _judge_blind(out: Path, config: Iteration) -> None:
    if known := play_best_blind(config.env_id, config.episodes):
        write_json(out / BLIND_FILE, {"policy": known[0]} | returns_of(known[1]))


def _judge(out: Path, number: int, config: Iteration) -> None:
    agent = load_agent(round_folder(out, number) / "agent" / "agent")
    played = evaluate(agent, config.env_id, config.episodes, JUDGED_FROM, view=agent.view())
    write_json(round_folder(out, number) / FACTS, facts_of(played, play_of(out, number, config.fade)))


def round_folder(out: Path, number: int) -> Path:
    return out / f"round-{number}"


def play_of(out: Path, number: int, fade: float) -> JoinedStorage:
    """Training and validation data of a round: the play of all rounds so far, less of older play.

    Round 0's play, which no agent chose, is always used whole.
    """
    stores = [[EpisodeStorage.open(place) for place in _played(out, earlier)] for earlier in range(number + 1)]
    kept = kept_episodes([[len(store) for store in played] for played in stores], fade)
    return JoinedStorage(list(chain.from_iterable(stores)), list(chain.from_iterable(kept)))


def kept_episodes(episodes: Sequence[Sequence[int]], fade: float) -> list[list[int]]:
    """How many episodes of each round's stores are used in the newest round, the last of the list.

    These are the first ones of a store, so dropped episodes never come back and the splits keep their shares.
    """
    newest = len(episodes) - 1
    shares = [1.0, *(fade ** (newest - number) for number in range(1, newest + 1))]
    # Rounded before it is rounded up: 0.1 * 30 is a little more than 3.
    return [
        [math.ceil(round(count * share, 9)) for count in played] for played, share in zip(episodes, shares, strict=True)
    ]


def _played(out: Path, number: int) -> list[Path]:
    """The stores that a round has recorded."""
    return [place for name in (AGENT_PLAY, BLIND_PLAY) if (place := round_folder(out, number) / name).exists()]


__all__ = ["Iteration", "iterate", "kept_episodes", "play_of"]

"""Iterated imagination: play, learn the dream, train an agent in it, play with that agent, and so on.

A round is five stages: collect real play, train the tokenizer, train the dynamics, train the agent in their dream,
judge the agent in the real game. Round 0 collects diverse blind play, which trains the models of all rounds; every
other round collects play of the agent of the round before, and more blind play beside it: where that agent does not go,
the next one would else find mistakes of the dream. What a stage made is not made again; an interrupted stage goes on
from its last complete state, but for the agent's, which starts anew: PPO is not resumed.
"""

import math
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from worldmodel.agents.evaluate import evaluate
from worldmodel.agents.sb3.agent import load_agent
from worldmodel.agents.scripted import RandomPolicy
from worldmodel.data import EpisodeStorage, JoinedStorage
from worldmodel.files import write_json
from worldmodel.leftovers import remove
from worldmodel.training.collect.collect import collect
from worldmodel.training.pipeline.config import Iteration
from worldmodel.training.pipeline.loop_report import FACTS, STAGES, facts_of, returns_of, stage_name, write_rounds
from worldmodel.training.pipeline.stages import Stages, check_begins, staged
from worldmodel.training.train_agent import train_agent
from worldmodel.training.train_dynamics import train_dynamics
from worldmodel.training.train_tokenizer import train_tokenizer

AGENT_PLAY, BLIND_PLAY = "data", "blind"  # stores in the folder of a round, which has one of them or both
JUDGED_FROM = 10_000  # seed of the first judged episode, the same in every round


def iterate(out: str | Path = "runs/loop", config: Iteration | None = None, *, fresh: bool = False) -> Path:
    """Run all rounds that are not done yet; returns the path of report.md.

    Args:
        out: the run folder; new, empty, or an earlier loop's of the same settings but for `rounds`.
        fresh: delete the earlier loop first.

    Raises:
        ValueError: `out` holds something else, or a loop of other settings and `fresh` is not set; or the settings
            cannot be played. Nothing is written then.
    """
    config, out = config or Iteration(), Path(out)
    check_begins(config.env_id, config.workers, config.seed)
    with staged(out, config, fresh, free=("rounds",), kind="a loop's run") as stages:
        with stages("random play") as todo:
            if todo:
                played = evaluate(RandomPolicy, config.env_id, config.episodes, JUDGED_FROM)
                write_json(out / "random.json", returns_of(played))
        for number in range(config.rounds):
            _run_round(out, number, config.of_round(number), stages)
            report = write_rounds(out, config, stages.minutes)
    print(report.read_text(encoding="utf-8"))
    return report


def _run_round(out: Path, number: int, config: Iteration, stages: Stages) -> None:
    here, before = round_folder(out, number), round_folder(out, number - 1)
    first = number == 0
    model_before = None if first or not config.warm_model else before
    agent_before = None if first or not config.warm_agent else before / "agent" / "agent"
    collecting, tokenizing, dreaming, training, judging = (stage_name(number, stage) for stage in STAGES)
    with stages(collecting) as todo:
        if todo:
            _collect(here, config, None if first else before / "agent" / "agent")
    last_trained = number if config.tokenizer_rounds is None else min(number, config.tokenizer_rounds - 1)
    tokenizer = round_folder(out, last_trained) / "tokenizer"
    with stages(tokenizing) as todo:
        if todo and last_trained == number:
            start = model_before and model_before / "tokenizer" / "best"
            train_tokenizer(play_of(out, number, config.fade), tokenizer, config.tokenizer, start_from=start)
    with stages(dreaming) as todo:
        if todo:
            data, start = play_of(out, number, config.fade), model_before and model_before / "dynamics" / "best"
            train_dynamics(data, tokenizer / "best", here / "dynamics", config.dynamics, start_from=start)
    with stages(training) as todo:
        if todo:
            remove(here / "agent")  # of an interrupted attempt
            game = config.env_id if config.agent.eval_every else None
            train_agent(
                here / "dynamics" / "best", here / "agent", config.agent, start_from=agent_before, allow_env=game
            )
    with stages(judging) as todo:
        if todo:
            agent = load_agent(here / "agent" / "agent")
            played = evaluate(agent, config.env_id, config.episodes, JUDGED_FROM, view=agent.view())
            write_json(here / FACTS, facts_of(played, play_of(out, number, config.fade)))


def _collect(folder: Path, config: Iteration, agent: Path | None) -> None:
    """A round's real play, the agent's if there is one and blind play; each goes on where it was stopped."""
    blind = config.first_steps if agent is None else round(config.blind_share * config.collect_steps)
    if agent is not None and blind < config.collect_steps:
        collect(
            config.env_id,
            folder / AGENT_PLAY,
            steps=config.collect_steps - blind,
            policy=agent,
            epsilon=config.epsilon,
            workers=config.workers,
            seed=config.seed,
        )
    if blind:
        other = np.random.SeedSequence((config.seed, 1))  # for other episodes than the agent's
        collect(
            config.env_id,
            folder / BLIND_PLAY,
            steps=blind,
            policy="diverse",
            workers=config.workers,
            seed=int(other.generate_state(1)[0]) >> 1,
        )


def round_folder(out: Path, number: int) -> Path:
    return out / f"round-{number}"


def play_of(out: Path, number: int, fade: float) -> JoinedStorage:
    """What the model of a round is trained and validated on: the play of all rounds so far, older play less of it.

    Round 0's play, which no agent chose, is always used whole.
    """
    stores = [[EpisodeStorage.open(place) for place in _played(out, earlier)] for earlier in range(number + 1)]
    kept = kept_episodes([[len(store) for store in played] for played in stores], fade)
    return JoinedStorage(list(chain.from_iterable(stores)), list(chain.from_iterable(kept)))


def kept_episodes(episodes: Sequence[Sequence[int]], fade: float) -> list[list[int]]:
    """How many episodes of each round's stores are used in the newest round, the last of the list.

    They are a store's first ones. So what has once been dropped never comes back, and the splits keep their shares.
    """
    newest = len(episodes) - 1
    shares = [1.0, *(fade ** (newest - number) for number in range(1, newest + 1))]
    # Rounded before it is rounded up: 0.1 * 30 is a little more than 3.
    return [
        [math.ceil(round(count * share, 9)) for count in played] for played, share in zip(episodes, shares, strict=True)
    ]


def _played(out: Path, number: int) -> list[Path]:
    """The stores of a round that has collected."""
    return [place for name in (AGENT_PLAY, BLIND_PLAY) if (place := round_folder(out, number) / name).exists()]


__all__ = ["Iteration", "iterate", "kept_episodes", "play_of"]

"""Iterated imagination: play, learn the dream, train an agent in it, play with that agent, and so on.

A round is five stages: collect real play, train the tokenizer, train the dynamics, train the agent in their dream,
judge the agent in the real game. Round 0 plays at random, every other round with the agent of the round before. What a
stage made is not made again; an interrupted stage goes on from its last complete state, but for the agent's, which
starts anew: PPO is not resumed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from worldmodel.agents.evaluate import evaluate
from worldmodel.agents.sb3_agent import load_agent
from worldmodel.agents.sb3_config import AgentConfig
from worldmodel.agents.scripted import RandomPolicy
from worldmodel.data import EpisodeStorage, JoinedStorage
from worldmodel.files import write_json
from worldmodel.leftovers import remove
from worldmodel.settings import check_settings
from worldmodel.training.collect import collect
from worldmodel.training.iterate_report import FACTS, STAGES, facts_of, returns_of, stage_name, write_rounds
from worldmodel.training.loop import LoopConfig
from worldmodel.training.stages import Stages, check_begins, staged
from worldmodel.training.train_agent import DreamTraining, train_agent
from worldmodel.training.train_dynamics import DynamicsTraining, train_dynamics
from worldmodel.training.train_tokenizer import TokenizerTraining, train_tokenizer

JUDGED_FROM = 10_000  # seed of the first judged episode, the same in every round


@dataclass(frozen=True, kw_only=True, slots=True)
class Iteration:
    """Everything that decides a loop. The defaults spend as many real decisions as the demo, in four rounds."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    env_id: str = "VideoGenReal-DoomHealthGathering"
    rounds: int = 4  # a finished loop goes on when there are to be more
    collect_steps: int = 25_000  # decisions of real play in each round, rounded up to whole episodes
    epsilon: float = 0.1  # share of an agent's actions that are replaced by random ones while it collects
    fade: float = 0.75  # share fade^a of the play that is a rounds old trains the model: 1 keeps all, 0 the newest only
    warm_model: bool = True  # tokenizer, dynamics and heads go on from those of the round before; else they start anew
    warm_agent: bool = True  # so does the agent
    tokenizer_rounds: int | None = None  # the tokenizer is trained in so many first rounds, then kept; None: in all
    later_steps: float = 0.5  # of round 0's training steps, in every later round
    workers: int = 2
    tokenizer: TokenizerTraining = field(
        default_factory=lambda: TokenizerTraining(loop=replace(TokenizerTraining().loop, steps=900))
    )
    dynamics: DynamicsTraining = field(
        default_factory=lambda: DynamicsTraining(loop=replace(DynamicsTraining().loop, steps=1500))
    )
    agent: DreamTraining = field(default_factory=lambda: DreamTraining(agent=AgentConfig(steps=150_000)))
    episodes: int = 30  # real episodes, of each round's agent and once of random play, that are judged
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(
            self,
            least={"rounds": 1, "collect_steps": 1, "episodes": 2, "tokenizer_rounds": 1},  # 2, for an interval
            above={"later_steps": 0},
            at_most_one=("epsilon", "fade"),
        )

    def of_round(self, number: int) -> "Iteration":
        """This config with one round's own seed in every stage, and the steps that its stages train for."""
        share = self.later_steps if number else 1.0
        seed = int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0]) >> 1  # 31 bits fit every library

        def own(loop: LoopConfig) -> LoopConfig:
            return replace(loop, seed=seed, steps=_share(share, loop.steps))

        ppo = self.agent.agent
        return replace(
            self,
            tokenizer=replace(self.tokenizer, loop=own(self.tokenizer.loop)),
            dynamics=replace(self.dynamics, loop=own(self.dynamics.loop)),
            agent=replace(self.agent, agent=replace(ppo, seed=seed, steps=_share(share, ppo.steps))),
            seed=seed,
        )


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
            collect(
                config.env_id,
                here / "data",
                steps=config.collect_steps,
                policy="diverse" if first else before / "agent" / "agent",
                epsilon=0.0 if first else config.epsilon,
                workers=config.workers,
                seed=config.seed,
            )
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


def round_folder(out: Path, number: int) -> Path:
    return out / f"round-{number}"


def play_of(out: Path, number: int, fade: float) -> JoinedStorage:
    """What the model of a round is trained and validated on: the play of all rounds so far, older play less of it."""
    stores = [EpisodeStorage.open(round_folder(out, earlier) / "data") for earlier in range(number + 1)]
    return JoinedStorage(stores, kept_episodes([len(store) for store in stores], fade))


def kept_episodes(episodes: Sequence[int], fade: float) -> list[int]:
    """How many of each round's episodes are used in the newest round, the last of the list.

    They are a round's first ones. So what has once been dropped never comes back, and the splits keep their shares.
    """
    newest = len(episodes) - 1
    # Rounded before it is rounded up: 0.1 * 30 is a little more than 3.
    return [math.ceil(round(count * fade ** (newest - number), 9)) for number, count in enumerate(episodes)]


def _share(share: float, steps: int) -> int:
    return max(1, round(share * steps))


__all__ = ["Iteration", "iterate", "kept_episodes", "play_of"]

"""One round: record episodes, train tokenizer, dynamics and an agent in their dream, evaluate it in the real game.

The demo is one round with a report, the loop is many. A finished stage is not repeated; an interrupted one resumes from
its last complete state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from worldmodel.agents.blind.known import best_blind
from worldmodel.agents.blind.policies import scripted_policy
from worldmodel.agents.evaluate import Evaluation, evaluate
from worldmodel.data import EpisodeStorage
from worldmodel.training.collect.collect import collect
from worldmodel.training.pipeline.config import RoundConfig
from worldmodel.training.pipeline.stages import Stages
from worldmodel.training.reports.blind import BLIND
from worldmodel.training.train_agent import train_agent
from worldmodel.training.train_dynamics import train_dynamics
from worldmodel.training.train_tokenizer import train_tokenizer

STAGES = ("collect", "tokenizer", "dynamics", "agent", "judge")  # of a round, in their order
JUDGED_FROM = 10_000  # seed of the first evaluation episode, the same in every round


class Play(NamedTuple):
    """Episodes to record in a round."""

    store: str  # its name in the round's folder
    steps: int  # rounded up to whole episodes
    policy: str | Path
    seed: int
    epsilon: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Round:
    """The folder of a round, its settings, and what it takes from earlier rounds."""

    folder: Path  # gets the stores of `plays`, `tokenizer`, `dynamics` and `agent`
    config: RoundConfig  # with one seed in all stages
    stages: Stages
    plays: tuple[Play, ...]
    data: Callable[[], Path | EpisodeStorage]  # training data of the models, once the plays are recorded
    label: str = ""  # the names of its stages begin with it
    tokenizer_from: Path | None = None  # an earlier round whose tokenizer is kept; None: this round trains one
    model_from: Path | None = None  # the round whose tokenizer, dynamics and heads are trained further
    agent_from: Path | None = None  # the agent that is trained further

    @property
    def world(self) -> Path:
        return self.folder / "dynamics" / "best"

    @property
    def agent(self) -> Path:
        return self.folder / "agent" / "agent"

    def stage(self, name: str, work: Callable[[], object]) -> None:
        """Do the work of a stage, unless it is finished."""
        self.stages(f"{self.label}{name}", work)


def play_best_blind(env_id: str, episodes: int) -> tuple[str, Evaluation] | None:
    """The best known blind policy of a game, evaluated on the seeds of agents; None where none is known."""
    policy = best_blind(env_id)
    if policy is None:
        return None
    played = evaluate(partial(scripted_policy, policy), env_id, episodes, JUDGED_FROM)
    print(f"the {BLIND}, {policy}: {played}")
    return policy, played


def run_round(here: Round, judge: Callable[[], object]) -> None:
    """Run all stages of a round; `judge` evaluates its agent and writes the result."""
    learn_world(here)
    here.stage("agent", lambda: _train_agent(here))
    here.stage("judge", judge)


def learn_world(here: Round) -> None:
    """Run the first three stages of a round, which make its world."""
    here.stage("collect", lambda: _collect(here))
    here.stage("tokenizer", lambda: _train_tokenizer(here))
    here.stage("dynamics", lambda: _train_dynamics(here))


def _collect(here: Round) -> None:
    for play in here.plays:
        collect(
            here.config.env_id,
            here.folder / play.store,
            steps=play.steps,
            policy=play.policy,
            epsilon=play.epsilon,
            workers=here.config.workers,
            seed=play.seed,
        )


def _train_tokenizer(here: Round) -> None:
    if here.tokenizer_from is None:
        start = here.model_from and here.model_from / "tokenizer" / "best"
        train_tokenizer(here.data(), here.folder / "tokenizer", here.config.tokenizer, start_from=start)


def _train_dynamics(here: Round) -> None:
    tokenizer = (here.tokenizer_from or here.folder) / "tokenizer" / "best"
    start = here.model_from and here.model_from / "dynamics" / "best"
    train_dynamics(here.data(), tokenizer, here.folder / "dynamics", here.config.dynamics, start_from=start)


def _train_agent(here: Round) -> None:
    out = here.agent.parent
    game = here.config.env_id if here.config.agent.eval_every else None
    train_agent(here.world, out, here.config.agent, start_from=here.agent_from, allow_env=game)

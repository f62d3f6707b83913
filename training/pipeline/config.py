"""Settings of the demo and the loop: those of all their stages."""

from dataclasses import field, replace
from typing import Self

import numpy as np

from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.settings import AtLeastTwo, PositiveFloat, PositiveInt, Probability, checked_dataclass
from worldmodel.training.fit import LoopConfig
from worldmodel.training.train_agent import DreamTraining
from worldmodel.training.train_dynamics import DynamicsTraining
from worldmodel.training.train_tokenizer import TokenizerTraining

SEEDS = ("tokenizer.loop.seed", "dynamics.loop.seed", "agent.agent.seed")  # which `with_seed`, or --seed, sets


@checked_dataclass
class RoundConfig:
    """What one round needs. The defaults take two CPU cores less than twenty minutes (results: docs/results.md)."""

    env_id: str = "VideoGenReal-DoomHealthGathering"
    collect_steps: PositiveInt = 100_000  # decisions of recorded play
    workers: PositiveInt = 2
    tokenizer: TokenizerTraining = field(
        default_factory=lambda: TokenizerTraining(loop=replace(TokenizerTraining().loop, steps=900))
    )
    dynamics: DynamicsTraining = field(
        default_factory=lambda: DynamicsTraining(loop=replace(DynamicsTraining().loop, steps=1500))
    )
    agent: DreamTraining = field(default_factory=lambda: DreamTraining(agent=AgentConfig(steps=150_000)))
    episodes: PositiveInt = 30  # real episodes for evaluation, of the agent and of random play
    seed: int = 0

    def __post_init__(self) -> None:
        self.dynamics.segment_steps(self.tokenizer.model)  # refuses what does not fit before anything is recorded

    def with_seed(self, seed: int | None = None, share: float = 1.0) -> Self:
        """This config with one seed (None: its own) in every stage, and this share of each stage's training steps."""
        seed = self.seed if seed is None else seed

        def steps(count: int) -> int:
            return max(1, round(share * count))

        def loop(config: LoopConfig) -> LoopConfig:
            return replace(config, seed=seed, steps=steps(config.steps))

        return replace(
            self,
            tokenizer=replace(self.tokenizer, loop=loop(self.tokenizer.loop)),
            dynamics=replace(self.dynamics, loop=loop(self.dynamics.loop)),
            agent=self._agent(seed, share),
            seed=seed,
        )

    def _agent(self, seed: int, share: float) -> DreamTraining:
        """The agent's training with this seed and this share of its steps, those of its tries too."""
        ppo, tried = self.agent.agent, self.agent.try_steps
        ppo = replace(ppo, seed=seed, steps=max(1, round(share * ppo.steps)))
        return replace(self.agent, agent=ppo, try_steps=max(1, round(share * tried)) if tried else 0)


@checked_dataclass
class DemoConfig(RoundConfig):
    """Everything that decides a demo."""

    policy: str = "diverse"  # scripted policy that plays, as for `collect`
    tokenizer: TokenizerTraining = field(  # without Muon, as the results over seeds were measured (docs/results.md)
        default_factory=lambda: TokenizerTraining(loop=replace(TokenizerTraining().loop, steps=900), muon=False)
    )


@checked_dataclass
class Iteration(RoundConfig):
    """Everything that decides a loop. The defaults spend as many real decisions as the demo, in three rounds."""

    rounds: PositiveInt = 3  # a finished loop continues if there are to be more
    first_steps: PositiveInt = 50_000  # decisions of diverse blind play in round 0, in whole episodes; never fades
    collect_steps: PositiveInt = 25_000  # decisions of real play in each later round
    blind_share: Probability = 0.5  # of these, the share of diverse blind play; the rest is the agent's
    epsilon: Probability = 0.1  # share of an agent's actions that are replaced by random ones while it collects
    fade: Probability = 0.75  # a round that is a rounds old keeps its first fade^a episodes: 1 keeps all, 0 the newest
    warm_model: bool = True  # tokenizer, dynamics and heads start from those of the round before, else from scratch
    warm_agent: bool = True  # so does the agent
    tokenizer_rounds: PositiveInt | None = None  # rounds that train the tokenizer; later ones keep it; None: all
    later_steps: PositiveFloat = 0.5  # of round 0's training steps, in every later round
    episodes: AtLeastTwo = 30  # real episodes for evaluation, of each round's agent and once of random play

    def __post_init__(self) -> None:
        RoundConfig.__post_init__(self)  # the decorator makes a new class, which super() does not know
        self._agent(self.seed, self.later_steps)  # refuses an impossible later round before the first one is played

    def of_round(self, number: int) -> "Iteration":
        """This config with one round's own seed in every stage, and the steps that its stages train for."""
        seed = int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0]) >> 1  # 31 bits fit every library
        return self.with_seed(seed, self.later_steps if number else 1.0)

"""One table of all players of a game: random, the best blind one, trained in the real game, trained in its dream.

Every cell is one player, evaluated on the same episodes, and has its own file; finished cells are not repeated. An
interrupted stage resumes from its last complete state.
"""

from collections.abc import Callable, Iterator
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from tyro.conf import UseAppendAction

from worldmodel.agents.blind.policies import FORMS, is_scripted
from worldmodel.agents.sb3.config import REAL_GAME, AgentConfig
from worldmodel.settings import AtLeastTwo, NonNegativeInt, PositiveInt, checked_dataclass
from worldmodel.training.pipeline.config import DemoConfig
from worldmodel.training.pipeline.round import JUDGED_FROM
from worldmodel.training.pipeline.stages import Stages, check_begins, staged
from worldmodel.training.train_agent import DreamTraining
from worldmodel.training.train_dynamics import DynamicsTraining
from worldmodel.training.train_tokenizer import TokenizerTraining
from worldmodel.training.transfer.page import write_transfer
from worldmodel.training.transfer.players import (
    Player,
    blind_player,
    dream_player,
    fill,
    free_player,
    loop_player,
    random_player,
)
from worldmodel.training.transfer.world import Game, check_world

GAMES = (
    "VideoGenReal-DoomHealthGathering",
    "VideoGenReal-Doom",
    "VideoGenReal-DoomTakeCover",
    "VideoGenReal-DoomDefendTheCenter",
)
# Settings that may change between calls: they add games and rows, and change no existing one.
_FREE = ("games", "world", "seeds", "free_seeds", "loop_rounds")


@checked_dataclass
class Transfer:
    """Everything that decides the table. The defaults are for two CPU cores and take hours for each game."""

    games: tuple[str, ...] = GAMES  # ids of real games
    # GAME=WORLD, a folder, a shipped name or a hub id: use this world and train none. Once for each game.
    world: Annotated[tuple[str, ...], UseAppendAction] = ()
    decisions: PositiveInt = 100_000  # decisions of real play to train a world model on, and for model-free PPO
    longer: PositiveInt = 10  # also train model-free PPO on this many times the decisions; 1: do not
    policy: str = "diverse"  # policy that plays for the world model: a blind one, as for `collect`
    workers: PositiveInt = 2  # processes for collecting
    tokenizer: TokenizerTraining = field(default_factory=TokenizerTraining)
    dynamics: DynamicsTraining = field(default_factory=DynamicsTraining)
    agent: DreamTraining = field(default_factory=lambda: DreamTraining(agent=AgentConfig(steps=250_000)))
    free: AgentConfig = REAL_GAME  # PPO in the real game, for `decisions` steps, rounded up to whole rollouts
    seeds: PositiveInt = 3  # agents to train in the dream, with seed, seed + 1, …
    free_seeds: PositiveInt = 3  # model-free agents to train for each number of decisions
    loop_rounds: NonNegativeInt = 0  # rounds of `loop` with the settings above, which take hours; 0: no such row
    search_episodes: Annotated[int, Field(ge=8)] = 40  # episodes of each finalist in the search for blind policies
    episodes: AtLeastTwo = 100  # episodes to evaluate every player on, the first with seed 10,000
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        for name in ("tokenizer.loop.seed", "dynamics.loop.seed", "agent.agent.seed", "free.seed"):
            self._check_untouched(name, 0, "--seed sets that of every stage")
        self._check_untouched("free.steps", REAL_GAME.steps, "--decisions and --longer set them")
        self._check_untouched(
            "agent.eval_every", 0, "agents of this table must not see the game before their evaluation"
        )
        if len(set(self.games)) < len(self.games) or not self.games:
            raise ValueError(f"give at least one game, and each once, got {' '.join(self.games) or 'none'}")
        # Game i of a model-free agent begins with its seed + i.
        last, judged = self.seed + self.free_seeds + self.free.num_envs - 2, JUDGED_FROM + self.episodes - 1
        if self.seed <= judged and last >= JUDGED_FROM:
            raise ValueError(
                f"model-free PPO would learn from the episodes of seeds {self.seed:,} to {last:,}, and all players are "
                f"evaluated on those of {JUDGED_FROM:,} to {judged:,}: give another seed (--seed)"
            )

    def _check_untouched(self, name: str, default: int, reason: str) -> None:
        value: object = self
        for part in name.split("."):
            value = getattr(value, part)
        if value != default:
            raise ValueError(f"leave out {name.replace('_', '-')}: {reason}")

    def worlds(self) -> dict[str, str]:
        """The given worlds by their games."""
        given: dict[str, str] = {}
        for text in self.world:
            game, equals, world = text.partition("=")
            if not equals or not world or game not in self.games or game in given:
                raise ValueError(
                    f"--world takes GAME=WORLD, at most once for each of the games ({', '.join(self.games)}), got "
                    f"{text!r}"
                )
            given[game] = world
        return given

    def recipe(self, env_id: str) -> DemoConfig:
        """How the world of a game is trained."""
        return DemoConfig(
            env_id=env_id,
            collect_steps=self.decisions,
            policy=self.policy,
            workers=self.workers,
            tokenizer=self.tokenizer,
            dynamics=self.dynamics,
            agent=self.agent,
            episodes=self.episodes,
            seed=self.seed,
        ).with_seed()


def benchmark(
    table: Literal["transfer"],
    /,
    out: str | Path = "runs/transfer",
    config: Transfer | None = None,
    *,
    fresh: bool = False,
    command: str = "",
) -> Path:
    """Fill the missing cells of a table of results; the table is written after each cell.

    Run it again to resume after an interruption. Games, given worlds, seeds and the loop may be added; cells that are
    no longer asked for stay in the table.

    Args:
        table: "transfer": random play, the best blind policy, model-free PPO and agents trained in dreams, by game.
        out: run folder; new, empty, or of an earlier run with the same settings.
        fresh: delete the earlier run first.
        command: the command line, shown on the page.

    Returns: the path of transfer.md, which is also printed.

    Raises:
        ValueError: `out` holds something else, or a table with other settings without `fresh`; or a setting is not
            valid. Nothing is written then.
    """
    if table != "transfer":
        raise ValueError(f"the only table is 'transfer', got {table!r}")
    config, out = config or Transfer(), Path(out)
    worlds = config.worlds()
    if not is_scripted(config.policy):
        raise ValueError(f"policy must be a scripted one ({FORMS}), got {config.policy!r}")
    games = [Game(env_id, out / folder_of(env_id), config.episodes, worlds.get(env_id)) for env_id in config.games]
    if len({game.folder for game in games}) < len(games):
        raise ValueError(f"two of the games share a name, and so a folder: {', '.join(config.games)}")
    for game in games:
        check_begins(game.env_id, config.workers, config.seed)
        check_world(game, fresh)
    with staged(out, config, fresh, free=_FREE, kind="a table") as stages:
        for game in games:
            for name, make in _cells(game, config, stages):
                fill(game, name, make)
                page = write_transfer(out, config.games, command)
    print(page.read_text(encoding="utf-8"))
    print(f"Everything is in {out}.")
    return page


def folder_of(env_id: str) -> str:
    """The name of a game's folder: its id without the module."""
    return env_id.rpartition(":")[2].replace("/", "-")


def _cells(game: Game, config: Transfer, stages: Stages) -> Iterator[tuple[str, Callable[[], Player]]]:
    """The name of every cell, and what makes its player; the cheapest first."""
    yield "random", partial(random_player, game)
    yield "blind", partial(blind_player, game, stages, config.search_episodes)
    recipe = config.recipe(game.env_id)
    for seed in range(config.seed, config.seed + config.seeds):
        yield f"dream-{seed}", partial(dream_player, game, stages, recipe, seed)
    for times in sorted({1, config.longer}):
        for seed in range(config.seed, config.seed + config.free_seeds):
            free = replace(config.free, steps=times * config.decisions, seed=seed)
            yield f"free{times}-{seed}", partial(free_player, game, stages, free, times)
    if config.loop_rounds:
        yield f"loop{config.loop_rounds}", partial(loop_player, game, stages, recipe, config.loop_rounds)


__all__ = ["GAMES", "Transfer", "benchmark"]

"""The players of a game's table: how each is made, its cost, and its returns in the real game."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import worldmodel
from worldmodel.agents.blind.policies import scripted_policy
from worldmodel.agents.blind.search import SEED, search_blind
from worldmodel.agents.evaluate import PolicyMaker, View, evaluate
from worldmodel.agents.policy import Policy
from worldmodel.agents.sb3.agent import Agent, load_agent
from worldmodel.agents.sb3.config import REAL_GAME, AgentConfig
from worldmodel.agents.sb3.train import train_policy
from worldmodel.agents.scripted import RandomPolicy
from worldmodel.checkpoint import weights_name
from worldmodel.files import JsonObject, read_json, write_json
from worldmodel.training.cli.command_lines import command_line, options_of
from worldmodel.training.pipeline.config import SEEDS, DemoConfig, Iteration
from worldmodel.training.pipeline.loop import iterate
from worldmodel.training.pipeline.round import JUDGED_FROM
from worldmodel.training.pipeline.stages import Stages
from worldmodel.training.reports.markdown import machine, mean_cell, strict
from worldmodel.training.train_agent import DreamTraining, train_agent
from worldmodel.training.transfer.page import CELL
from worldmodel.training.transfer.world import Game, World, cost_of, world_of


class Player(NamedTuple):
    """The player of one cell of the table."""

    row: str
    label: str  # for people
    policy: Policy | PolicyMaker
    commands: list[str]  # that make and evaluate it
    settings: dict[str, Any]
    view: View | None = None
    seed: int | None = None
    decisions: int | None = 0  # env steps of the real game that it learned from or was selected by
    hours: float = 0.0  # to make it, without its world
    whole: bool = True  # whether the hours include all attempts, also killed ones
    world: World | None = None


def fill(game: Game, name: str, make: Callable[[], Player]) -> None:
    """Make and evaluate the player of a cell, unless its file exists."""
    file = game.folder / "cells" / f"{name}.json"
    if file.exists():
        print(f"{game.stage(name)}: judged before, {mean_cell(read_json(file, JsonObject, CELL)['result'])}")
        return
    player = make()
    print(f"{game.stage(name)}: {game.episodes} episodes …", flush=True)
    begin = time.monotonic()
    played = evaluate(player.policy, game.env_id, game.episodes, JUDGED_FROM, view=player.view)
    print(f"{game.stage(name)}: {played}", flush=True)
    world = player.world
    cell = {
        "game": game.env_id,
        "row": player.row,
        "player": player.label,
        "seed": player.seed,
        "result": {
            "mean": played.mean,
            "half_width": played.half_width,
            "episodes": game.episodes,
            "first_seed": JUDGED_FROM,
            "returns": played.returns,
            "lengths": played.lengths,
        },
        "decisions": player.decisions,
        "hours": {
            "world": None if world is None else world.hours,
            "player": player.hours,
            "judged": (time.monotonic() - begin) / 3600,
            "of_all_attempts": player.whole and (world is None or world.whole),
        },
        "commands": player.commands,
        "settings": player.settings,
        "world": None if world is None else {"name": world.name, "sha256": world.sha256, "given": world.hours is None},
        "machine": machine() | {"videogen_dream": worldmodel.__version__},
    }
    write_json(file, strict(cell))


def random_player(game: Game) -> Player:
    return Player("random", "random play", RandomPolicy, [_evaluated("random", game)], {})


def blind_player(game: Game, stages: Stages, episodes: int) -> Player:
    """The best policy that `evaluate blind` finds; the search plays other episodes than the cell."""
    file, stage = game.folder / "blind.json", game.stage("search of blind policies")

    def search() -> None:
        found = search_blind(game.env_id, episodes)
        tried = {each.policy: each.returns for each in found.tried}
        write_json(file, {"policy": found.best, "steps": found.steps, "tried": tried})

    stages(stage, search)
    found = read_json(file, JsonObject, ("policy", "steps", "tried"))
    return Player(
        "blind",
        f"best blind policy of {len(found['tried'])} tried, `{found['policy']}`",
        partial(scripted_policy, found["policy"]),
        [_evaluated("blind", game, "--search-episodes", str(episodes)), _evaluated(found["policy"], game)],
        {"search_episodes": episodes, "first_seed": SEED} | found,
        decisions=found["steps"],
        **cost_of(stages, [stage]),
    )


def free_player(game: Game, stages: Stages, config: AgentConfig, times: int) -> Player:
    """PPO in the real game itself, on its raw frames."""
    name = f"free{times}-{config.seed}"
    folder, stage = game.folder / name, game.stage(name)
    agent = _trained(stages, stage, folder, lambda: train_policy(game.env_id, folder, config))
    return Player(
        f"free{times}",
        "model-free PPO" + (f", {times} times the decisions" if times > 1 else ""),
        agent,
        [
            command_line("train-policy", "--env", game.env_id, *options_of(config, REAL_GAME), "--out", folder),
            _evaluated(folder / "agent", game),
        ],
        asdict(config),
        seed=config.seed,
        decisions=ceil(config.steps / config.rollout) * config.rollout,
        **cost_of(stages, [stage]),
    )


def dream_player(game: Game, stages: Stages, recipe: DemoConfig, seed: int) -> Player:
    """PPO in the game's dream alone."""
    world = world_of(game, stages, recipe)
    config = replace(recipe.agent, agent=replace(recipe.agent.agent, seed=seed))
    folder, stage = game.folder / f"dream-{seed}", game.stage(f"dream-{seed}")
    agent = _trained(stages, stage, folder, lambda: train_agent(world.name, folder, config))
    options = options_of(config, DreamTraining())
    return Player(
        "dream",
        "trained in the dream",
        agent,
        [
            *world.commands,
            command_line("train-agent", "--world", world.name, *options, "--out", folder),
            _evaluated(folder / "agent", game),
        ],
        {"world": game.world or asdict(recipe), "agent": asdict(config)},
        view=agent.view(world.name),
        seed=seed,
        decisions=world.decisions,
        world=world,
        **cost_of(stages, [stage]),
    )


def loop_player(game: Game, stages: Stages, recipe: DemoConfig, rounds: int) -> Player:
    """The agent of a loop's last round; the loop's report has all rounds."""
    folder, stage = game.folder / f"loop{rounds}", game.stage(f"loop{rounds}")
    first = recipe.collect_steps if rounds == 1 else ceil(recipe.collect_steps / 2)
    config = Iteration(
        env_id=game.env_id,
        rounds=rounds,
        first_steps=first,
        collect_steps=max(1, (recipe.collect_steps - first) // max(1, rounds - 1)),
        workers=recipe.workers,
        tokenizer=recipe.tokenizer,
        dynamics=recipe.dynamics,
        agent=recipe.agent,
        episodes=recipe.episodes,
        seed=recipe.seed,
    )
    stages(stage, lambda: iterate(folder, config))
    last = folder / f"round-{rounds - 1}"
    decisions = json.loads((folder / "rounds.jsonl").read_text(encoding="utf-8").splitlines()[-1])["decisions_so_far"]
    agent, best = load_agent(last / "agent"), last / "dynamics" / "best"
    options = options_of(config, Iteration(), leave_out=SEEDS)
    return Player(
        f"loop{rounds}",
        f"loop, round {rounds} of {rounds}",
        agent,
        [command_line("loop", *options, "--out", folder), _evaluated(last / "agent" / "agent", game)],
        asdict(config),
        view=agent.view(best),
        seed=config.seed,
        decisions=decisions,
        world=World(str(best), weights_name(best), None, 0.0, True, []),
        **cost_of(stages, [stage]),
    )


def _trained(stages: Stages, stage: str, folder: Path, train: Callable[[], object]) -> Agent:
    """The agent in a folder, which `train` makes or finishes unless that was done before."""
    stages(stage, train)
    return load_agent(folder)


def _evaluated(player: str | Path, game: Game, *options: str) -> str:
    where = ("--env", game.env_id, "--episodes", game.episodes, "--seed", JUDGED_FROM)
    return command_line("evaluate", player, *where, *options)

"""The world of a game in the table: given, or trained on episodes collected for it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from worldmodel.checkpoint import load_config, resolve, weights_name
from worldmodel.data import EpisodeStorage
from worldmodel.files import JsonObject, read_json, write_json
from worldmodel.model import WorldModelConfig
from worldmodel.training.cli.command_lines import command_line, options_of
from worldmodel.training.pipeline.config import DemoConfig
from worldmodel.training.pipeline.demo import single_round
from worldmodel.training.pipeline.round import learn_world
from worldmodel.training.pipeline.stages import Stages
from worldmodel.training.train_dynamics import DynamicsTraining
from worldmodel.training.train_tokenizer import TokenizerTraining


class Game(NamedTuple):
    """A game, its folder in the table's run, and the world given for it, if any."""

    env_id: str
    folder: Path
    episodes: int  # on which every player is evaluated
    world: str | None = None

    def stage(self, name: str) -> str:
        return f"{self.folder.name}: {name}"


class World(NamedTuple):
    """The world of a game: its name as `train_agent` takes it, and its cost."""

    name: str
    sha256: str
    decisions: int | None  # None: unknown
    hours: float | None  # None: the world was given
    whole: bool  # whether the hours include all attempts
    commands: list[str]


def check_world(game: Game, fresh: bool) -> None:
    """ValueError if the given world is of another game, or if the existing agents were trained in another world."""
    kept = None if fresh else _kept(game)
    if game.world is None:
        if kept is not None and kept["given"] is not None:
            raise ValueError(
                f"the agents of {game.env_id} in {game.folder} were trained in a given world: repeat "
                f"--world {game.env_id}={kept['given']}, or use another --out"
            )
        return
    folder = resolve(game.world)
    learned = load_config(folder, "world_model", WorldModelConfig).env_id
    if learned.rpartition(":")[2] != game.env_id.rpartition(":")[2]:
        raise ValueError(f"{game.world} is a world of {learned or 'an unnamed game'}, but was given for {game.env_id}")
    _check_same(game, kept, weights_name(folder))


def _check_same(game: Game, kept: Mapping[str, Any] | None, sha256: str) -> None:
    if kept is not None and kept["sha256"] != sha256:
        raise ValueError(
            f"the agents of {game.env_id} in {game.folder} were trained in another world: its weights have the SHA-256 "
            f"{kept['sha256'][:12]}…, those of {game.world or 'the one there'} {sha256[:12]}…; use another --out"
        )


def _kept(game: Game) -> dict[str, Any] | None:
    """Which world the agents of a game are trained in, once that is decided."""
    file = game.folder / "world.json"
    return read_json(file, JsonObject, ("given", "sha256")) if file.is_file() else None


def world_of(game: Game, stages: Stages, recipe: DemoConfig) -> World:
    """The given world, or one that is trained here unless it exists."""
    if game.world is not None:
        folder = resolve(game.world)
        world = World(game.world, weights_name(folder), _decisions_of(folder), None, True, [])
    else:
        learn_world(here := single_round(game.folder, recipe, stages, game.stage("")))
        play = EpisodeStorage.open(game.folder / "data")
        cost = cost_of(stages, [game.stage(name) for name in ("collect", "tokenizer", "dynamics")])
        commands = _world_commands(game.folder, recipe)
        world = World(str(here.world), weights_name(here.world), play.num_steps, **cost, commands=commands)
    kept = _kept(game)
    _check_same(game, kept, world.sha256)
    if kept is None:
        write_json(game.folder / "world.json", {"given": game.world, "sha256": world.sha256})
    return world


def _decisions_of(folder: Path) -> int | None:
    """How many decisions a world was trained on, if its run folder and stores still exist.

    None for a world that was trained further: what the earlier one was trained on is not known here.
    """
    run = folder.parent / "config.json"
    about = read_json(run) if folder.name in ("best", "last") and run.is_file() else None
    if not isinstance(about, dict) or about.get("start_from") is not None:
        return None
    stores = about.get("data")
    if not isinstance(stores, list):
        return None
    if not all((Path(store) / "data" / "metadata.json").is_file() for store in stores):
        return None
    return sum(_recorded_steps(EpisodeStorage.open(store)) for store in stores)


def _recorded_steps(store: EpisodeStorage) -> int:
    """Steps of a store, those of several views of a recording, such as mirrored copies, once."""
    return sum(store.lengths[first] for first in np.unique(store.plays, return_index=True)[1].tolist())


def cost_of(stages: Stages, names: Sequence[str]) -> dict[str, Any]:
    """`hours` and `whole` of a player or world made by these stages."""
    return {
        "hours": sum(stages.minutes[name] for name in names) / 60,
        "whole": not any(stages.was_cut(name) for name in names),
    }


def _world_commands(folder: Path, recipe: DemoConfig) -> list[str]:
    data, tokenizer = folder / "data", folder / "tokenizer"
    play = ["--policy", recipe.policy, "--seed", recipe.seed, "--workers", recipe.workers]
    coder = options_of(recipe.tokenizer, TokenizerTraining())
    model = options_of(recipe.dynamics, DynamicsTraining())
    return [
        command_line("collect", "--env", recipe.env_id, "--steps", recipe.collect_steps, *play, "--out", data),
        command_line("train-tokenizer", "--data", data, *coder, "--out", tokenizer),
        command_line(
            "train-dynamics", "--data", data, "--tokenizer", tokenizer / "best", *model, "--out", folder / "dynamics"
        ),
    ]

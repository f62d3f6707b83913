"""Commands that make something: play, models, agents. tyro turns a function's arguments into its options.

A function that is given a config is made when its command is asked for (`MAKING`), so that no command waits for what
another one imports.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

Function = Callable[..., Any]
Fields = tyro.conf.arg(name="")  # the argument's fields are options by their own names


def make_demo(_: Sequence[str]) -> Function:
    from worldmodel.training.pipeline.config import DemoConfig
    from worldmodel.training.pipeline.demo import demo

    def run_demo(
        out: Path = Path("runs/demo"),
        fresh: bool = False,
        config: Annotated[DemoConfig, Fields] = DemoConfig(),  # noqa: B008 (frozen)
    ) -> None:
        """Run the whole path; goes on where an earlier run stopped. --fresh deletes the run folder first."""
        demo(out, config, fresh=fresh)

    return run_demo


def make_loop(_: Sequence[str]) -> Function:
    from worldmodel.training.pipeline.config import Iteration
    from worldmodel.training.pipeline.loop import iterate

    def run_loop(
        out: Path = Path("runs/loop"),
        fresh: bool = False,
        config: Annotated[Iteration, Fields] = Iteration(),  # noqa: B008 (frozen)
    ) -> None:
        """Run rounds of play, training and judging; goes on where an earlier run stopped, or for more --rounds.

        --fresh deletes the run folder first.
        """
        iterate(out, config, fresh=fresh)

    return run_loop


def run_collect(
    env: str,
    out: Path,
    episodes: int | None = None,
    steps: int | None = None,
    policy: str = "diverse",
    epsilon: float = 0.0,
    workers: int = 2,
    seed: int = 0,
    env_kwargs: tuple[str, ...] = (),
    labels: bool = False,
    episode_seconds: float = 600.0,
    launcher: Literal["local", "ray"] = "local",
    num_workers: int = 1,
) -> None:
    """Record whole episodes until there are --episodes or --steps.

    Args:
        env: a real game's id, such as VideoGenReal-Doom.
        out: folder of the store; an earlier collection there goes on.
        policy: "diverse" (each episode holds, repeats or prefers other actions), "sticky" (random, holding each action
            for a while), "random", another blind policy such as cycle:move_left*8,move_right*8 (docs/collecting.md), or
            the folder of a saved agent.
        epsilon: share of the agent's actions that are replaced at random.
        workers: processes of this machine.
        env_kwargs: options of the env as NAME=VALUE, such as reward=health frame_skip=8.
        labels: also keep which object each pixel shows, for evaluate-model; ViZDoom's games tell.
        episode_seconds: a worker that takes longer for an episode is replaced, and the episode played again.
        launcher: "local": on this machine; "ray": on the workers of a Ray cluster, of one machine or many.
        num_workers: of Ray.
    """
    from worldmodel.training.collect.collect import collect
    from worldmodel.training.collect.env_options import parse_options

    collect(
        env,
        out,
        episodes=episodes,
        steps=steps,
        policy=policy,
        epsilon=epsilon,
        workers=workers,
        seed=seed,
        env_kwargs=parse_options(env_kwargs),
        labels=labels,
        episode_seconds=episode_seconds,
        launcher=launcher,
        num_workers=num_workers,
    )


def make_train_policy(_: Sequence[str]) -> Function:
    from worldmodel.agents.sb3.config import REAL_GAME, AgentConfig
    from worldmodel.agents.sb3.train import train_policy

    def run_train_policy(env: str, out: Path, config: Annotated[AgentConfig, Fields] = REAL_GAME) -> None:
        """Train PPO on the real game `env`; the agent is saved in OUT/agent. It is not resumed."""
        print(train_policy(env, config.steps, out, config=config))

    return run_train_policy


def make_train_tokenizer(options: Sequence[str]) -> Function:
    from worldmodel.tokenizer.files import load_tokenizer
    from worldmodel.tokenizer.presets import PRESETS
    from worldmodel.training.cli.presets import asked_preset, tokenizer_training
    from worldmodel.training.launch import Launcher, launch
    from worldmodel.training.train_tokenizer import TokenizerTraining, train_tokenizer

    usual = tokenizer_training(asked_preset(options))

    def run_train_tokenizer(
        data: tuple[Path, ...],
        out: Path = Path("runs/tokenizer"),
        start_from: str | None = None,
        launcher: Launcher = "local",
        num_workers: int = 1,
        device: str = "auto",
        preset: Annotated[str | None, tyro.conf.arg(metavar="|".join(PRESETS))] = None,
        config: Annotated[TokenizerTraining, Fields] = usual,
    ) -> None:
        """Train on recorded play; OUT/best and OUT/last are tokenizers. Goes on after an interruption.

        Args:
            data: folder of a store, or folders of several stores of one game.
            start_from: a tokenizer, or a world model with one, that is trained further.
            launcher: "local": here, or in the processes that torchrun started; "ray": on workers of Ray.
            num_workers: of Ray.
            preset: a model that has a name; the options below change single fields of it.
        """
        start = None if start_from is None else _checkpoint(start_from)
        if start is not None and config.model == usual.model:  # nothing else is asked for
            config = replace(config, model=load_tokenizer(start).config)
        train = partial(train_tokenizer, _absolute(data), out.resolve(), config, start_from=start, device=device)
        _print_scores(launch(train, out.resolve(), launcher, num_workers))

    return run_train_tokenizer


def make_train_dynamics(options: Sequence[str]) -> Function:
    from worldmodel.dynamics.presets import PRESETS
    from worldmodel.training.cli.presets import asked_preset, dynamics_training
    from worldmodel.training.launch import Launcher, launch
    from worldmodel.training.train_dynamics import DynamicsTraining, train_dynamics

    usual = dynamics_training(asked_preset(options))

    def run_train_dynamics(
        data: tuple[Path, ...],
        tokenizer: str,
        out: Path = Path("runs/dynamics"),
        start_from: str | None = None,
        launcher: Launcher = "local",
        num_workers: int = 1,
        device: str = "auto",
        preset: Annotated[str | None, tyro.conf.arg(metavar="|".join(PRESETS))] = None,
        config: Annotated[DynamicsTraining, Fields] = usual,
    ) -> None:
        """Train on recorded play coded by `tokenizer`; OUT/best and OUT/last are world models.

        Args:
            data: folder of a store, or folders of several stores of one game.
            tokenizer: folder of a tokenizer or its run; or a world model, a shipped one's name too, for that one's.
            start_from: a world model whose dynamics and heads are trained further.
            launcher: "local": here, or in the processes that torchrun started; "ray": on workers of Ray.
            num_workers: of Ray.
            preset: a model that has a name; the options below change single fields of it.
        """
        coder, start = _checkpoint(tokenizer), None if start_from is None else _checkpoint(start_from)
        if start is not None:  # its sizes, where nothing else is asked for
            from worldmodel.model import WorldModel

            earlier = WorldModel.from_pretrained(start).config
            config = replace(config, model=earlier.dynamics if config.model == usual.model else config.model)
            config = replace(config, heads=earlier.heads if config.heads == usual.heads else config.heads)
        train = partial(train_dynamics, _absolute(data), coder, out.resolve(), config, start_from=start, device=device)
        _print_scores(launch(train, out.resolve(), launcher, num_workers))

    return run_train_dynamics


def _absolute(folders: tuple[Path, ...]) -> list[Path]:
    """Absolute paths, as the workers of a training need them."""
    return [folder.resolve() for folder in folders]


def _checkpoint(name: str) -> str:
    """The same of a checkpoint's folder; a shipped name or a hub's id stays."""
    from worldmodel.checkpoint import is_there

    return str(Path(name).resolve()) if is_there(name) else name


def _print_scores(scores: dict[str, float]) -> None:
    for name, value in scores.items():
        print(f"{name:24} {value:.4f}")


def make_train_agent(_: Sequence[str]) -> Function:
    from worldmodel.training.train_agent import DreamTraining, train_agent

    def run_train_agent(
        world: tuple[str, ...],
        out: Path = Path("runs/agent"),
        device: str = "auto",
        allow_env: str | None = None,
        config: Annotated[DreamTraining, Fields] = DreamTraining(),  # noqa: B008 (frozen)
    ) -> None:
        """Train in the dream of a world, or in those of several at once. The agent is saved in OUT/agent.

        An interrupted training does not go on: start again with another --out.

        Args:
            world: a shipped name, a folder or a hub id; of several the first is that through which the agent sees the
                real game.
            allow_env: the id of the real game as the world's config has it, such as my_games:MyGame-v0, for
                --eval-every: confirms that this module may be imported. Not needed for registered games.
        """
        print(train_agent(world, out, config, device=device, allow_env=allow_env))

    return run_train_agent


def run_publish(
    world: tyro.conf.Positional[str],
    data: tyro.conf.Positional[Path],
    target: tyro.conf.Positional[Path],
    notes: str = "",
    also: tuple[Path, ...] = (),
    real: str | None = None,
    push: str | None = None,
) -> None:
    """Make of a trained world model a folder to share: half-size weights, and a card with its data, scores and recipe.

    Args:
        world: what train-dynamics left: its OUT, or the best or last in it.
        data: the store that it was trained on; it is measured on the test episodes.
        target: the folder to write.
        notes: a sentence for the card, such as what an agent reached in it.
        also: further stores that it was trained on.
        real: id of the real game: the card then tells how true the dream is where blind policies go.
        push: upload it to the Hugging Face hub under this id, OWNER/NAME.
    """
    from worldmodel.training import publish

    print(publish.publish(world, data, target, notes, also, real))
    if push is not None:
        print(publish.push(target, push))


def run_fetch_battle2(target: Path | None = None) -> None:
    """Fetch battle2.wad, check its hash, and keep it where the env finds it (or in `target`)."""
    from worldmodel.envs.vizdoom.battle2 import fetch_battle2

    print(fetch_battle2(target))


# Each gives a command's function when it is handed the options that were typed.
MAKING: dict[str, Callable[[Sequence[str]], Function]] = {
    "demo": make_demo,
    "loop": make_loop,
    "collect": lambda _: run_collect,
    "train-policy": make_train_policy,
    "train-tokenizer": make_train_tokenizer,
    "train-dynamics": make_train_dynamics,
    "train-agent": make_train_agent,
    "publish": lambda _: run_publish,
    "fetch-battle2": lambda _: run_fetch_battle2,
}

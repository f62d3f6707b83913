"""The command line: `videogen-dream COMMAND`, each command a function of the library with its arguments as options."""

import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from worldmodel.names import did_you_mean

if TYPE_CHECKING:
    from worldmodel.training.evaluate_model import ModelEvaluation

# What each command is for; its arguments are read by the function that `_load` makes.
COMMANDS = {
    "demo": "the whole path on health_gathering: collect, learn the dream, train in it, judge in the real game",
    "collect": "record play of a real game into a rollout store",
    "train-policy": "train an agent with PPO on the real game, to collect with it",
    "train-tokenizer": "train a VQ-VAE on a store",
    "train-dynamics": "train dynamics and heads on a store's codes; the result is a world model",
    "train-agent": "train an agent with PPO in a world model's dream",
    "sample": "make videos with a world model: from nothing, first frames, actions or both",
    "evaluate-model": "measure a world model on held-out play: pictures, codes, dreams, control, distances",
    "ablate": "rerun a comparison of the VideoGen papers on a store, beside the paper's figures",
    "evaluate": "play a saved agent in a real game or a dream, beside random play on the same seeds",
    "fetch-battle2": "get the battle2 map, which ViZDoom does not ship",
}


def _load(command: str, options: Sequence[str]) -> Callable[..., Any]:
    """The command's function; imports what it needs only now. The options are those that it will be given."""
    import tyro

    if command == "demo":
        from worldmodel.training.demo import DemoConfig, demo

        def run_demo(
            out: Path = Path("runs/demo"),
            fresh: bool = False,
            config: Annotated[DemoConfig, tyro.conf.arg(name="")] = DemoConfig(),  # noqa: B008 (frozen)
        ) -> None:
            """Run the whole path; goes on where an earlier run stopped. --fresh deletes the run folder first."""
            demo(out, config, fresh=fresh)

        return run_demo
    if command == "collect":
        from worldmodel.training.collect import collect
        from worldmodel.training.env_options import parse_options

        def run_collect(
            env: str,
            out: Path,
            episodes: int | None = None,
            steps: int | None = None,
            policy: str = "sticky",
            epsilon: float = 0.0,
            workers: int = 2,
            seed: int = 0,
            env_kwargs: tuple[str, ...] = (),
        ) -> None:
            """Record whole episodes until there are --episodes or --steps.

            Args:
                env: a real game's id, such as VideoGenReal-Doom.
                out: folder of the store; an earlier collection there goes on.
                policy: "random", "sticky" (random, holding each action for a while) or the folder of a saved agent.
                epsilon: share of the agent's actions that are replaced at random.
                env_kwargs: options of the env as NAME=VALUE, such as reward=health frame_skip=8.
            """
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
            )

        return run_collect
    if command == "train-policy":
        from worldmodel.agents.sb3 import train_policy
        from worldmodel.agents.sb3_config import REAL_GAME, AgentConfig

        def run_train_policy(
            env: str,
            out: Path,
            config: Annotated[AgentConfig, tyro.conf.arg(name="")] = REAL_GAME,
        ) -> None:
            """Train PPO on the real game `env`; the agent is saved in OUT/agent. It is not resumed."""
            print(train_policy(env, config.steps, out, config=config))

        return run_train_policy
    if command == "train-tokenizer":
        from worldmodel.tokenizer.presets import PRESETS as TOKENIZER_PRESETS
        from worldmodel.training.launch import Launcher, launch
        from worldmodel.training.presets import asked_preset, tokenizer_training
        from worldmodel.training.train_tokenizer import TokenizerTraining, train_tokenizer

        usual_tokenizer = tokenizer_training(asked_preset(options))

        def run_train_tokenizer(
            data: Path,
            out: Path = Path("runs/tokenizer"),
            launcher: Launcher = "local",
            num_workers: int = 1,
            device: str = "auto",
            preset: Annotated[str | None, tyro.conf.arg(metavar="|".join(TOKENIZER_PRESETS))] = None,
            config: Annotated[TokenizerTraining, tyro.conf.arg(name="")] = usual_tokenizer,
        ) -> None:
            """Train on the store `data`; OUT/best and OUT/last are tokenizers. Goes on after an interruption.

            Args:
                launcher: "local": here, or in the processes that torchrun started; "ray": on workers of Ray.
                num_workers: of Ray.
                preset: a model that has a name; the options below change single fields of it.
            """
            train = partial(train_tokenizer, data.resolve(), out.resolve(), config, device=device)
            _print_scores(launch(train, out.resolve(), launcher, num_workers))

        return run_train_tokenizer
    if command == "train-dynamics":
        from worldmodel.dynamics.presets import PRESETS as DYNAMICS_PRESETS
        from worldmodel.training.launch import Launcher, launch
        from worldmodel.training.presets import asked_preset, dynamics_training
        from worldmodel.training.train_dynamics import DynamicsTraining, train_dynamics

        usual_dynamics = dynamics_training(asked_preset(options))

        def run_train_dynamics(
            data: Path,
            tokenizer: Path,
            out: Path = Path("runs/dynamics"),
            launcher: Launcher = "local",
            num_workers: int = 1,
            device: str = "auto",
            preset: Annotated[str | None, tyro.conf.arg(metavar="|".join(DYNAMICS_PRESETS))] = None,
            config: Annotated[DynamicsTraining, tyro.conf.arg(name="")] = usual_dynamics,
        ) -> None:
            """Train on the store `data` coded by `tokenizer`; OUT/best and OUT/last are world models.

            Args:
                launcher: "local": here, or in the processes that torchrun started; "ray": on workers of Ray.
                num_workers: of Ray.
                preset: a model that has a name; the options below change single fields of it.
            """
            train = partial(train_dynamics, data.resolve(), tokenizer.resolve(), out.resolve(), config, device=device)
            _print_scores(launch(train, out.resolve(), launcher, num_workers))

        return run_train_dynamics
    if command == "train-agent":
        from worldmodel.training.train_agent import DreamTraining, train_agent

        def run_train_agent(
            world: str,
            out: Path = Path("runs/agent"),
            device: str = "auto",
            config: Annotated[DreamTraining, tyro.conf.arg(name="")] = DreamTraining(),  # noqa: B008
        ) -> None:
            """Train in the dream of `world`: a shipped name, a folder or a hub id. The agent is saved in OUT/agent.

            An interrupted training does not go on: start again with another --out.
            """
            print(train_agent(world, out, config, device=device))

        return run_train_agent
    if command == "sample":
        from worldmodel.training.sample import SampleConfig, sample_videos

        line = shlex.join(["videogen-dream", command, *options])

        def run_sample(
            model: Annotated[str, tyro.conf.Positional],
            out: Path,
            data: Path | None = None,
            frames: Path | None = None,
            actions: tuple[str, ...] = (),
            device: str = "auto",
            config: Annotated[SampleConfig, tyro.conf.arg(name="")] = SampleConfig(),  # noqa: B008 (frozen)
        ) -> None:
            """Write a grid of sampled videos as OUT (.mp4 or .gif), and how they were made as a .json beside it.

            Args:
                model: a run folder, a checkpoint folder, a shipped name or a hub id.
                data: store of play of the same game: real clips to go on from, shown beside the videos.
                frames: first frames of your own: .npy, .npz, .mp4, .gif, .png, or a folder of pictures.
                actions: names or numbers, each with *COUNT if it is repeated, such as "turn_right*4 move_forward*8";
                    or a .npy file.
                device: where the model runs; "auto" takes a GPU if there is one.
            """
            samples = sample_videos(
                model, out, config, data=data, frames=frames, actions=actions or None, device=device, command=line
            )
            print(samples.legend)

        return run_sample
    if command == "evaluate-model":
        from worldmodel.training.evaluate_model import ModelEvaluation

        def run_evaluate_model(
            run: Annotated[str, tyro.conf.Positional],
            data: Path,
            out: Path = Path("runs/evaluation"),
            i3d: Path | None = None,
            device: str = "auto",
            plots: bool = True,
            config: Annotated[ModelEvaluation, tyro.conf.arg(name="")] = ModelEvaluation(),  # noqa: B008 (frozen)
        ) -> None:
            """Measure a world model on the test episodes of a store; OUT gets report.md, report.json and plots.

            Args:
                run: a run folder, a checkpoint folder, a shipped name or a hub id.
                data: store of play of the game that the model was learned from.
                i3d: TorchScript file of an I3D network that gives logits, for FVD; without it FVD is absent.
                device: where the models run; "auto" takes a GPU if there is one.
                plots: draw PNG files too, which needs matplotlib.
            """
            _evaluate_model(run, data, out, i3d, device, plots, config)

        return run_evaluate_model
    if command == "ablate":

        def run_ablate(
            table: Annotated[str, tyro.conf.Positional],
            data: Path,
            out: Path = Path("runs/ablations"),
            preset: str = "small",
            i3d: Path | None = None,
            workers: int = 1,
            seed: int = 0,
            device: str = "auto",
        ) -> None:
            """Train and measure every variant of a table; OUT/TABLE.md is the table. Goes on after an interruption.

            Args:
                table: attention, depth, transformer, positions, latents, codes, codebooks, conditions, or all.
                data: store of play; its test episodes are measured on.
                preset: "smoke" (seconds each), "small" (minutes each on one CPU core) or "paper" (its own sizes).
                i3d: TorchScript file of an I3D network that gives logits, for FVD; without it FVD is absent.
                workers: trainings at once, each in a process with its share of the threads.
            """
            from worldmodel.training.ablations import ablate

            typed = f"videogen-dream ablate {table} --preset {preset} --data {data} --workers {workers} --seed {seed}"
            typed += "" if i3d is None else f" --i3d {i3d}"
            pages = ablate(table, data, out, preset, i3d=i3d, workers=workers, seed=seed, device=device, command=typed)
            print("\n".join(pages.values()))
            print(f"Everything is in {out}.")

        return run_ablate
    if command == "evaluate":

        def run_evaluate(
            agent: Annotated[Path, tyro.conf.Positional],
            env: str,
            episodes: int = 30,
            seed: int = 10_000,
            world: str | None = None,
            horizon: int | None = None,
            out: Path | None = None,
        ) -> None:
            """Mean return with its 95 % interval, beside random play on the same seeds.

            Args:
                agent: folder of a saved agent.
                env: id of a real game, which the agent sees as it saw its training, through its world's tokenizer; or
                    of a dream, which it sees as it is.
                world: name or folder of the agent's world, if that has moved since; of a dream, the world to dream of
                    in place of the one shipped for the id.
                horizon: steps of a dream's episode; a dream needs it, a real game has its own end.
                out: also write the numbers to this JSON file.
            """
            _evaluate(agent, env, episodes, seed, world, horizon, out)

        return run_evaluate

    def run_fetch_battle2(target: Path | None = None) -> None:
        """Fetch battle2.wad, check its hash, and keep it where the env finds it (or in `target`)."""
        from worldmodel.envs.battle2 import fetch_battle2

        print(fetch_battle2(target))

    return run_fetch_battle2


def _evaluate(
    folder: Path, env: str, episodes: int, seed: int, world: str | None, horizon: int | None, out: Path | None
) -> None:
    from dataclasses import asdict

    from worldmodel.agents.evaluate import compare_with_random, is_dream
    from worldmodel.agents.sb3_agent import load_agent
    from worldmodel.files import write_json

    agent = load_agent(folder)
    if is_dream(env):
        if horizon is None:
            raise ValueError("a dream may never end: give --horizon, e.g. --horizon 200")
        options: dict[str, Any] = {"obs": "latent" if agent.meta.view == "latent" else "rgb", "horizon": horizon}
        options |= {} if world is None else {"model": world}
    elif horizon is not None:
        raise ValueError(f"--horizon is for dreams; {env} has an end of its own")
    else:
        options = {"view": agent.view(world)}
    result = compare_with_random(agent, env, episodes, seed, **options)
    gain, half_width = result.gain
    print(f"agent:  {result.agent}\nrandom: {result.random}\ngain:   {gain:.1f} ± {half_width:.1f}")
    if out is not None:
        write_json(out, {"agent": asdict(result.agent), "random": asdict(result.random)})


def _evaluate_model(
    run: str, data: Path, out: Path, i3d: Path | None, device: str, plots: bool, config: "ModelEvaluation"
) -> None:
    from dataclasses import asdict

    from worldmodel.data import EpisodeStorage
    from worldmodel.model import WorldModel
    from worldmodel.training.evaluate_model import evaluate_model, find_world
    from worldmodel.training.evaluation_report import write_evaluation
    from worldmodel.training.plots import check_matplotlib

    if plots:
        check_matplotlib()
    model = WorldModel.from_pretrained(find_world(run), device=device)
    results = evaluate_model(model, EpisodeStorage.open(data), config, i3d)
    command = f"videogen-dream evaluate-model {run} --data {data}" + ("" if i3d is None else f" --i3d {i3d}")
    about = {"command": command, "config": asdict(config)}
    report = write_evaluation(out, {"run": about} | results, plots)
    print(report.read_text(encoding="utf-8"))
    print(f"Everything is in {out}.")


def _print_scores(scores: dict[str, float]) -> None:
    for name, value in scores.items():
        print(f"{name:24} {value:.4f}")


def _help() -> str:
    lines = [f"  {name:16} {what}" for name, what in COMMANDS.items()]
    return "\n".join(["usage: videogen-dream COMMAND [OPTIONS]   (COMMAND --help for its options)", "", *lines])


# What to do after Ctrl-C.
_GOES_ON = "run the same command again to go on from the last complete state"
_AFTER_STOP = dict.fromkeys(
    ("train-agent", "train-policy"),
    "this training does not go on: start again with another --out (OUT/agent holds the agent after its last update)",
)
_AFTER_STOP |= dict.fromkeys(("evaluate", "fetch-battle2", "sample"), "nothing was written; run the same command again")

# Options that the configs have and a command would not heed, and what to say.
_UNHEEDED = {
    "demo": dict.fromkeys(
        ("--tokenizer.loop.seed", "--dynamics.loop.seed", "--agent.agent.seed"), "--seed sets that of every stage"
    )
    | dict.fromkeys(("--tokenizer.model.data-mean", "--tokenizer.model.data-variance"), "it is measured from the data"),
    "train-tokenizer": dict.fromkeys(("--model.data-mean", "--model.data-variance"), "it is measured from the data"),
}


def _check_heeded(command: str, options: Sequence[str]) -> None:
    """ValueError for an option that would be silently ignored."""
    for option in options:
        name = option.partition("=")[0].replace("_", "-")
        if reason := _UNHEEDED.get(command, {}).get(name):
            raise ValueError(f"{command} takes no {name}: {reason}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (also of a mistake in what the user gave: 2)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if given[0] == "--version":
        from worldmodel import __version__

        print(__version__)
        return 0
    command, options = given[0], given[1:]
    if command not in COMMANDS:
        print(f"error: no command {command!r}.{did_you_mean(command, COMMANDS)}", file=sys.stderr)
        return 2
    import gymnasium
    import tyro

    from worldmodel.errors import OutsideError

    try:
        _check_heeded(command, options)
        tyro.cli(_load(command, options), prog=f"videogen-dream {command}", args=options)
    except (ValueError, TypeError, OSError, FloatingPointError, OutsideError, gymnasium.error.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nstopped; {_AFTER_STOP.get(command, _GOES_ON)}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

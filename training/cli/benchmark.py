"""Commands that fill a table by many trainings, built as those of making_commands.py are."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from worldmodel.training.cli.train import Fields, Function


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
    from worldmodel.training.ablations.run import ablate

    typed = f"videogen-dream ablate {table} --preset {preset} --data {data} --workers {workers} --seed {seed}"
    typed += "" if i3d is None else f" --i3d {i3d}"
    pages = ablate(table, data, out, preset, i3d=i3d, workers=workers, seed=seed, device=device, command=typed)
    print("\n".join(pages.values()))
    print(f"Everything is in {out}.")


def make_benchmark(options: Sequence[str]) -> Function:
    from worldmodel.training.transfer.table import Transfer, transfer

    line = shlex.join(["videogen-dream", "benchmark", *options])

    def run_benchmark(
        table: Annotated[Literal["transfer"], tyro.conf.Positional],
        out: Path = Path("runs/transfer"),
        fresh: bool = False,
        config: Annotated[Transfer, Fields] = Transfer(),  # noqa: B008 (frozen)
    ) -> None:
        """Fill a table of results; goes on after an interruption. --fresh deletes the run folder first.

        Args:
            table: transfer: random play, the best blind policy, model-free PPO and agents trained in dreams, by game.
        """
        page = transfer(out, config, fresh=fresh, command=line)
        print(page.read_text(encoding="utf-8"))
        print(f"Everything is in {out}.")

    return run_benchmark


TABLES: dict[str, Callable[[Sequence[str]], Function]] = {
    "ablate": lambda _: run_ablate,
    "benchmark": make_benchmark,
}

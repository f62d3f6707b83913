"""The whole demo over several seeds, and a table of the agents' returns in the real game.

    python benchmarks/seeds.py --seeds 0 1 2 3 4

Each seed has its own run folder (runs/seeds/N); finished ones are only read. A seed takes about a third of an
hour on two cores.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from worldmodel.files import JsonObject, read_json
from worldmodel.training.pipeline.config import DemoConfig
from worldmodel.training.pipeline.demo import demo


@dataclass(frozen=True, kw_only=True)
class Args:
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    out: Path = Path("runs/seeds")
    table_only: bool = False  # print what is there, run nothing


def row(path: Path) -> str:
    """One line of the table, from a report.json."""
    report = read_json(path, JsonObject)
    try:
        return _cells(report)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise SystemExit(
            f"{path} is of another version of the demo ({type(error).__name__}: {error}): leave its seed out of "
            "--seeds, or run it again in another --out"
        ) from error


def _cells(report: JsonObject) -> str:
    agent, random, _ = report["returns"]
    minutes = report["run"]["minutes"]
    psnr = report["open_loop"]["psnr_db"]
    cells = [
        str(report["run"]["seed"]),
        f"{agent['mean']:.0f} ± {agent['half_width']:.0f}",
        f"{random['mean']:.0f} ± {random['half_width']:.0f}",
        f"{report['tokenizer']['psnr_db']:.1f}",
        f"{report['dynamics']['bits_per_code']:.2f}",
        f"{report['dynamics']['shuffled_action_ratio']:.2f}",
        f"{report['heads']['positive_reward']['auroc']:.2f}",
        f"{psnr['dream'][7]:.1f} ({psnr['copy'][7]:.1f})",
        f"{sum(minutes.values()):.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def main(args: Args) -> None:
    rows = []
    for seed in args.seeds:
        folder = args.out / str(seed)
        if not args.table_only:
            demo(folder, replace(DemoConfig(), seed=seed))
        if (folder / "report.json").exists():
            rows.append(row(folder / "report.json"))
        else:
            print(f"seed {seed}: {folder / 'report.json'} does not exist yet")
    header = (
        "| seed | dream-trained agent | random | PSNR, dB | bits/code | shuffled actions | reward AUROC "
        "| open loop at 8 (copy), dB | minutes |"
    )
    print("\n".join([header, f"|{' --- |' * 9}", *rows]))


if __name__ == "__main__":
    main(tyro.cli(Args))

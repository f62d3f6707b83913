"""Rerun a comparison of the three papers on recorded episodes; the same as `videogen-dream ablate`.

    python examples/ablations.py runs/data depth

First record play, for instance: videogen-dream collect --env VideoGenReal-Doom --steps 20000 --out runs/data
"""

import sys

from worldmodel.training.ablations.run import ablate


def main(data: str, table: str = "depth", preset: str = "small", out: str = "runs/ablations") -> None:
    ablate(table, data, out, preset, workers=2)


if __name__ == "__main__":  # workers are fresh processes that import this file
    main(*sys.argv[1:])

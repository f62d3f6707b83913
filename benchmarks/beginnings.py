"""Cost of starting dreams by how many start together, and how often memory is requested from the system.

    python benchmarks/beginnings.py --rows 32
    GLIBC_TUNABLES=glibc.malloc.perturb=0 python benchmarks/beginnings.py --rows 32

The second line leaves glibc as it is (`worldmodel.layers.cpu.memory`); the tunable itself changes nothing.
"""

import resource
import time
from dataclasses import dataclass
from statistics import median

import torch
import tyro
from machine import describe

from worldmodel.layers.cpu.memory import keep_freed_memory
from worldmodel.model import WorldModel


@dataclass(frozen=True, kw_only=True)
class Args:
    model: str = "doom-hg"  # shipped name or folder
    rows: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)  # that begin together
    repeats: int = 30


def main(args: Args) -> None:
    world = WorldModel.from_pretrained(args.model, "cpu")
    starts = world.starts
    assert starts is not None
    print(f"model {args.model}, {starts.codes.shape[1]} given steps; freed memory kept: {keep_freed_memory()}\n")
    print("| rows | ms | ms per row | page faults |\n|---|---|---|---|")
    for rows in args.rows:
        chosen = torch.arange(rows) % len(starts.codes)
        given = (starts.codes[chosen], starts.actions[chosen], starts.signals[chosen, -1])
        times, faults = [], []
        for _ in range(args.repeats):
            before, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
            world.start_codes(*given)
            times.append(1000 * (time.perf_counter() - start))
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        print(f"| {rows} | {median(times):.1f} | {median(times) / rows:.2f} | {median(faults):.0f} |", flush=True)
    describe("cpu")  # last: its large products would change what glibc keeps by itself


if __name__ == "__main__":
    main(tyro.cli(Args))

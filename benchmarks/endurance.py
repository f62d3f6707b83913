"""Do long dreams stay stable? Memory, speed and values over very many steps.

    python benchmarks/endurance.py --model doom-hg --steps 200000 --batch 64

`--model narrow` is a world of four tokens and one narrow layer with random weights, whose 200,000 calls take minutes
instead of hours; its dreams end by chance. `--steps` counts calls of `step`, each of all rows. Rows end and restart all
the time, as in training. Prints a line per tenth, and fails if the resident memory after the first tenth grows by more
than 5 %, if a number is not finite, or if the last tenth is slower than the second by more than 10 % of the median
step.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import tyro
from dream import random_world

from worldmodel.dynamics import GPTConfig
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.tokenizer import CodebookConfig, VQVAEConfig

SMALL = VQVAEConfig(
    height=16, width=16, stage_widths=(8, 8, 16), codebook=CodebookConfig(num_codes=128, num_slices=1, code_dim=8)
)
NARROW = GPTConfig(layers=1, width=32, heads=2, code_head_width=32)


@dataclass(frozen=True, kw_only=True)
class Args:
    model: str = "doom-hg"  # shipped name, folder, or "narrow"
    steps: int = 200_000
    batch: int = 64
    obs: str = "latent"
    horizon: int = 100


def resident_mib() -> float:
    """Memory of this process in MiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main(args: Args) -> int:
    narrow = args.model == "narrow"
    model = random_world("cpu", tokenizer=SMALL, dynamics=NARROW) if narrow else args.model
    ends_by = (lambda step: step.codes[:, 0, 0, 0] == 0) if narrow else None  # one of 128 codes
    envs = DreamVectorEnv(args.batch, model, args.obs, horizon=args.horizon, terminate_when=ends_by)
    rng = np.random.default_rng(0)
    envs.reset(seed=0)
    part = max(args.steps // 10, 1)
    memory, medians, ends, finite = [], [], 0, True
    print("| steps | env-steps/s | median ms per step | resident MiB | dreams ended |\n|---|---|---|---|---|")
    for tenth in range(10):
        times = []
        for _ in range(part):
            actions = rng.integers(envs.single_action_space.n, size=args.batch)
            start = time.perf_counter()
            observations, rewards, terminations, truncations, infos = envs.step(actions)
            times.append(time.perf_counter() - start)
            ends += int((terminations | truncations).sum())
            finite &= bool(np.isfinite(rewards).all() and np.isfinite(infos["nll"]).all())
            finite &= bool(np.isfinite(observations).all())
        memory.append(resident_mib())
        medians.append(1000 * median(times))
        rate = part * args.batch / sum(times)
        print(f"| {(tenth + 1) * part:,} | {rate:.0f} | {medians[-1]:.2f} | {memory[-1]:.1f} | {ends:,} |", flush=True)
    growth, slowing = max(memory[1:]) / memory[0] - 1, medians[-1] / medians[1] - 1
    print(f"\nmemory grew by {growth:.1%} after the first tenth; the median step slowed by {slowing:.1%}")
    print("every number was finite" if finite else "NUMBERS THAT ARE NOT FINITE CAME UP")
    return int(growth > 0.05 or slowing > 0.10 or not finite)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args)))

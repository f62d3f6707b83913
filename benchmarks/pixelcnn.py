"""PixelCNN priors: codes/s of the sampler that caches rows and of a whole pass per code; memory of a training step.

    OMP_NUM_THREADS=1 python benchmarks/pixelcnn.py --preset pixelcnn-small
    OMP_NUM_THREADS=1 python benchmarks/pixelcnn.py --preset pixelcnn-paper --passes 1
    OMP_NUM_THREADS=1 python benchmarks/pixelcnn.py --preset pixelcnn-paper --memory

Speed: one row in the middle of the last slice of the top, and of a half-step of the bottom, in float32. The plain
sampler takes a pass of the prior for each code of the row; the conditions of the priors are computed before, for both.
Seconds are processor time, on which other work on the machine has little effect. The weights are random.

Memory: the peak of two training steps of the top prior at batch 1, with AdamW, above what the imports take.
"""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import tyro
from machine import describe

from worldmodel.data import ActionSpec
from worldmodel.dynamics import PixelCNNConfig, PixelCNNPair, Preset, Sampling, preset
from worldmodel.dynamics.pixelcnn.layout import HALVES, Levels
from worldmodel.dynamics.pixelcnn.pair import TopPrior
from worldmodel.dynamics.pixelcnn.prior import Prior
from worldmodel.dynamics.pixelcnn.sampler import Before, RowSampler
from worldmodel.training.optimizers import make_optimizers


@dataclass(frozen=True, kw_only=True)
class Args:
    preset: str = "pixelcnn-small"
    batch: int = 8
    passes: int = 5  # of the whole prior, whose seconds are averaged
    memory: bool = False  # instead of speed


def seconds_of(run: Callable[[], object], repeats: int) -> float:
    begin = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - begin) / repeats


@torch.inference_mode()
def speed(name: str, prior: Prior, slices: int, batch: int, passes: int) -> None:
    height, width = prior.grid
    condition = torch.randn(batch, prior.config.width, slices, height, width)
    codes = torch.randint(prior.codes.num_embeddings, (batch, slices, height, width))
    noise = torch.rand(batch, height * width)
    sampler = RowSampler(prior, condition, Sampling())
    if slices > 1:  # of the slice before; what is in it does not change the time
        sampler.before = Before(*sampler.empty())
    maps = sampler.empty()
    sampler.draw_row(maps, noise, slices - 1, height // 2)  # warm up
    kept = seconds_of(lambda: sampler.draw_row(maps, noise, slices - 1, height // 2), 1 + passes)
    plain = width * seconds_of(lambda: prior(codes, condition), passes)
    print(
        f"{name}, {slices} x {height} x {width}, batch {batch}: a row of {width} codes takes {kept:.3f} s with rows "
        f"kept, {plain:.1f} s by whole passes: {plain / kept:.0f} times; {batch * width / kept:.0f} codes/s"
    )


def peak() -> float:
    """GB of the process at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def memory(chosen: Preset, before: float) -> None:
    """Training steps of the top prior alone: forward, backward, AdamW."""
    config, (steps, height, width) = chosen.model, chosen.latents
    assert isinstance(config, PixelCNNConfig)
    top = TopPrior(config, (height, width), chosen.num_codes, chosen.code_dim // chosen.num_slices)
    optimizers = make_optimizers(top, 3e-4, 0.0, 0.999)
    given = Levels(torch.zeros(1, 1, height, width).long(), torch.zeros(1, HALVES, 2 * height, 2 * width).long())
    codes = torch.randint(chosen.num_codes, (1, steps - 1, height, width))
    action_vectors = torch.randn(1, steps - 1, config.condition_width)
    for _ in range(2):
        top.prior.nats(codes, top.condition(given, action_vectors))[0].mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    print(f"training step of the top prior, batch 1: peak {peak() - before:.2f} GB above the imports' {before:.2f} GB")


def main(args: Args) -> None:
    before = peak()
    if not args.memory:
        describe("cpu")
    torch.manual_seed(0)
    chosen = preset(args.preset)
    if args.memory:
        memory(chosen, before)
        return
    pair = chosen.build(ActionSpec(kind="discrete", n=4))
    assert isinstance(pair, PixelCNNPair)
    pair.eval().requires_grad_(False)
    speed("top", pair.top.prior, chosen.latents[0] - 1, args.batch, args.passes)
    speed("bottom", pair.bottom.prior, 1, args.batch, args.passes)


if __name__ == "__main__":
    main(tyro.cli(Args))

"""Toy priors with random weights everywhere, also where training begins with zeros.

Letters: B batch, T steps, t slices, h w rows and columns, L = t*h*w positions, D width.
"""

import torch
from torch import Tensor, nn

from worldmodel.data import ActionSpec
from worldmodel.dynamics.code_head import CodeHead
from worldmodel.dynamics.pixelcnn.config import PixelCNNConfig
from worldmodel.dynamics.pixelcnn.gated import bottom_shape, top_shape
from worldmodel.dynamics.pixelcnn.pair import PixelCNNPair
from worldmodel.dynamics.pixelcnn.prior import Prior
from worldmodel.dynamics.sampling import Sampling

ACTION = ActionSpec(kind="discrete", n=3, names=("noop", "left", "right"))
SMALL = {"layers": 2, "width": 12, "heads": 2, "attention_every": 1, "condition_layers": 1, "condition_width": 4}


def randomise(module: nn.Module) -> None:
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)


def make_pair(seed: int = 0, grid: tuple[int, int] = (2, 2), num_codes: int = 4, **changes) -> PixelCNNPair:
    """Untrained priors in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pair = PixelCNNPair(PixelCNNConfig(**SMALL | changes), grid, num_codes, 9, 9 * 4, ACTION)
        randomise(pair)
    return pair.eval().requires_grad_(False)


def make_prior(level: str, slices: int, grid: tuple[int, int], num_codes: int = 4, seed: int = 0, **changes) -> Prior:
    """A prior of "top" or "bottom" alone."""
    config = PixelCNNConfig(**SMALL | changes)
    shape = top_shape(config.reach, config.past == "full") if level == "top" else bottom_shape(config.reach)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        prior = Prior(config, shape, slices, grid, num_codes, 4)
        randomise(prior)
    return prior.eval().requires_grad_(False)


def make_codes(shape: tuple[int, ...], num_codes: int = 4, seed: int = 0) -> Tensor:
    return torch.randint(num_codes, shape, generator=torch.Generator().manual_seed(seed))


def condition_of(prior: Prior, rows: int, slices: int, seed: int = 0) -> Tensor:
    """(rows, D, t, h, w), the same in each row."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, prior.config.width, slices, *prior.grid, generator=generator).expand(rows, -1, -1, -1, -1)


@torch.inference_mode()
def influence(prior: Prior, slices: int) -> Tensor:
    """(L, L) bool: whether changing the code at the first position changes the output at the second."""
    size = slices * prior.grid[0] * prior.grid[1]
    codes = make_codes((1, size), prior.codes.num_embeddings).repeat(size + 1, 1)
    codes[range(size), range(size)] += 1  # the last version differs nowhere
    codes = (codes % prior.codes.num_embeddings).view(size + 1, slices, *prior.grid)
    outputs = prior(codes, condition_of(prior, size + 1, slices)).flatten(1, 3)
    return (outputs[:-1] != outputs[-1]).any(-1)


@torch.inference_mode()
def draw_naively(prior: Prior, condition: Tensor, noise: Tensor, options: Sampling) -> Tensor:
    """The codes (n, t, h, w) drawn with noise (n, t, S), by a pass of the whole network for every code."""
    codes = torch.zeros(*noise.shape[:2], *prior.grid, dtype=torch.int64)
    for time in range(codes.shape[1]):
        for place in range(noise.shape[2]):
            y, x = divmod(place, prior.grid[1])
            outputs = prior(codes.repeat(len(condition) // len(codes), 1, 1, 1), condition)[:, time, y, x]
            assert isinstance(prior.head, CodeHead)
            drawn = prior.head.sample(outputs[:, None], noise[:, time, place, None, None], options)
            codes[:, time, y, x] = drawn.codes[:, 0, 0]
    return codes

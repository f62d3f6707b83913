"""Goals given as a picture: reward functions for dream envs and planners.

Each is called with a `Transition` and returns minus a distance for each step, and measures real pictures too.

Letters: B steps or pictures, H W C pixels, h w latent grid, E features of a code vector, K colours, P pixels of an
object, R how far they reach from its centre.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.envs.transition import Transition
from worldmodel.model import WorldModel

_DIFFERS = 30  # of 765: pixels of two pictures that differ more show that something moved
_MISMATCH = 4000.0  # squared distance of two colours beyond which it does not matter how far they are apart
_SHARPNESS = 20.0  # squared colour distance by which a better place for the object must win
_LOST = 2800.0  # mismatch from which on an object counts as not seen: as far away as at the start
_COLOURS = 4  # K
_FEWEST = 3  # pixels that an object must have
_PIXELS = 32  # of an object that are looked at, about: the time goes with their number


class GoalPixels:
    """Minus the mean squared distance of a step's last frame to the goal, on the [0, 1] scale.

    Args:
        goal: (H, W, C) uint8.
        start: the picture before anything was done, (H, W, C) uint8. With it only those pixels count that differ
            between start and goal, so that a hand elsewhere in the picture costs nothing.
    """

    def __init__(self, goal: Tensor, start: Tensor | None = None) -> None:
        goal = _picture(goal, "goal")
        self._goal = goal.float() / 255
        self._counts = None if start is None else _differing(_picture(start, "start", goal), goal).float()

    def __call__(self, step: Transition) -> Tensor:
        return -self.distance(step.frames()[:, -1])

    def distance(self, pictures: Tensor) -> Tensor:
        """Of pictures (B, H, W, C) uint8: (B,) float32."""
        goal = self._goal.to(pictures.device)
        error = (pictures.float() / 255 - goal).square().mean(-1)
        return error.mean((1, 2)) if self._counts is None else _mean_where(error, self._counts)


class GoalLatents:
    """Minus the mean squared distance of a step's code vectors to those of the goal: nothing is decoded.

    Args:
        world: whose tokenizer codes the goal.
        goal, start: as for `GoalPixels`; with a start only those cells of the grid count that differ.
    """

    def __init__(self, world: WorldModel, goal: Tensor, start: Tensor | None = None) -> None:
        goal = _picture(goal, "goal")
        self._world = world
        self._goal = self._latents(goal[None])[0]
        self._counts = None
        if start is not None:
            begin = self._latents(_picture(start, "start", goal)[None])[0]
            self._counts = (begin != self._goal).any(-1).float()

    def __call__(self, step: Transition) -> Tensor:
        return -self._distance(step.latents())

    def distance(self, pictures: Tensor) -> Tensor:
        """Of pictures (B, H, W, C) uint8, each taken for all frames of a step: (B,) float32."""
        return self._distance(self._latents(pictures))

    def _distance(self, latents: Tensor) -> Tensor:
        error = (latents - self._goal).square().mean(-1)
        return error.mean((1, 2)) if self._counts is None else _mean_where(error, self._counts)

    @torch.inference_mode()
    def _latents(self, pictures: Tensor) -> Tensor:
        """(B, H, W, C) uint8 -> (B, h, w, E)."""
        tokenizer = self._world.tokenizer
        frames = pictures.to(self._world.device)[:, None].repeat_interleave(tokenizer.frames_per_step, dim=1)
        return tokenizer.code_vectors(tokenizer.encode(frames[:, None])[:, 0])


class GoalObject:
    """Minus the distance, in pixels, of one object from where the goal shows it.

    The object is what looks unlike the floor where start and goal differ. In a step's last frame it is taken to be
    where its colours fit best, whatever else is in the picture: distances of whole pictures mostly measure where the
    hand is. Where they fit nowhere it counts as being where it was at the start, so that no plan gains by losing it.

    Args:
        goal, start: (H, W, C) uint8, two pictures that differ by the place of one object.

    Source: a cost by registration to the goal image, Visual Foresight (arXiv:1812.00568). Differs: one object, found by
    its colours, instead of learned flow.
    """

    def __init__(self, goal: Tensor, start: Tensor) -> None:
        goal = _picture(goal, "goal")
        start = _picture(start, "start", goal)
        differs = _differing(start, goal)
        before, after = start.float(), goal.float()
        near = F.max_pool2d(differs[None].float(), 3, stride=1, padding=1)[0].bool()  # more floor than object
        floor = torch.cat((before[near], after[near])).median(0).values if near.any() else after[0, 0]
        shows = differs & ((after - floor).square().sum(-1) > (before - floor).square().sum(-1))
        places = shows.nonzero()
        if len(places) < _FEWEST:
            raise ValueError(
                f"start and goal must differ by the place of an object of at least {_FEWEST} pixels, got {len(places)}"
            )
        centre = places.float().mean(0)
        around = places - centre.round().long()
        self._reach = int(around.abs().max())
        self._goal = centre
        self._colours, self._pixels = _template(after[shows], around)
        self._lost = 0.0  # distance of an object that is not seen
        self._lost = self.distance(start[None]).item()

    def __call__(self, step: Transition) -> Tensor:
        return -self.distance(step.frames()[:, -1])

    @torch.inference_mode()
    def distance(self, pictures: Tensor) -> Tensor:
        """Of pictures (B, H, W, C) uint8: (B,) float32, pixels."""
        goal, device = self._goal.to(pictures.device), pictures.device
        height, width = pictures.shape[1:3]
        fits = F.pad(-self._mismatch(pictures).flatten(1), (0, 1), value=-_LOST) / _SHARPNESS
        weight = fits.softmax(1)
        places, lost = weight[:, :-1].unflatten(1, (height, width)), weight[:, -1]
        down, along = torch.arange(height, device=device), torch.arange(width, device=device)
        away = torch.hypot((down - goal[0])[:, None].expand(-1, width), (along - goal[1]).expand(height, -1))
        return (places * away).sum((1, 2)) + lost * self._lost

    def _mismatch(self, pictures: Tensor) -> Tensor:
        """How badly the object fits at each place, (B, H, W): mean over its pixels of a bounded squared distance."""
        (height, width), reach = pictures.shape[1:3], self._reach
        colours, image = self._colours.to(pictures.device), pictures.float()
        errors = (image.square().sum(-1, keepdim=True) - 2 * image @ colours.T + colours.square().sum(1)).movedim(-1, 0)
        padded = F.pad(errors.clamp(0, _MISMATCH), (reach,) * 4, value=_MISMATCH)  # (K, B, H + 2R, W + 2R)
        total = torch.zeros(pictures.shape[:3], device=pictures.device)
        for colour, down, along in self._pixels:  # a convolution of one channel would take five times as long
            total += padded[colour, :, reach + down :, reach + along :][:, :height, :width]
        return total / len(self._pixels)


def _template(colours: Tensor, around: Tensor) -> tuple[Tensor, list[tuple[int, int, int]]]:
    """An object's pixels (P, C) at (P, 2) around its centre -> K colours (K, C), and which of them is where."""
    groups = colours.sum(-1).argsort().chunk(_COLOURS)  # by brightness: these objects have one colour, lit and shaded
    pixels = [(k, *place) for k, group in enumerate(groups) for place in around[group].tolist()]
    return torch.stack([colours[group].mean(0) for group in groups]), pixels[:: 1 + len(pixels) // _PIXELS]


def _picture(given: Tensor, name: str, like: Tensor | None = None) -> Tensor:
    picture = torch.as_tensor(given)
    if picture.ndim != 3 or picture.dtype != torch.uint8:
        raise ValueError(
            f"{name} must be one picture (H, W, C) uint8, got {tuple(picture.shape)} {str(picture.dtype)[6:]}"
        )
    if like is not None and picture.shape != like.shape:
        raise ValueError(f"{name} must be as large as the goal, {tuple(like.shape)}, got {tuple(picture.shape)}")
    return picture


def _differing(start: Tensor, goal: Tensor) -> Tensor:
    """Pixels that show that something moved, (H, W) bool."""
    return (start.int() - goal.int()).abs().sum(-1) > _DIFFERS


def _mean_where(error: Tensor, counts: Tensor) -> Tensor:
    """Mean of (B, h, w) over the places that count, (B,)."""
    counts = counts.to(error.device)
    return (error * counts).sum((1, 2)) / counts.sum().clamp_min(1)

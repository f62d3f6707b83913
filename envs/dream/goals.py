"""Goals given as an image, or as values of game variables: reward functions for dream envs and planners.

Each is called with a `Transition` and returns the negative distance of each step; image goals also measure real frames.

Letters: B steps or images, H W C pixels, h w latent grid, E features of a code vector, K colours, P pixels of an
object, R how far they reach from its centre.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.envs.dream.rules import Transition
from worldmodel.errors import did_you_mean
from worldmodel.layers.defaults import own_defaults
from worldmodel.model import WorldModel

_DIFFERS = 30  # of 765: pixels of two images that differ by more count as moved
_MISMATCH = 4000.0  # squared distance of two colours is clipped to this
_SHARPNESS = 20.0  # squared colour distance by which the best position of the object must win
_LOST = 2200.0  # mismatch from which on an object counts as not seen
_COLOURS = 4  # K
_FEWEST = 3  # pixels that an object must have
_PIXELS = 32  # about how many pixels of an object are compared; the time is proportional to it


class GoalPixels:
    """Minus the mean squared distance of a step's last frame to the goal, on the [0, 1] scale.

    Args:
        goal: (H, W, C) uint8.
        start: the initial image, (H, W, C) uint8. If given, only pixels that differ between start and goal count, so
            that a hand elsewhere in the image costs nothing.
    """

    @own_defaults
    def __init__(self, goal: Tensor, start: Tensor | None = None) -> None:
        goal = _picture(goal, "goal")
        self._goal = goal.float() / 255
        self._counts = None
        if start is not None:
            self._counts = _that_count(_differing(_picture(start, "start", goal), goal))

    def __call__(self, step: Transition) -> Tensor:
        return -self.distance(step.frames()[:, -1])

    @own_defaults
    def distance(self, pictures: Tensor) -> Tensor:
        """Distances of images (B, H, W, C) uint8: (B,) float32."""
        _check_size(pictures, self._goal)
        goal = self._goal.to(pictures.device)
        return _mean_where((pictures.float() / 255 - goal).square().mean(-1), self._counts)


class GoalLatents:
    """Minus the mean squared distance of a step's code vectors to those of the goal; decodes nothing.

    Args:
        world: the model whose tokenizer encodes the goal.
        goal, start: as for `GoalPixels`; with a start only the grid cells that differ count.
    """

    @own_defaults
    def __init__(self, world: WorldModel, goal: Tensor, start: Tensor | None = None) -> None:
        goal = _picture(goal, "goal")
        wanted = (world.height, world.width, world.config.tokenizer.channels)
        if goal.shape != wanted:
            raise ValueError(f"goal must be as large as the world's frames, {wanted}, got {tuple(goal.shape)}")
        self._world = world
        self._goal = self._latents(goal[None])[0]
        self._counts = None
        if start is not None:
            begin = self._latents(_picture(start, "start", goal)[None])[0]
            self._counts = _that_count((begin != self._goal).any(-1))

    def __call__(self, step: Transition) -> Tensor:
        return -self._distance(step.latents())

    @own_defaults
    def distance(self, pictures: Tensor) -> Tensor:
        """Distances of images (B, H, W, C) uint8, each used for all frames of a step: (B,) float32."""
        return self._distance(self._latents(pictures))

    def _distance(self, latents: Tensor) -> Tensor:
        return _mean_where((latents - self._goal).square().mean(-1), self._counts)

    @torch.inference_mode()
    def _latents(self, pictures: Tensor) -> Tensor:
        """(B, H, W, C) uint8 -> (B, h, w, E)."""
        tokenizer = self._world.tokenizer
        frames = pictures.to(self._world.device)[:, None].repeat_interleave(tokenizer.frames_per_step, dim=1)
        return tokenizer.lookup(tokenizer.encode(frames[:, None])[:, 0])


class GoalSignals:
    """Minus the distance of some game variables from their target values; decodes nothing.

    Args:
        wanted: values by the signals' names, such as {"OBJECT0_X": 0.1, "OBJECT0_Y": -0.05}.
    """

    def __init__(self, wanted: Mapping[str, float]) -> None:
        if not wanted:
            raise ValueError("wanted must name at least one signal and its value")
        self._wanted = dict(wanted)

    def __call__(self, step: Transition) -> Tensor:
        for name in self._wanted:
            if name not in step.signals:
                raise ValueError(f"this dream has no signal {name!r}.{did_you_mean(name, step.signals)}")
        errors = [step.signals[name] - value for name, value in self._wanted.items()]
        return -torch.stack(errors, dim=-1).norm(dim=-1)


class GoalObject:
    """Minus the distance, in pixels, of one object from its position in the goal.

    The object is what differs from the floor where start and goal differ. In a step's last frame it is located where
    its colours fit best, whatever else the image shows: distances of whole images mostly measure where the hand is.
    Positions are excluded where something similar was in the last image in which the object was seen for certain, the
    start or one given to `follow`. If it is not found, hidden by the hand or lost by the dream, its last known position
    counts: no plan gains or loses by hiding it.

    Args:
        goal, start: (H, W, C) uint8, two images that differ in the position of one object.
        within: pixels, search radius around the position where it was last seen; None: anywhere.

    Attributes:
        goal_place, place: (2,) float32, row and column of the object's centre in the goal, and in the last image in
            which it was seen.
        seen: whether it has been seen, in the start or later. Until then `place` is NaN, and its distance is the
            largest that the image allows.

    Source: a cost by registration to the goal image, Visual Foresight (arXiv:1812.00568). Differs: one object, found by
    its colours, instead of learned flow.
    """

    @own_defaults
    def __init__(self, goal: Tensor, start: Tensor, within: float | None = None) -> None:
        if within is not None and not within > 0:
            raise ValueError(f"within must be above 0 pixels, or None, got {within}")
        goal = _picture(goal, "goal")
        start = _picture(start, "start", goal)
        differs = _differing(start, goal)
        before, after = start.float(), goal.float()
        near = F.max_pool2d(differs[None].float(), 3, stride=1, padding=1)[0].bool()  # more floor than object
        floor = torch.cat((before[near], after[near])).median(0).values if near.any() else after[0, 0]
        later = (after - floor).square().sum(-1) > (before - floor).square().sum(-1)
        shows, showed = differs & later, differs & ~later
        places = shows.nonzero()
        if len(places) < _FEWEST:
            raise ValueError(
                f"start and goal must differ by an object of at least {_FEWEST} pixels that moved, got {len(places)}"
            )
        self.goal_place = places.float().mean(0)
        around = places - self.goal_place.round().long()
        self._reach = int(around.abs().max())
        self._colours, self._pixels = _template(after[shows], around)
        self._within = within
        self.seen = int(showed.sum()) >= _FEWEST
        self.place = showed.nonzero().float().mean(0) if self.seen else torch.full((2,), torch.nan)
        self._like = goal
        self._taken = torch.zeros_like(differs)
        self._taken = self._like_it(start)

    def __call__(self, step: Transition) -> Tensor:
        return -self.distance(step.frames()[:, -1])

    @own_defaults
    def follow(self, picture: Tensor) -> bool:
        """Update the object's position from a real image (H, W, C) uint8; returns whether it was found."""
        picture = _picture(picture, "picture", self._like)
        places, lost = self._weights(picture[None])
        if lost >= 0.5:
            return False
        self.seen = True
        shares = places[0] / places.sum()
        self.place = torch.stack([(shares.sum(1 - axis) * torch.arange(shares.shape[axis])).sum() for axis in (0, 1)])
        self._taken = self._like_it(picture)
        return True

    @own_defaults
    @torch.inference_mode()
    def distance(self, pictures: Tensor) -> Tensor:
        """Distances in images (B, H, W, C) uint8: (B,) float32, pixels."""
        _check_size(pictures, self._like)
        places, lost = self._weights(pictures)
        away = _away(places.shape[1:], self.goal_place).to(pictures.device)
        unseen = torch.dist(self.place, self.goal_place) if self.seen else away.max()
        return (places * away).sum((1, 2)) + lost * unseen.to(lost.device)

    def _weights(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Where the object is in images (B, H, W, C): weights of all positions (B, H, W), and of not found (B,)."""
        fits = -self._mismatch(pictures)
        sought = ~self._taken
        if self._within is not None and self.seen:
            sought &= _away(fits.shape[1:], self.place) <= self._within
        fits.masked_fill_(~sought.to(fits.device), -torch.inf)
        weights = (F.pad(fits.flatten(1), (0, 1), value=-_LOST) / _SHARPNESS).softmax(1)
        return weights[:, :-1].view_as(fits), weights[:, -1]

    def _like_it(self, picture: Tensor) -> Tensor:
        """Positions of things that look like the object but are not, (H, W) bool."""
        alike = self._mismatch(picture[None])[0] < _LOST
        return alike & (_away(alike.shape, self.place) > self._reach + 1)

    def _mismatch(self, pictures: Tensor) -> Tensor:
        """How badly the object fits at each position, (B, H, W): mean over its pixels of a clipped squared distance."""
        (height, width), reach = pictures.shape[1:3], self._reach
        colours, image = self._colours.to(pictures.device), pictures.float()
        errors = (image.square().sum(-1, keepdim=True) - 2 * image @ colours.T + colours.square().sum(1)).movedim(-1, 0)
        padded = F.pad(errors.clamp(0, _MISMATCH), (reach,) * 4, value=_MISMATCH)  # (K, B, H + 2R, W + 2R)
        total = torch.zeros(pictures.shape[:3], device=pictures.device)
        for colour, down, along in self._pixels:  # a convolution of one channel would take five times as long
            total += padded[colour, :, reach + down :, reach + along :][:, :height, :width]
        return total / len(self._pixels)


def _template(colours: Tensor, around: Tensor) -> tuple[Tensor, list[tuple[int, int, int]]]:
    """An object's pixels (P, C) at offsets (P, 2) -> K colours (K, C), and pixels as (colour, row, column)."""
    groups = colours.sum(-1).argsort().chunk(_COLOURS)  # by brightness: these objects have one colour, lit and shaded
    pixels = [(k, *place) for k, group in enumerate(groups) for place in around[group].tolist()]
    return torch.stack([colours[group].mean(0) for group in groups]), pixels[:: 1 + len(pixels) // _PIXELS]


def _picture(given: Tensor, name: str, like: Tensor | None = None) -> Tensor:
    picture = torch.as_tensor(given)
    if picture.ndim != 3 or picture.dtype != torch.uint8:
        raise ValueError(
            f"{name} must be one image (H, W, C) uint8, got {tuple(picture.shape)} {str(picture.dtype)[6:]}"
        )
    if like is not None and picture.shape != like.shape:
        raise ValueError(f"{name} must be as large as the goal, {tuple(like.shape)}, got {tuple(picture.shape)}")
    return picture.cpu()


def _check_size(pictures: Tensor, goal: Tensor) -> None:
    """ValueError unless images (B, H, W, C) have the goal's size; otherwise they would be broadcast."""
    if pictures.shape[1:] != goal.shape:
        raise ValueError(
            f"the goal is an image {tuple(goal.shape)}, the frames are {tuple(pictures.shape[1:])}: give a goal of the "
            "size and number of channels of the world's frames"
        )


def _that_count(differ: Tensor) -> Tensor:
    """Where start and goal differ, as float32; ValueError if nowhere, since every distance would be 0."""
    if not differ.any():
        raise ValueError("start and goal must differ, but are the same; omit start to compare whole images")
    return differ.float()


def _differing(start: Tensor, goal: Tensor) -> Tensor:
    """Pixels where something moved, (H, W) bool."""
    return (start.int() - goal.int()).abs().sum(-1) > _DIFFERS


def _away(size: Sequence[int], place: Tensor) -> Tensor:
    """Distance of every pixel of an image from one position, (H, W)."""
    down, along = (torch.arange(length) - at for length, at in zip(size, place, strict=True))
    return torch.hypot(down[:, None].expand(*size), along.expand(*size))


def _mean_where(error: Tensor, counts: Tensor | None) -> Tensor:
    """Mean of (B, h, w) over the positions that count, (B,); None: all of them."""
    if counts is None:
        return error.mean((1, 2))
    counts = counts.to(error.device)
    return (error * counts).sum((1, 2)) / counts.sum().clamp_min(1)

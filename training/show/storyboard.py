"""A storyboard: lanes of a story that can be looked at in a notebook, or written as a picture or a film.

Letters: N images, H W pixels.
"""

import base64
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.files import check_output
from worldmodel.media.write import FILM_ENDINGS, write_image, write_video
from worldmodel.training.show.film import draw_film
from worldmodel.training.show.lanes import Lane, Story
from worldmodel.training.show.sheet import draw_sheet

SHEET = {"columns": 10, "scale": 2}
FILM = {"columns": 4, "scale": 4}


class Film:
    """Images in time; a notebook plays them."""

    def __init__(self, frames: NDArray[np.uint8], fps: float) -> None:
        self.frames, self.fps = frames, fps  # (N, H, W, 3); images per second

    def save(self, path: str | Path) -> Path:
        """Write .mp4, .gif or .webp."""
        path = Path(path)
        if path.suffix not in FILM_ENDINGS:
            raise ValueError(f"films are written as {', '.join(FILM_ENDINGS)}, got {path.name!r}")
        (path,) = write_video(path, self.frames, self.fps)
        return path

    def _repr_html_(self) -> str:
        with tempfile.TemporaryDirectory(prefix="videogen-film-") as folder:
            film = base64.b64encode(self.save(Path(folder) / "film.mp4").read_bytes()).decode()
        source = f"data:video/mp4;base64,{film}"
        return f'<video controls autoplay loop muted playsinline style="max-width: 100%" src="{source}"></video>'


class Storyboard:
    """What `rollout`, `futures`, `same_actions` and `players` return; a notebook shows it as a sheet.

    `story` has the frames, rewards, surprise and actions of each lane as arrays.
    """

    def __init__(self, story: Story) -> None:
        self.story = story

    @property
    def lanes(self) -> tuple[Lane, ...]:
        return self.story.lanes

    def sheet(self, columns: int = SHEET["columns"], scale: int = SHEET["scale"]) -> NDArray[np.uint8]:
        """(H, W, 3): a row for each lane, and at most `columns` steps at equal distances.

        Args:
            scale: screen pixels per pixel.
        """
        _check(columns, scale)
        return draw_sheet(self.story, columns, scale)

    def image(self, columns: int = SHEET["columns"], scale: int = SHEET["scale"]) -> Any:
        """The sheet as a Pillow image."""
        from PIL import Image

        return Image.fromarray(self.sheet(columns, scale))

    def film(self, columns: int = FILM["columns"], scale: int = FILM["scale"], fps: float | None = None) -> Film:
        """A panel for each lane, at most `columns` in a row.

        Args:
            scale: screen pixels per pixel.
            fps: images per second; None: as fast as the game.
        """
        _check(columns, scale)
        per_step = self.lanes[0].frames.shape[1]
        return Film(draw_film(self.story, columns, scale), fps or self.story.steps_per_second * per_step)

    def save(self, path: str | Path, **layout: Any) -> Path:
        """Write the sheet as .png, or the film as .mp4, .gif or .webp.

        Args:
            layout: arguments of `sheet` or `film`.
        """
        path = check_suffix(path)
        if path.suffix != ".png":
            return self.film(**layout).save(path)
        write_image(path, self.sheet(**layout))
        return path

    def __str__(self) -> str:
        lines = [self.story.title]
        for lane in self.lanes:
            steps = f"{len(lane.frames)} steps{', ' + lane.ended if lane.ended else ''}"
            sums = [f"{name} {np.nanmean(values):.3g} a step" for name, values in lane.curves.items()]
            lines.append(f"{lane.label.replace(chr(10), ' ')}: {', '.join([steps, *sums])}")
        return "\n".join(lines)

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.image().save(stream, "PNG")
        return stream.getvalue()


def check_suffix(path: str | Path) -> Path:
    """Path of a picture or film to write; ValueError if its ending is unknown, OSError if it cannot be written."""
    path = Path(path)
    if path.suffix not in (".png", *FILM_ENDINGS):
        raise ValueError(f"the ending decides: .png is a sheet, {', '.join(FILM_ENDINGS)} are films; got {path.name!r}")
    check_output(path)
    return path


def _check(columns: int, scale: int) -> None:
    for name, value in (("columns", columns), ("scale", scale)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
